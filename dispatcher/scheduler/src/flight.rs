use crate::event::ReplyTo;
use crate::facts::Facts;
use std::sync::Arc;
use taskyard_model::{Backoff, Kind, Timestamp};

/// What decides about a failure; known of attempts that this process dispatched.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    pub(crate) failures: u32,
    pub(crate) losses: u32,
    pub(crate) max_attempts: u32,
    pub(crate) max_losses: u32,
    pub(crate) backoff: Backoff,
    pub(crate) keep_ms: Option<u64>,
}

impl Counts {
    pub(crate) fn of(task: &Facts) -> Self {
        Self {
            failures: task.failures,
            losses: task.losses,
            max_attempts: task.max_attempts,
            max_losses: task.max_losses,
            backoff: task.backoff,
            keep_ms: task.keep_ms,
        }
    }
}

/// An attempt that a worker has, as far as this process knows: the books.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) attempt: u32,
    /// Number of the worker.
    pub(crate) worker: usize,
    /// The worker's life to which it was given.
    pub(crate) boot: Arc<str>,
    pub(crate) slots: u32,
    pub(crate) dispatched_at: Timestamp,
    /// The broker has confirmed the message to the worker.
    pub(crate) is_confirmed: bool,
    pub(crate) started_at: Option<Timestamp>,
    /// Heartbeats in a row that did not list it.
    pub(crate) absent: u32,
    /// Published after its absence was noticed.
    pub(crate) marker: Option<u64>,
    pub(crate) marked_at: Timestamp,
    pub(crate) reissued_at: Option<Timestamp>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) is_timed_out: bool,
    pub(crate) is_suspect: bool,
    /// Its kind is not known to be short: it holds its slots.
    pub(crate) is_long: bool,
    /// Until then its durable copy is known to be on its way round the delays: nothing has vanished.
    /// After that it may have come back to another leader.
    pub(crate) copy_until: Timestamp,
    pub(crate) is_cancel_asked: bool,
    /// Unknown where it was only seen in a heartbeat or in the store.
    pub(crate) kind: Option<Kind>,
    pub(crate) counts: Option<Counts>,
    pub(crate) reply: Option<ReplyTo>,
}
