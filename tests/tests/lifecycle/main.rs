//! The normal life of tasks, seen from outside: real programs, and clients and workers of other makes.

mod foreign;
mod mailbox;

mod accepted;
mod cancelled;
mod failing;
mod large;
mod later;
mod leaving;
mod order;
mod pools;
mod replies;
mod routes;
mod start_by;

use taskyard_tests::{TaskHash, Yard};

/// A dispatcher and a worker with the built-in kinds.
async fn small_yard() -> anyhow::Result<Yard> {
    Yard::builder().worker(|w| w.id("w1").slots(4).builtin()).start().await
}

/// A dispatcher alone.
async fn yard_without_workers() -> anyhow::Result<Yard> {
    Yard::builder().start().await
}

/// The present in ms since the epoch, as the contract counts.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Attempt, failures, losses.
fn counts(task: &TaskHash) -> (i64, i64, i64) {
    (task.number("attempt"), task.number("failures"), task.number("losses"))
}
