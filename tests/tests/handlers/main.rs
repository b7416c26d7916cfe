//! What a handlers file can say: programs, programs that stay, endpoints, on a running system.

mod endpoint;

mod examples;
mod exec;
mod file;
mod http;
mod resident;

use std::path::PathBuf;

use taskyard_tests::{TaskHash, Yard, wait_until};

/// The folder of examples.
fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/handlers")
}

/// A dispatcher, and a worker `w1` with these handlers.
async fn yard_with(handlers: &str, slots: u32) -> anyhow::Result<Yard> {
    Yard::builder().worker(|w| w.id("w1").slots(slots).handlers(handlers)).start().await
}

/// Waits for a file of the yard's folder, and reads it when there is a whole line in it.
async fn wait_file(yard: &Yard, name: &str) -> anyhow::Result<String> {
    let file = yard.folder().join(name);
    wait_until(&format!("the file {name}"), taskyard_tests::EVENTUALLY, async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        anyhow::ensure!(text.ends_with('\n'), "{text:?}");
        Ok(text.trim().to_owned())
    })
    .await
}

/// Attempt, failures.
fn counts(task: &TaskHash) -> (i64, i64) {
    (task.number("attempt"), task.number("failures"))
}
