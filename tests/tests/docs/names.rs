//! Names in the documents: links, paths, flags, tests, libraries, headers, fields, metrics.

use crate::{DOCUMENTS, quoted, read, root};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use taskyard_common::store::FIELDS;
use taskyard_model::{ErrorKind, State};
use taskyard_tests::ours;

/// A heading as an address, as GitHub makes them.
fn anchor(heading: &str) -> String {
    let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(is_kept)
        .collect::<String>()
        .replace(' ', "-")
}

#[test]
fn relative_links_lead_somewhere() {
    for document in DOCUMENTS {
        let text = read(document);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(document).parent().expect("it is there");
            let target = if path.is_empty() { document.into() } else { folder.join(path) };
            let target = target.to_str().expect("it is there");
            assert!(root().join(target).exists(), "{document}: {link} leads nowhere");
            if !fragment.is_empty() {
                let headings = read(target);
                let mut headings =
                    headings.lines().filter(|line| line.starts_with('#')).map(anchor);
                assert!(headings.any(|a| a == fragment), "{document}: no heading for {link}");
            }
        }
    }
}

#[test]
fn paths_that_are_named_exist() {
    let folders = ["common/", "dispatcher/", "worker/", "producer/", "tests/", "docs/"];
    for document in DOCUMENTS {
        for name in quoted(&read(document)) {
            if folders.iter().any(|folder| name.starts_with(folder)) && !name.contains(['*', ' ']) {
                assert!(root().join(&name).exists(), "{document} names {name}");
            }
        }
    }
}

/// The long flags in a text.
fn flags(text: &str) -> BTreeSet<String> {
    let is_flag = |c: char| c.is_ascii_lowercase() || c == '-';
    let words = text.split(|c: char| !is_flag(c));
    let begins = |w: &&str| w.starts_with("--") && w.len() > 3 && !w[2..].contains("--");
    words.filter(begins).map(ToOwned::to_owned).collect()
}

fn help(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(ours(program).expect("the programs are built"));
    let output = command.args(args).arg("--help").output().expect("it can be run");
    String::from_utf8(output.stdout).expect("help is text")
}

#[test]
fn flags_of_the_readme_are_those_of_the_programs() {
    let servers = flags(&(help("taskyard-dispatcher", &[]) + &help("taskyard-worker", &[])));
    let readme = flags(&(read("README.md") + &read("docs/operations.md")));
    let of_everybody = ["--help", "--version"].map(ToOwned::to_owned);
    for flag in servers.iter().filter(|flag| !of_everybody.contains(flag)) {
        assert!(readme.contains(flag), "neither README nor docs/operations.md names {flag}");
    }
    // That page is what the programs say.
    let bench = help("taskyard-bench", &[]) + &help("taskyard-bench", &["peers"]);
    let known = flags(&(read("docs/commands.md") + &bench));
    for document in DOCUMENTS.iter().filter(|document| **document != "CHANGELOG.md") {
        // Those of cargo, Compose and apt.
        let foreign = [
            "--release",
            "--workspace",
            "--test",
            "--locked",
            "--scale",
            "--no-install-recommends",
        ];
        let named = flags(&read(document));
        let mut unknown =
            named.iter().filter(|f| !known.contains(*f) && !foreign.contains(&f.as_str()));
        assert_eq!(unknown.next(), None, "{document} names a flag that nobody has");
    }
}

#[test]
fn tests_that_are_named_exist() {
    let architecture = read("ARCHITECTURE.md");
    let (_, rest) = architecture.split_once("\n## Guarantees\n").expect("it is there");
    let (table, _) = rest.split_once("\n## ").expect("it is there");
    let mut sources = String::new();
    for folder in ["common", "dispatcher", "worker", "producer", "tests"] {
        gather(&root().join(folder), &mut sources);
    }
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).skip(2).collect();
    assert!(rows.len() > 10);
    for row in rows {
        let tests = quoted(row.trim_end_matches('|').rsplit('|').next().expect("it is there"));
        assert!(!tests.is_empty(), "no test in {row}");
        for test in tests {
            assert!(sources.contains(&format!("fn {test}(")), "there is no test {test}");
        }
    }
}

fn gather(folder: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("it is there").path();
        if path.is_dir() {
            gather(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&std::fs::read_to_string(&path).expect("it is there"));
        }
    }
}

#[test]
fn every_library_has_its_reason() {
    let architecture = read("ARCHITECTURE.md");
    let (_, manifest) =
        read("Cargo.toml").split_once("[workspace.dependencies]\n").map(own).expect("it is there");
    let (dependencies, _) = manifest.split_once("\n[").expect("it is there");
    for line in dependencies.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, _)) = line.split_once(" = ") else { continue };
        let is_ours = name.starts_with("taskyard-");
        assert!(is_ours || architecture.contains(&format!("`{name}`")), "no reason for {name}");
    }
}

#[test]
fn versions_of_the_peers_are_those_that_are_installed() {
    let document = read("docs/peers.md").to_lowercase();
    let requirements = read("tests/peers/requirements.txt");
    let python = requirements.lines().filter_map(|line| line.split_once("=="));
    let node: serde_json::Value =
        serde_json::from_str(&read("tests/peers/bullmq/package.json")).expect("it is JSON");
    let node = node["dependencies"].as_object().expect("it has some");
    let node = node.iter().map(|(name, version)| (&name[..], version.as_str().expect("a text")));
    let all: Vec<(&str, &str)> = python.chain(node).collect();
    assert!(all.len() > 6, "{all:?}");
    for (package, version) in all {
        let package = package.split('[').next().expect("a name");
        let named = format!("{package} {version}");
        assert!(document.contains(&named), "docs/peers.md does not name {named}");
    }
}

fn own((a, b): (&str, &str)) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

/// The names between quotes that follow `before` in a source.
fn strings_after(source: &str, before: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let quoted = source.split(before).skip(1).filter_map(|rest| rest.split('"').next());
    let names = quoted.filter(|text| !text.is_empty() && text.chars().all(is_name));
    names.map(ToOwned::to_owned).collect()
}

#[test]
fn headers_and_short_names_are_documented() {
    let wire = read("docs/wire.md");
    let named: BTreeSet<String> = quoted(&wire).into_iter().collect();
    let mut names = strings_after(&read("common/src/wire/mod.rs"), "&str = \"");
    let submission = read("common/src/wire/submission.rs");
    names.extend(strings_after(&submission, "    \"x-task-").iter().map(|n| format!("x-task-{n}")));
    for file in ["common/src/wire/head.rs", "common/src/wire/report.rs"] {
        names.extend(strings_after(&read(file), "rename = \""));
    }
    assert!(names.len() > 50, "{names:?}");
    for name in names {
        assert!(named.contains(&name), "docs/wire.md does not name {name}");
    }
}

#[test]
fn keys_of_handlers_files_are_documented() {
    let named: BTreeSet<String> = quoted(&read("docs/handlers.md")).into_iter().collect();
    let keys = read("worker/src/bin/taskyard-worker/handlers/keys.rs");
    let (_, keys) = keys.split_once("const KEYS: ").expect("it is there");
    let (keys, _) = keys.split_once("];").expect("it is there");
    let keys = strings_after(keys, "\"");
    assert!(keys.len() > 10, "{keys:?}");
    for key in keys {
        assert!(named.contains(&key), "docs/handlers.md does not name {key}");
    }
    let http = read("worker/src/bin/taskyard-worker/endpoint.rs");
    let lower: BTreeSet<String> = named.iter().map(|name| name.to_lowercase()).collect();
    for header in strings_after(&http, "from_static(\"") {
        assert!(lower.contains(&header), "docs/handlers.md does not name {header}");
    }
}

#[test]
fn public_names_are_documented() {
    let (wire, operations) = (read("docs/wire.md"), read("docs/operations.md"));
    let exchanges = ["tasks", "heartbeats", "outcomes", "control", "commands", "dead", "rejected"];
    let mut names: Vec<String> =
        exchanges.iter().map(|name| format!("`taskyard.{name}`")).collect();
    names.extend(
        ["task:<id>", "task:<id>}:log", "recent:<state>", "stats:<pool>", "workers", "worker:<id>"]
            .map(|key| format!("taskyard:{key}`")),
    );
    names.extend(FIELDS.iter().map(|field| format!("`{field}`")));
    names.extend(ErrorKind::ALL.iter().map(|kind| format!("`{kind}`")));
    for name in names {
        assert!(wire.contains(&name), "docs/wire.md does not name {name}");
    }
    let finals = State::ALL.iter().filter(|state| state.is_final());
    finals.for_each(|state| assert!(read("README.md").contains(&format!("`{state}`")), "{state}"));
    let metrics = read("dispatcher/src/metrics.rs");
    let (_, registered) = metrics.split_once("fn register(").expect("it is there");
    let (registered, _) = registered.split_once("\n    }\n").expect("it is there");
    let counted = strings_after(registered, "(\"").into_iter().chain(["attempts_vanished".into()]);
    for metric in counted {
        assert!(operations.contains(&metric), "docs/operations.md does not name {metric}");
    }
}
