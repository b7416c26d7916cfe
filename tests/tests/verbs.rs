//! The command line, verb by verb, against a whole system.

mod verbs {
    pub(super) mod json;
    pub(super) mod lists;
    pub(super) mod screen;
    pub(super) mod streams;
}

use anyhow::Context;
use serde_json::Value;
use std::path::PathBuf;
use taskyard_tests::Yard;

async fn small_yard() -> anyhow::Result<Yard> {
    Yard::builder().worker(|w| w.id("w1").slots(4).labels("gpu").builtin()).start().await
}

/// The objects of a command's output.
fn objects(text: &str) -> anyhow::Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
}

/// A file of the test; its path as an argument.
fn file(yard: &Yard, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<String> {
    let path: PathBuf = yard.folder().join(name);
    std::fs::write(&path, content)?;
    Ok(path.to_str().context("a path of ours is UTF-8")?.to_owned())
}
