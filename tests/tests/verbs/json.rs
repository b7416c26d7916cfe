//! docs/json.md is what `--json` prints, field by field, and type by type.

use crate::{file, objects, small_yard};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use taskyard_tests::{EVENTUALLY, Yard, wait_until};

/// Commands that print no JSON.
const WITHOUT: [&str; 4] = ["top", "completion", "man", "help"];
const STATES: [&str; 11] = [
    "blocked",
    "delayed",
    "queued",
    "dispatched",
    "running",
    "retrying",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
    "rejected",
];

/// What the page says of a field.
#[derive(Clone, Debug)]
struct Field {
    kind: String,
    may_be_null: bool,
}

type Fields = BTreeMap<String, Field>;

/// What the page says of an object.
#[derive(Clone)]
struct Section {
    title: String,
    fields: Fields,
}

/// The page by the names of commands, and which fields of which title were seen with a value.
struct Page {
    sections: BTreeMap<String, Section>,
    seen: BTreeSet<(String, String)>,
}

impl Page {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md");
        let text = std::fs::read_to_string(path).expect("the page is there");
        let mut sections: BTreeMap<String, Section> = BTreeMap::new();
        for section in text.split("\n## ").skip(1) {
            let (title, body) = section.split_once('\n').expect("a section has a body");
            let rows = body.lines().filter_map(|line| line.strip_prefix("| `"));
            let fields: Fields = rows.map(field).collect();
            assert!(!fields.is_empty(), "{title} has no table");
            for name in title.split(", ") {
                let section = Section { title: title.to_owned(), fields: fields.clone() };
                sections.insert(name.replace('`', ""), section);
            }
        }
        for (more, base) in [("watch", "stats"), ("dead show", "dead ls")] {
            let base = sections[base].fields.clone();
            sections.get_mut(more).expect("it is there").fields.extend(base);
        }
        Self { sections, seen: BTreeSet::new() }
    }

    /// The object has exactly the fields of the section, of their types.
    fn compare(&mut self, section: &str, object: &Value) -> anyhow::Result<()> {
        let Section { title, fields } =
            self.sections.get(section).with_context(|| format!("no section {section}"))?;
        let object = object.as_object().context("not an object")?;
        let printed: BTreeSet<&String> = object.keys().collect();
        let said: BTreeSet<&String> = fields.keys().collect();
        ensure!(printed == said, "{section} prints {printed:?}, and the page says {said:?}");
        for (name, value) in object {
            let Field { kind, may_be_null } = &fields[name];
            if value.is_null() {
                ensure!(*may_be_null, "{section}: {name} is null, and the page says never");
                continue;
            }
            self.seen.insert((title.clone(), name.clone()));
            let fits = match kind.as_str() {
                "text" => value.is_string(),
                "state" => value.as_str().is_some_and(|state| STATES.contains(&state)),
                "count" | "ms" => value.is_u64(),
                "rate" => value.as_f64().is_some_and(|rate| rate >= 0.0),
                "boolean" => value.is_boolean(),
                "instant" => value.as_u64().is_some_and(|ms| ms > 1_500_000_000_000),
                other => anyhow::bail!("the page has no type {other}"),
            };
            ensure!(fits, "{section}: {name} is {value}, and the page says {kind}");
        }
        Ok(())
    }

    /// Every field was seen with a value, whichever command of its section printed it.
    fn is_complete(&self) -> anyhow::Result<()> {
        for Section { title, fields } in self.sections.values() {
            for name in fields.keys() {
                let is_seen = self.seen.contains(&(title.clone(), name.clone()));
                ensure!(is_seen, "{title}: {name} was never more than null");
            }
        }
        Ok(())
    }
}

/// The rest of a row after `` | ` ``.
fn field(row: &str) -> (String, Field) {
    let (name, rest) = row.split_once('`').expect("a field is quoted");
    let cells: Vec<&str> = rest.split('|').map(str::trim).collect();
    let (kind, null) = (cells[1].to_owned(), cells[2]);
    (name.to_owned(), Field { kind, may_be_null: null != "never" })
}

/// Runs a command with `--json` and compares each of its objects with a section.
async fn check(
    page: &mut Page,
    yard: &Yard,
    section: &str,
    args: &[&str],
) -> anyhow::Result<Vec<Value>> {
    let ran = yard.taskyard(&[args, &["--json"]].concat()).await?;
    let printed = objects(&ran.stdout)?;
    ensure!(!printed.is_empty(), "{args:?} printed nothing: {}", ran.stderr);
    for object in &printed {
        let (section, object) = match object.get("summary") {
            Some(summary) => ("Summary of a file", summary),
            None => (section, object),
        };
        page.compare(section, object).with_context(|| format!("{args:?}: {object}"))?;
    }
    Ok(printed)
}

#[tokio::test]
async fn every_object_is_as_the_page_says() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let mut page = Page::read();
    submit(&mut page, &yard).await?;
    look(&mut page, &yard).await?;
    command(&mut page, &yard).await?;
    page.is_complete()?;
    yard.finish()
}

async fn submit(page: &mut Page, yard: &Yard) -> anyhow::Result<()> {
    let permanent = r#"{"permanent":true}"#;
    check(page, yard, "submit", &["submit", "echo", "--id", "j1", "--tenant", "shop"]).await?;
    let typed = ["submit", "echo", "--data", "x", "--content-type", "text/plain", "--id", "j2"];
    check(page, yard, "submit --wait", &[&typed[..], &["--wait"]].concat()).await?;
    let binary = file(yard, "binary", [0, 255])?;
    let args = ["submit", "echo", "--file", &binary, "--id", "j3", "--wait"];
    check(page, yard, "submit --wait", &args).await?;
    let args = ["submit", "fail", "--data", permanent, "--id", "j4", "--wait"];
    check(page, yard, "submit --wait", &args).await?;
    check(page, yard, "result", &["result", "j4"]).await?;
    // What no builtin handler says, in a record that nobody writes to any more.
    let mut say = redis::cmd("HSET");
    say.arg("taskyard:task:j2").arg(&[("result_type", "text/plain"), ("progress_note", "half")]);
    let _: i64 = yard.redis(&say).await?;
    check(page, yard, "result", &["result", "j2", "--wait"]).await?;
    // Too large to be kept in Redis.
    let large = file(yard, "large", vec![b'x'; 1_200_000])?;
    let args = ["submit", "echo", "--file", &large, "--id", "j9", "--wait"];
    check(page, yard, "submit --wait", &args).await?;
    check(page, yard, "result", &["result", "j9"]).await?;
    let lines = file(yard, "lines", "{\"kind\":\"echo\"}\n{\"kind\":\"a b\"}\nno\n")?;
    let printed = check(page, yard, "submit --ndjson", &["submit", "--ndjson", &lines]).await?;
    assert_eq!(printed[3]["summary"]["skip"], 3);
    let table = file(yard, "table", "file\na.png\nb.png,\n")?;
    check(page, yard, "submit --csv", &["submit", "echo", "--csv", &table]).await?;
    Ok(())
}

async fn look(page: &mut Page, yard: &Yard) -> anyhow::Result<()> {
    let sleep = ["submit", "sleep", "--data", r#"{"ms":2000}"#, "--id", "j5", "--wait"];
    yard.taskyard(&sleep).await?.ok()?;
    yard.taskyard(&["submit", "echo", "--id", "j6", "--delay", "1h"]).await?.ok()?;
    yard.taskyard(&["submit", "nobody.takes.it", "--id", "j7"]).await?.ok()?;
    yard.wait_state("j6", "delayed", EVENTUALLY).await?;
    yard.wait_state("j7", "queued", EVENTUALLY).await?;
    let ids = ["j1", "j2", "j3", "j4", "j5", "j6", "j7", "j9", "nobody"];
    check(page, yard, "status", &[&["status"][..], &ids].concat()).await?;
    wait_until("all is in the lists", EVENTUALLY, async || {
        let listed = objects(&yard.taskyard(&["ls", "--json"]).await?.ok()?)?;
        ensure!(listed.iter().any(|task| task["id"] == "j4"), "{listed:?}");
        anyhow::Ok(())
    })
    .await?;
    check(page, yard, "ls", &["ls", "--state", "succeeded,failed,queued,delayed"]).await?;
    check(page, yard, "workers", &["workers"]).await?;
    check(page, yard, "stats", &["stats"]).await?;
    let logging = ["submit", "sleep", "--data", r#"{"ms":1,"log":["a line"]}"#, "--id", "j10"];
    yard.taskyard(&[&logging[..], &["--wait"]].concat()).await?.ok()?;
    check(page, yard, "logs", &["logs", "-f", "j10"]).await?;
    check(page, yard, "doctor", &["doctor"]).await?;
    check(page, yard, "doctor --list", &["doctor", "--list"]).await?;
    wait_until("all is counted", EVENTUALLY, async || {
        let counts = objects(&yard.taskyard(&["stats", "--json"]).await?.ok()?)?;
        ensure!(counts[0]["accepted"] == 11 && counts[0]["waiting"] == 1, "{counts:?}");
        anyhow::Ok(())
    })
    .await?;
    let watched = check(page, yard, "watch", &["watch", "--count", "2"]).await?;
    assert_eq!(watched[0]["finished_per_s"], Value::Null, "one look tells no rate");
    Ok(())
}

async fn command(page: &mut Page, yard: &Yard) -> anyhow::Result<()> {
    check(page, yard, "cancel", &["cancel", "j6", "j1", "nobody"]).await?;
    let binary = file(yard, "dead", [b'"', 255])?;
    let args = ["submit", "fail", "--file", &binary, "--max-attempts", "1", "--id", "j8"];
    yard.taskyard(&args).await?.ok()?;
    yard.wait_state("j8", "failed", EVENTUALLY).await?;
    wait_until("both are dead letters", EVENTUALLY, async || {
        let listed = objects(&yard.taskyard(&["dead", "ls", "--json"]).await?.ok()?)?;
        ensure!(listed.len() == 2, "{listed:?}");
        anyhow::Ok(())
    })
    .await?;
    check(page, yard, "dead ls", &["dead", "ls"]).await?;
    check(page, yard, "dead show", &["dead", "show", "j4"]).await?;
    check(page, yard, "dead show", &["dead", "show", "j8"]).await?;
    check(page, yard, "dead replay", &["dead", "replay", "j4", "nobody"]).await?;
    check(page, yard, "dead replay --all", &["dead", "replay", "--all"]).await?;
    Ok(())
}

#[tokio::test]
async fn every_command_is_on_the_page() -> anyhow::Result<()> {
    let yard = Yard::builder().start().await?;
    let page = Page::read();
    for outer in [&[][..], &["dead"]] {
        let help = yard.taskyard(&[outer, &["--help"]].concat()).await?.ok()?;
        let (_, list) = help.split_once("Commands:\n").context("a list of commands")?;
        let list = list.split("\n\n").next().unwrap_or_default();
        let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
        for line in list.lines().filter(is_name) {
            let verb = line.split_whitespace().next().unwrap_or_default();
            let name = [outer, &[verb]].concat().join(" ");
            ensure!(
                verb == "dead" || WITHOUT.contains(&verb) || page.sections.contains_key(&name),
                "docs/json.md does not say what `taskyard {name} --json` prints"
            );
        }
    }
    yard.finish()
}
