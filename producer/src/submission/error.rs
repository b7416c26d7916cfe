use std::sync::Arc;
use taskyard_model::{BackoffError, IdError, KindError, LabelsError};

/// Which rule a submission breaks. Nothing was sent: correct it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmissionError {
    /// The kind is none.
    #[error("kind: {0}")]
    Kind(KindError),
    /// The id is none.
    #[error("id: {0}")]
    Id(IdError),
    /// The payload is larger than 16 MiB: store it elsewhere and submit its address.
    #[error(
        "the payload has {0} bytes, more than 16 MiB: store it elsewhere and submit its address"
    )]
    PayloadTooLarge(usize),
    /// The payload cannot be written as JSON.
    #[error("the payload cannot be written as JSON")]
    Json(#[source] Arc<serde_json::Error>),
    /// A number or a duration in milliseconds is outside its range.
    #[error("{what} is {given}, and must be {low} to {high}")]
    OutOfRange {
        /// Which setting.
        what: &'static str,
        /// What was given.
        given: u128,
        /// The least allowed.
        low: u64,
        /// The most allowed.
        high: u64,
    },
    /// The text of a backoff is none.
    #[error("backoff: {0}")]
    Backoff(BackoffError),
    /// The text of required labels is none.
    #[error("requires: {0}")]
    Requires(LabelsError),
    /// A text is empty, too long, or has characters that it cannot have.
    #[error("{what} must be {rule}")]
    Text {
        /// Which setting.
        what: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// A header of one's own cannot have this name.
    #[error("header {name:?}: {why}")]
    Header {
        /// The name.
        name: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// A dispatcher of this version would refuse it.
    #[error("the dispatcher would refuse it: {0}")]
    Refused(String),
    /// A bulk cannot carry this: submit these tasks one by one, or as a stream.
    #[error("a bulk cannot carry {0}: use submit or a stream")]
    NotInBulk(&'static str),
    /// The reply is to come back here, so it cannot also go elsewhere: leave out `reply_to`.
    #[error("who waits for a task needs the reply: leave out reply_to")]
    ReplyToTaken,
}
