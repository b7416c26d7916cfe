use taskyard_model::{Backoff, Kind, Labels, TaskId, Timestamp};

use crate::event::{Record, ReplyTo};

/// Stands for one delivered copy of a task, or one report: the shell keeps the bytes.
///
/// Numbers are handed out by the shell, never twice in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CarId(pub u64);

/// What the scheduler needs to know of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The task.
    pub id: TaskId,
    /// What sort of task.
    pub kind: Kind,
    /// Labels that its worker needs.
    pub requires: Labels,
    /// Slots that it takes.
    pub slots: u32,
    /// 0 to 9, defaults applied.
    pub priority: u8,
    /// When a dispatcher first saw it.
    pub accepted_at: Timestamp,
    /// Not to be dispatched before.
    pub due_at: Option<Timestamp>,
    /// Not to be started after.
    pub start_by: Option<Timestamp>,
    /// Limit of one attempt in ms.
    pub timeout_ms: Option<u64>,
    /// The attempt that this copy carries.
    pub attempt: u32,
    /// Failed attempts.
    pub failures: u32,
    /// Lost attempts.
    pub losses: u32,
    /// Failures at which it has failed for good.
    pub max_attempts: u32,
    /// Losses that it survives.
    pub max_losses: u32,
    /// Wait before the next attempt.
    pub backoff: Backoff,
    /// How long its final state is remembered, where the submitter said so.
    pub keep_ms: Option<u64>,
    /// Whether the attempt before may have killed its worker.
    pub is_suspect: bool,
    /// How often it has come back while its attempt was still listed.
    pub rounds: u32,
    /// Bytes of the payload.
    pub bytes: usize,
    /// Where its end is to be told.
    pub reply: Option<ReplyTo>,
}

impl Facts {
    /// The record knows the latest reply address; a copy that has been away may carry an older one.
    pub(crate) fn follow_reply(&mut self, record: Option<&Record>) {
        if let Some(reply) = record.and_then(|record| record.reply.as_ref()) {
            self.reply = Some(reply.clone());
        }
    }
}
