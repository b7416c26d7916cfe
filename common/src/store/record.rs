use bytes::Bytes;
use redis::Value as Reply;
use taskyard_model::{Backoff, Kind, PoolName, State, Timestamp, WorkerId};

use super::StoreError;

/// The fields that a task's hash has from intake on, in the order in which people read them; ours
/// come and go besides.
pub const FIELDS: &[&str] = &[
    "state",
    "id",
    "kind",
    "pool",
    "priority",
    "tenant",
    "attempt",
    "failures",
    "losses",
    "max_attempts",
    "max_losses",
    "worker",
    "submitted_at",
    "dispatched_at",
    "started_at",
    "finished_at",
    "next_at",
    "progress",
    "progress_note",
    "result",
    "result_type",
    "result_bytes",
    "error",
    "error_kind",
    "reason",
];

/// The fields that a [`Record`] is made of, in the order in which the script answers them.
pub(super) const RECORD_FIELDS: &[&str] = &[
    "state",
    "attempt",
    "failures",
    "losses",
    "max_attempts",
    "max_losses",
    "worker",
    "kind",
    "pool",
    "next_at",
    "reply_to",
    "correlation_id",
    "owed",
    "cancel",
    "submitted_at",
    "keep_ms",
    "started_at",
    "backoff",
    "start_by",
];

/// What the dispatcher needs of a task's record.
///
/// What is empty or damaged in Redis reads as zero or nothing; a record without a known state reads
/// as absent, for the script too, so that a copy of the task builds it anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The state.
    pub state: State,
    /// Number of the current or last dispatch; 0 before the first.
    pub attempt: u32,
    /// Attempts that a worker failed.
    pub failures: u32,
    /// Attempts whose worker died under them.
    pub losses: u32,
    /// Failures at which it ends; 0 if unknown.
    pub max_attempts: u32,
    /// Losses that it survives.
    pub max_losses: u32,
    /// The worker it was last given to.
    pub worker: Option<WorkerId>,
    /// What sort of task it is.
    pub kind: Option<Kind>,
    /// The pool that it belongs to.
    pub pool: Option<PoolName>,
    /// When it is due, if it waits for a time.
    pub next_at: Option<Timestamp>,
    /// Queue that wants to hear of its end; empty if none.
    pub reply_to: String,
    /// What the submitter told them apart by; empty if nothing.
    pub correlation_id: String,
    /// What is still to be delivered, in the dispatcher's words; empty if nothing.
    pub owed: String,
    /// Whether somebody asked to end it while a worker has it.
    pub cancel: bool,
    /// When a dispatcher first saw it.
    pub submitted_at: Option<Timestamp>,
    /// How long its final state is to be remembered, in milliseconds, if the submitter said.
    pub keep_ms: Option<u64>,
    /// When the current attempt was reported started.
    pub started_at: Option<Timestamp>,
    /// How long it waits between attempts, if that is known.
    pub backoff: Option<Backoff>,
    /// After which instant it must not be started for the first time, if any.
    pub start_by: Option<Timestamp>,
}

impl Record {
    /// From the answers to [`RECORD_FIELDS`]; `None` if there is no record.
    pub(super) fn parse(reply: Reply) -> Result<Option<Box<Self>>, StoreError> {
        let Reply::Array(values) = reply else {
            return Err(StoreError::Strange { what: "the fields of a record" });
        };
        if values.len() != RECORD_FIELDS.len() {
            return Err(StoreError::Strange { what: "all fields of a record" });
        }
        let mut values = values.into_iter().map(text);
        let mut next = move || values.next().unwrap_or_default();
        let Ok(state) = next().parse() else { return Ok(None) };
        Ok(Some(Box::new(Self {
            state,
            attempt: number(&next()),
            failures: number(&next()),
            losses: number(&next()),
            max_attempts: number(&next()),
            max_losses: number(&next()),
            worker: next().parse().ok(),
            kind: next().parse().ok(),
            pool: next().parse().ok(),
            next_at: instant(&next()),
            reply_to: next(),
            correlation_id: next(),
            owed: next(),
            cancel: !matches!(next().as_str(), "" | "0"),
            submitted_at: instant(&next()),
            keep_ms: next().parse().ok(),
            started_at: instant(&next()),
            backoff: next().parse().ok(),
            start_by: instant(&next()),
        })))
    }
}

/// What came of an [`Op`](super::Op).
#[derive(Clone, Debug)]
pub enum Answer {
    /// The change was made. The record as it was before, if that was wanted and there was one.
    Applied(Option<Box<Record>>),
    /// The change was not allowed, and nothing was written. The record, or `None` if there is none.
    Refused(Option<Box<Record>>),
    /// The record, or `None` if there is none.
    Record(Option<Box<Record>>),
    /// The record and the stored payload.
    Payload(Option<Box<Record>>, Option<Bytes>),
    /// This one failed, and nothing was written; the others of the call have their own answers.
    Failed(StoreError),
}

/// A field as text; what is no UTF-8 is damaged and reads as what can be read of it.
pub(super) fn text(reply: Reply) -> String {
    match reply {
        Reply::BulkString(bytes) => String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        Reply::SimpleString(text) => text,
        Reply::Int(number) => number.to_string(),
        _ => String::new(),
    }
}

fn number(text: &str) -> u32 {
    text.parse().unwrap_or(0)
}

/// An instant; empty and 0 stand for none.
pub(super) fn instant(text: &str) -> Option<Timestamp> {
    text.parse().ok().filter(|&ms| ms != 0).map(Timestamp::from_ms)
}
