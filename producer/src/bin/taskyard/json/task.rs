use super::{known, text_or_base64};
use serde::Serialize;
use taskyard_common::store::{Fields, TaskView};
use taskyard_model::{State, TaskId, Timestamp};

/// A task's record: `status`, `ls`.
#[derive(Serialize, Default)]
pub(crate) struct Task<'a> {
    id: &'a str,
    state: Option<&'a str>,
    kind: Option<&'a str>,
    pool: Option<&'a str>,
    priority: Option<u64>,
    tenant: Option<&'a str>,
    attempt: Option<u64>,
    failures: Option<u64>,
    losses: Option<u64>,
    max_attempts: Option<u64>,
    max_losses: Option<u64>,
    worker: Option<&'a str>,
    submitted_at: Option<u64>,
    dispatched_at: Option<u64>,
    started_at: Option<u64>,
    finished_at: Option<u64>,
    next_at: Option<u64>,
    progress: Option<u64>,
    progress_note: Option<&'a str>,
    result: Option<String>,
    result_base64: Option<String>,
    result_type: Option<&'a str>,
    result_bytes: Option<u64>,
    error: Option<&'a str>,
    error_kind: Option<&'a str>,
    reason: Option<&'a str>,
}

impl<'a> Task<'a> {
    /// A task that there is no record of.
    pub(crate) fn unknown(id: &'a TaskId) -> Self {
        Self { id: id.as_str(), ..Self::default() }
    }
}

impl<'a> From<&'a TaskView> for Task<'a> {
    fn from(view: &'a TaskView) -> Self {
        let fields: &'a Fields = &view.fields;
        let text = |name| known(fields.text(name));
        let number = |name| fields.number::<u64>(name);
        let instant = |name| fields.instant(name).map(Timestamp::as_ms);
        let (result, result_base64) = match view.state() {
            Some(State::Succeeded) => text_or_base64(&view.result()),
            _ => (None, None),
        };
        Self {
            id: view.id.as_str(),
            state: text("state"),
            kind: text("kind"),
            pool: text("pool"),
            priority: number("priority"),
            tenant: text("tenant"),
            attempt: number("attempt"),
            failures: number("failures"),
            losses: number("losses"),
            max_attempts: number("max_attempts"),
            max_losses: number("max_losses"),
            worker: text("worker"),
            submitted_at: instant("submitted_at"),
            dispatched_at: instant("dispatched_at"),
            started_at: instant("started_at"),
            finished_at: instant("finished_at"),
            next_at: instant("next_at"),
            progress: number("progress"),
            progress_note: text("progress_note"),
            result,
            result_base64,
            result_type: text("result_type"),
            result_bytes: number("result_bytes"),
            error: text("error"),
            error_kind: text("error_kind"),
            reason: text("reason"),
        }
    }
}
