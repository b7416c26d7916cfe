use super::text;
use crate::amqp::Headers;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use taskyard_model::{Backoff, Kind, Labels, TaskId, Timestamp};

/// Everything about a task but its payload: what travels in front of it between our own programs.
///
/// As JSON with short names, where absent means the default; unknown names are ignored, so that
/// older and newer programs understand each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The task.
    #[serde(rename = "id", with = "text")]
    pub id: TaskId,
    /// What sort of task.
    #[serde(rename = "k", with = "text")]
    pub kind: Kind,
    /// 0 to 9; `None` leaves it to the kind's or pool's default.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Number of its current or last dispatch; 0 before the first.
    #[serde(rename = "a", default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
    /// Failed attempts.
    #[serde(rename = "f", default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// Lost attempts.
    #[serde(rename = "l", default, skip_serializing_if = "is_zero")]
    pub losses: u32,
    /// When a dispatcher first saw it.
    #[serde(
        rename = "at",
        default,
        with = "text::instant",
        skip_serializing_if = "Option::is_none"
    )]
    pub accepted_at: Option<Timestamp>,
    /// Not to be dispatched before.
    #[serde(
        rename = "due",
        default,
        with = "text::instant",
        skip_serializing_if = "Option::is_none"
    )]
    pub due_at: Option<Timestamp>,
    /// Not to be started after.
    #[serde(
        rename = "by",
        default,
        with = "text::instant",
        skip_serializing_if = "Option::is_none"
    )]
    pub start_by: Option<Timestamp>,
    /// Limit of one attempt in ms.
    #[serde(rename = "to", default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Should be finished by.
    #[serde(
        rename = "dl",
        default,
        with = "text::instant",
        skip_serializing_if = "Option::is_none"
    )]
    pub deadline: Option<Timestamp>,
    /// Failures at which it has failed for good.
    #[serde(rename = "ma", default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Losses that it survives.
    #[serde(rename = "ml", default, skip_serializing_if = "Option::is_none")]
    pub max_losses: Option<u32>,
    /// Wait before the next attempt.
    #[serde(
        rename = "bo",
        default,
        with = "text::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub backoff: Option<Backoff>,
    /// Who it is charged to.
    #[serde(rename = "tn", default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Labels that its worker needs.
    #[serde(rename = "rq", default, with = "text", skip_serializing_if = "Labels::is_empty")]
    pub requires: Labels,
    /// Slots that it takes.
    #[serde(rename = "s", default = "one", skip_serializing_if = "is_one")]
    pub slots: u32,
    /// Expected run time in ms, by the submitter.
    #[serde(rename = "es", default, skip_serializing_if = "Option::is_none")]
    pub estimate_ms: Option<u64>,
    /// How long the final state is remembered, in ms.
    #[serde(rename = "kp", default, skip_serializing_if = "Option::is_none")]
    pub keep_ms: Option<u64>,
    /// Queue for the reply.
    #[serde(rename = "rt", default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Comes back with the reply.
    #[serde(rename = "ci", default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Who published it, as RabbitMQ checked.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Type of the payload.
    #[serde(rename = "ct", default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Encoding of the payload.
    #[serde(rename = "ce", default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// The attempt before may have killed its worker.
    #[serde(rename = "sus", default, skip_serializing_if = "is_false")]
    pub is_suspect: bool,
    /// How often it has come back while its attempt was still listed.
    #[serde(rename = "ro", default, skip_serializing_if = "is_zero")]
    pub rounds: u32,
    /// Where a checkpoint begins in the payload.
    #[serde(rename = "cp", default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_at: Option<u64>,
    /// All headers as submitted.
    #[serde(rename = "h", default, skip_serializing_if = "has_none")]
    pub headers: Headers,
}

/// A task with its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Everything but the payload; boxed, since tasks are passed on many times.
    pub head: Box<Head>,
    /// The payload: opaque bytes.
    pub payload: Bytes,
}

impl Head {
    /// A task of this kind, everything else by default.
    #[must_use]
    pub fn new(id: TaskId, kind: Kind) -> Self {
        Self {
            id,
            kind,
            priority: None,
            attempt: 0,
            failures: 0,
            losses: 0,
            accepted_at: None,
            due_at: None,
            start_by: None,
            timeout_ms: None,
            deadline: None,
            max_attempts: None,
            max_losses: None,
            backoff: None,
            tenant: None,
            requires: Labels::default(),
            slots: 1,
            estimate_ms: None,
            keep_ms: None,
            reply_to: None,
            correlation_id: None,
            user: None,
            content_type: None,
            content_encoding: None,
            is_suspect: false,
            rounds: 0,
            checkpoint_at: None,
            headers: Headers::default(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_one(n: &u32) -> bool {
    *n == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(b: &bool) -> bool {
    !*b
}

fn one() -> u32 {
    1
}

fn has_none(headers: &Headers) -> bool {
    headers.inner().is_empty()
}
