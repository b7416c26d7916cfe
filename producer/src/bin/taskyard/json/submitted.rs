use super::{known, text_or_base64};
use serde::Serialize;
use taskyard_model::{State, TaskId};

/// A task that was accepted: `submit`.
#[derive(Serialize)]
pub(crate) struct Submitted<'a> {
    pub(crate) id: &'a str,
}

/// How a task ended: `submit --wait`, `result`.
#[derive(Serialize)]
pub(crate) struct Ended<'a> {
    id: &'a str,
    state: &'a str,
    attempt: u32,
    error: Option<&'a str>,
    error_kind: Option<&'a str>,
    content_type: Option<&'a str>,
    result: Option<String>,
    result_base64: Option<String>,
}

impl<'a> Ended<'a> {
    pub(crate) fn new(id: &'a TaskId, ended: &'a crate::result::Ended) -> Self {
        let (result, result_base64) = match ended.state {
            State::Succeeded if ended.lost_bytes.is_none() => text_or_base64(&ended.result),
            _ => (None, None),
        };
        Self {
            id: id.as_str(),
            state: ended.state.as_str(),
            attempt: ended.attempt,
            error: known(&ended.error),
            error_kind: known(&ended.error_kind),
            content_type: known(&ended.content_type),
            result,
            result_base64,
        }
    }
}

/// What became of a line of a file: `submit --ndjson`, `submit --csv`.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) line: u64,
    pub(crate) id: Option<&'a str>,
    pub(crate) ok: bool,
    pub(crate) error: Option<&'a str>,
    pub(crate) unknown: bool,
}

/// The last object about a file.
#[derive(Serialize)]
pub(crate) struct Done {
    pub(crate) summary: Summary,
}

/// What became of a file.
#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) lines: u64,
    pub(crate) accepted: u64,
    pub(crate) not_accepted: u64,
    pub(crate) unknown: u64,
    pub(crate) skip: u64,
    pub(crate) complete: bool,
    pub(crate) ms: u64,
}
