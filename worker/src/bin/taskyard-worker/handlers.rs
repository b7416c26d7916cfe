//! The handlers file: which program runs which kind.
//!
//! ```toml
//! [[handler]]
//! kind = "image.resize"              # or a pattern: image.*, image.#
//! exec = ["convert", "-", "-resize", "200x", "-"]
//! timeout_ms = 60000                 # optional, besides the task's own limit
//! dir = "/srv/images"                # optional
//! env = { MAGICK_THREAD_LIMIT = "1" } # optional
//! ```

use crate::exec::{Attempt, Program};
use anyhow::Context as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use taskyard_worker::{Context, WorkerBuilder};

/// The whole file; its handlers are read one by one, so that all problems are found.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    handler: Vec<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    kind: String,
    exec: Vec<String>,
    timeout_ms: Option<u64>,
    dir: Option<PathBuf>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// Adds a handler for each entry of the file.
pub(crate) fn add(mut builder: WorkerBuilder, file: &Path) -> anyhow::Result<WorkerBuilder> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the handlers file {} cannot be read", file.display()))?;
    let programs = parse(&text).with_context(|| format!("the handlers file {}", file.display()))?;
    for (kind, program) in programs {
        let program = Arc::new(program);
        builder = builder.raw_handler(kind, move |ctx: Context, payload| {
            let program = Arc::clone(&program);
            async move { program.run(Attempt::new(&ctx, payload)).await }
        });
    }
    Ok(builder)
}

/// Reads and checks all entries.
fn parse(text: &str) -> anyhow::Result<Vec<(String, Program)>> {
    let file: File = toml::from_str(text)?;
    let (mut programs, mut problems) = (Vec::new(), Vec::new());
    if file.handler.is_empty() {
        problems.push("there is no [[handler]]".to_owned());
    }
    for (n, table) in file.handler.into_iter().enumerate() {
        let name = match table.get("kind").and_then(toml::Value::as_str) {
            Some(kind) => format!("handler {} ({kind})", n + 1),
            None => format!("handler {}", n + 1),
        };
        match table.try_into::<Entry>() {
            Ok(entry) => {
                let found = check(&entry);
                problems.extend(found.into_iter().map(|problem| format!("{name}: {problem}")));
                let timeout = entry.timeout_ms.map(Duration::from_millis);
                let Entry { kind, exec, dir, env, .. } = entry;
                programs.push((kind, Program { exec, timeout, dir, env }));
            }
            Err(error) => problems.push(format!("{name}: {}", error.message())),
        }
    }
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(programs)
}

/// What is wrong with an entry.
fn check(entry: &Entry) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(error) = taskyard_model::Pattern::new(&entry.kind) {
        problems.push(error.to_string());
    }
    if entry.timeout_ms == Some(0) {
        problems.push("timeout_ms must be at least 1".to_owned());
    }
    if let Some(dir) = entry.dir.as_ref().filter(|dir| !dir.is_dir()) {
        problems.push(format!("dir {} is no directory", dir.display()));
    }
    match entry.exec.first().map(String::as_str) {
        None | Some("") => problems.push("exec names no program".to_owned()),
        Some(program) if !can_be_run(program, entry.dir.as_deref()) => {
            problems.push(format!("the program {program:?} cannot be found"));
        }
        Some(_) => {}
    }
    problems
}

/// Whether there is such a program: on the PATH, or where it says.
fn can_be_run(program: &str, dir: Option<&Path>) -> bool {
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        // A relative one is looked for in `dir` when it is run, as the system does.
        let path = dir.map_or_else(|| PathBuf::from(program), |dir| dir.join(program));
        return is_program(&path);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_program(&folder.join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_entry_is_read() {
        let text = r#"
            [[handler]]
            kind = "image.#"
            exec = ["sh", "-c", "cat"]
            timeout_ms = 5
            dir = "/"
            env = { A = "b" }
        "#;
        let programs = parse(text).unwrap();
        let (kind, program) = &programs[0];
        assert_eq!(
            (kind.as_str(), &program.exec[..]),
            ("image.#", &["sh", "-c", "cat"].map(String::from)[..])
        );
        assert_eq!(program.timeout, Some(Duration::from_millis(5)));
        assert_eq!(program.env["A"], "b");
    }

    #[test]
    fn all_problems_are_reported_together() {
        let text = r#"
            [[handler]]
            kind = "a b"
            exec = []
            timeout_ms = 0
            dir = "/none"
            [[handler]]
            kind = "x"
            exec = ["no-such-program-here"]
            [[handler]]
            kind = "y"
            exec = ["/none/such"]
            [[handler]]
            kind = "z"
            exek = ["sh"]
        "#;
        let error = format!("{:#}", parse(text).err().unwrap());
        for part in [
            "' '",
            "names no program",
            "at least 1",
            "/none is no",
            "no-such",
            "/none/such",
            "exek",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(parse("").is_err());
        assert!(parse("[[handlers]]").is_err());
    }
}
