use super::known;
use serde::Serialize;
use taskyard_common::store::LogLine;

/// A line of a task's log: `logs`.
#[derive(Serialize)]
pub(crate) struct Logged<'a> {
    at: u64,
    attempt: u32,
    worker: Option<&'a str>,
    text: &'a str,
}

impl<'a> From<&'a LogLine> for Logged<'a> {
    fn from(line: &'a LogLine) -> Self {
        let LogLine { at, attempt, worker, text, .. } = line;
        Self { at: at.as_ms(), attempt: *attempt, worker: known(worker), text }
    }
}
