//! Pages that a reader follows from top to bottom: their commands are run, their output compared.

use crate::read;
use anyhow::{Context, ensure};
use std::fmt::Write;
use taskyard_tests::Yard;

/// Comes before the output of each block.
const MARK: &str = "=== block ";
/// Stands for anything within a line.
const ANYTHING: char = '…';

#[tokio::test]
async fn tutorial_does_what_it_says() -> anyhow::Result<()> {
    let yard =
        Yard::builder().dispatchers(2).worker(|w| w.id("worker-a").builtin()).start().await?;
    walk(&yard, "docs/tutorial.md").await?;
    // It kills a worker.
    yard.discard();
    Ok(())
}

#[tokio::test]
async fn recipes_do_what_they_say() -> anyhow::Result<()> {
    let yard = Yard::builder().worker(|w| w.id("worker-a").builtin()).start().await?;
    walk(&yard, "docs/submit.md").await?;
    yard.finish()
}

/// A block to run, and what it prints, if the page says so.
struct Step {
    script: String,
    expected: Vec<String>,
}

/// Runs all `sh` and `python` blocks of a page in one shell; a `text` block right after one has lines of
/// its output, in their order.
async fn walk(yard: &Yard, page: &str) -> anyhow::Result<()> {
    let steps = steps(&read(page));
    ensure!(!steps.is_empty(), "{page} has nothing to run");
    // What goes on in the background ends with the walk.
    let mut script =
        "set -euo pipefail\ntrap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT\n".to_owned();
    for (number, step) in steps.iter().enumerate() {
        write!(script, "printf '\\n{MARK}{number}\\n'\n{}\n", step.script)?;
    }
    let folder = tempfile::tempdir()?;
    let ran = yard.shell(&script, folder.path()).await?;
    let outputs: Vec<&str> = ran.stdout.split(MARK).skip(1).collect();
    for (number, (step, output)) in steps.iter().zip(&outputs).enumerate() {
        let mut lines = output.lines().skip(1);
        for expected in &step.expected {
            let found = lines.any(|line| is_like(line.trim_end(), expected));
            ensure!(
                found,
                "{page}: block {number} does not print {expected:?}:\n{}\n{output}\n{}",
                step.script,
                ran.stderr
            );
        }
    }
    let last = outputs.len().checked_sub(1).and_then(|last| steps.get(last));
    let last = last.map(|step| step.script.as_str()).unwrap_or_default();
    ensure!(
        ran.code == Some(0),
        "{page}: {:?} in:\n{last}\n{}\n{}",
        ran.code,
        ran.stdout,
        ran.stderr
    );
    Ok(())
}

/// Whether a line is what is expected, in which [`ANYTHING`] stands for whatever is there.
fn is_like(line: &str, expected: &str) -> bool {
    let mut parts = expected.split(ANYTHING);
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// The blocks of a page, in their order.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = page.lines();
    // Whether nothing but white space has come since the last block to run.
    let mut is_after = false;
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            is_after &= line.trim().is_empty();
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match (language, steps.last_mut()) {
            ("sh", _) => steps.push(Step { script: block.join("\n"), expected: Vec::new() }),
            ("python", _) => steps.push(Step {
                script: format!("python3 - <<'PYTHON'\n{}\nPYTHON", block.join("\n")),
                expected: Vec::new(),
            }),
            ("text", Some(step)) if is_after => {
                step.expected = block.iter().map(|line| line.trim_end().to_owned()).collect();
            }
            _ => {}
        }
        is_after = matches!(language, "sh" | "python");
    }
    steps
}

#[test]
fn dots_stand_for_anything_within_a_line() -> anyhow::Result<()> {
    for (line, expected) in [("a b", "a b"), ("a 12 b", "a … b"), ("x1y2z", "x…y…z"), ("ab", "a…b")]
    {
        ensure!(is_like(line, expected), "{line} {expected}");
    }
    for (line, expected) in [("a b c", "a b"), ("a b", "a … c"), ("xa", "a…"), ("ab", "b…a")]
    {
        ensure!(!is_like(line, expected), "{line} {expected}");
    }
    let page = "```sh\necho 1\n```\n\n```text\n1\n```\nwords\n```text\n2\n```\n";
    let step = steps(page).pop().context("one step")?;
    assert_eq!((step.script.as_str(), step.expected.as_slice()), ("echo 1", &["1".to_owned()][..]));
    Ok(())
}
