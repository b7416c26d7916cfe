//! The messages, as they look on the wire.
//!
//! Two shapes carry tasks and reports. *Native*: one task a message, in AMQP's own properties and
//! headers; what foreign clients and foreign workers send and get. *Train*: one or many a message,
//! between our own programs ([`train`]).

mod head;
mod text;

mod bulk;
mod native;
mod rule;
mod submission;

pub mod train;

mod command;
mod control;
mod heartbeat;
mod log;
mod report;

pub use bulk::{BulkError, BulkWriter, JudgedTask, read_bulk};
pub use command::{Command, CommandAnswer};
pub use control::{Control, Errand};
pub use head::{Head, Task};
pub use heartbeat::{Heartbeat, HeartbeatError, Holding, WorkerState};
pub use log::{LINE_BYTES_MAX, log_lines};
pub use native::{CopyError, DeathReason, death, read_copy, write_copy};
pub use report::{Report, ReportError, ReportKind, read_reports, write_reports};
pub use submission::{
    HEADERS_BYTES_MAX, Refusal, Submission, headers_bytes, kept, read_submission,
};

/// Headers that Taskyard reads or writes.
pub mod headers {
    /// Number of the dispatch.
    pub const ATTEMPT: &str = "x-task-attempt";
    /// Failed attempts so far.
    pub const FAILURES: &str = "x-task-failures";
    /// Lost attempts so far.
    pub const LOSSES: &str = "x-task-losses";
    /// When a dispatcher first saw it.
    pub const ACCEPTED_AT: &str = "x-task-accepted-at";
    /// Not to be started after this instant.
    pub const START_BY: &str = "x-task-start-by";
    /// Who published it, as RabbitMQ checked.
    pub const USER: &str = "x-task-user";
    /// The attempt before may have killed its worker: confirm `started` before running it.
    pub const SUSPECT: &str = "x-task-suspect";
    /// How often a copy has come back while its attempt was still listed.
    pub const ROUNDS: &str = "x-task-rounds";
    /// Which worker reports.
    pub const WORKER: &str = "x-task-worker";
    /// An error's text.
    pub const ERROR: &str = "x-task-error";
    /// An error's kind.
    pub const ERROR_KIND: &str = "x-task-error-kind";
    /// Whether a failure may be retried.
    pub const RETRYABLE: &str = "x-task-retryable";
    /// How long to wait at least before a failed attempt is followed by another, in milliseconds.
    pub const RETRY_AFTER: &str = "x-task-retry-after";
    /// Why a message is where it is.
    pub const REASON: &str = "x-task-reason";
    /// What is left of a message that could not be read, and why.
    pub const UNREADABLE: &str = "x-task-unreadable";
    /// A delivery that a worker does not know.
    pub const ORPHAN: &str = "x-task-orphan";
    /// Percent done.
    pub const PROGRESS: &str = "x-task-progress";
    /// A line about progress.
    pub const NOTE: &str = "x-task-note";
    /// Where the checkpoint begins in the body.
    pub const CHECKPOINT_AT: &str = "x-task-checkpoint-at";
    /// How long the attempt ran, in microseconds.
    pub const RAN_US: &str = "x-task-ran-us";
}
