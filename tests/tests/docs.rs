//! What the documents say is what the code does: generated parts, names, paths, flags, examples.
//!
//! `TASKYARD_WRITE_DOCS=1 cargo test --release --workspace --test docs` writes the generated
//! parts anew.

mod docs {
    pub(super) mod examples;
    pub(super) mod generated;
    pub(super) mod names;
    pub(super) mod reference;
    pub(super) mod walks;
}

use std::path::{Path, PathBuf};

/// The documents, from the root.
const DOCUMENTS: [&str; 11] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs/handlers.md",
    "docs/wire.md",
    "docs/operations.md",
    "docs/containers.md",
    "docs/transitions.md",
    "docs/tutorial.md",
    "docs/commands.md",
    "docs/metrics.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let file = root().join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The texts of the fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(opened)) => open = Some((opened == language, String::new())),
            (None, None) => {}
            (Some(_), Some(_)) => {
                blocks
                    .extend(open.take().filter(|(is_wanted, _)| *is_wanted).map(|(_, text)| text));
            }
            (Some((_, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    blocks
}

/// The texts between backticks, outside of fenced blocks.
fn quoted(text: &str) -> Vec<String> {
    let mut quoted = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            is_inside = !is_inside;
        } else if !is_inside {
            quoted.extend(line.split('`').skip(1).step_by(2).map(ToOwned::to_owned));
        }
    }
    quoted
}
