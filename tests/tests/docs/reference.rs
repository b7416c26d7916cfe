//! Pages of the reference: what the programs themselves say.

use super::generated::compare;
use std::fmt::Write;
use std::process::Command;
use taskyard_tests::{Yard, ours};

const WRITES: &str = "a text takes everything";

#[test]
fn page_of_commands_is_what_the_programs_say() {
    let mut page = String::from(
        "# Commands\n\n\
         What `--help` prints, of every program and command; compared by `tests/tests/docs.rs`. Settings come from a \
         flag, its\nvariable, or the file named by `--config`, in this order.\n",
    );
    for program in ["taskyard", "taskyard-dispatcher", "taskyard-worker"] {
        add(&mut page, program, &mut Vec::new());
    }
    compare("docs/commands.md", &page);
}

/// Adds the help of a command, and of those below it.
fn add(page: &mut String, program: &str, path: &mut Vec<String>) {
    let mut command = Command::new(ours(program).expect("the programs are built"));
    let output = command.args(&*path).arg("--help").env_clear().output().expect("it can be run");
    let help = String::from_utf8(output.stdout).expect("help is text");
    let name = [&[program.to_owned()], path.as_slice()].concat().join(" ");
    let level = if path.is_empty() { "##" } else { "###" };
    let text: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    write!(page, "\n{level} {name}\n\n```text\n{}\n```\n", text.join("\n")).expect(WRITES);
    let below = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in below.take_while(|line| !line.is_empty()) {
        let word = line.split_whitespace().next().filter(|word| *word != "help");
        // The text of a command may go on in a line of its own.
        if let Some(word) = word.filter(|_| line.starts_with("  ") && !line.starts_with("   ")) {
            path.push(word.to_owned());
            add(page, program, path);
            path.pop();
        }
    }
}

#[tokio::test]
async fn page_of_metrics_is_what_a_dispatcher_serves() -> anyhow::Result<()> {
    let yard = Yard::builder().dispatchers(1).start().await?;
    let (_, metrics) = yard.http_get(0, "/metrics").await?;
    let mut page = String::from(
        "# Metrics\n\n\
         What `/metrics` of a dispatcher serves, in the format OpenMetrics; compared by `tests/tests/docs.rs`. Only the leader\'s\n\
         counters move: sum over all. [What to alarm on](operations.md#what-to-alarm-on).\n\n\
         | metric | type | meaning |\n| --- | --- | --- |\n",
    );
    let mut rows = Vec::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("# HELP ") else { continue };
        let (name, help) = rest.split_once(' ').expect("a metric has a text");
        let of_type = format!("# TYPE {name} ");
        let kind = metrics.lines().find_map(|line| line.strip_prefix(&of_type));
        let kind = kind.expect("a metric has a type");
        let suffix = if kind == "counter" { "_total" } else { "" };
        rows.push(format!("| `{name}{suffix}` | {kind} | {} |\n", help.trim_end_matches('.')));
    }
    rows.sort();
    page.extend(rows);
    compare("docs/metrics.md", &page);
    yard.finish()
}
