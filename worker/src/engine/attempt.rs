use crate::context::CancelReason;
use crate::run::Run;
use std::sync::Arc;
use std::time::{Duration, Instant};
use taskyard_common::wire::{Head, Task};
use taskyard_model::TaskId;

/// An attempt that runs for longer is reported as started. One report more for each task would halve
/// what the broker carries, and nobody sees a state of some milliseconds.
pub(super) const STARTED_AFTER: Duration = Duration::from_millis(20);
/// Between two reports of progress of one attempt.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// How long a handler may go on after it was asked to end, by reason. The dispatcher fails a timed
/// out attempt by itself 5 s after its limit; the other two leave room for a clean-up within the
/// usual grace of a container (30 s, of which 25 are the worker's).
const fn abort_after(reason: CancelReason) -> Duration {
    match reason {
        CancelReason::Timeout => Duration::from_secs(1),
        CancelReason::Command => Duration::from_secs(5),
        CancelReason::Shutdown => Duration::from_secs(3),
    }
}
/// How long a dropped handler may block its thread before it is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(1);

/// Names an attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) id: TaskId,
    pub(crate) attempt: u32,
}

impl Key {
    pub(crate) fn of(head: &Head) -> Self {
        Self { id: head.id.clone(), attempt: head.attempt }
    }
}

/// An attempt that was received and is not settled.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) task: Arc<Task>,
    /// The delivery that is settled with it, if there is one in this session.
    pub(super) tag: Option<u64>,
    /// More deliveries of the same attempt.
    pub(super) more_tags: Vec<u64>,
    pub(super) phase: Phase,
    /// Whether the dispatcher has a copy of its own.
    pub(super) is_held: bool,
}

/// How far an attempt is here.
#[derive(Debug)]
pub(super) enum Phase {
    /// Waits for its slots since then.
    Waiting(Instant),
    /// Has this many slots, and waits until its `started` is confirmed.
    Announced(u32),
    /// Runs.
    Running(Running),
    /// Is over; its last report is not confirmed yet.
    Reported,
}

/// What is to be done about a running attempt at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Fetch and report its progress.
    Progress,
    /// Hand a copy over.
    Hold,
    /// Its run-time limit is over.
    Timeout,
    /// It was asked to end and did not.
    Abort,
    /// It was dropped and still blocks its thread.
    GiveUp,
}

/// An attempt that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) run: Arc<Run>,
    pub(super) slots: u32,
    pub(super) began_at: Instant,
    pub(super) timeout_at: Option<Instant>,
    pub(super) hold_at: Option<Instant>,
    abort_at: Option<Instant>,
    give_up_at: Option<Instant>,
    progress_at: Option<Instant>,
    progressed_at: Option<Instant>,
    /// The instant under which the engine will look at it again.
    pub(super) alarm: Option<Instant>,
}

impl Running {
    pub(super) fn new(run: Arc<Run>, slots: u32, now: Instant) -> Self {
        Self {
            run,
            slots,
            began_at: now,
            timeout_at: None,
            hold_at: None,
            abort_at: None,
            give_up_at: None,
            progress_at: None,
            progressed_at: None,
            alarm: None,
        }
    }

    fn dues(&self) -> [(Option<Instant>, Due); 5] {
        [
            (self.give_up_at, Due::GiveUp),
            (self.abort_at, Due::Abort),
            (self.timeout_at, Due::Timeout),
            (self.hold_at, Due::Hold),
            (self.progress_at, Due::Progress),
        ]
    }

    /// When something is due next.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.dues().into_iter().filter_map(|(at, _)| at).min()
    }

    /// Takes one thing that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let (_, due) = self.dues().into_iter().find(|&(at, _)| is_over(at))?;
        match due {
            Due::GiveUp => self.give_up_at = None,
            Due::Abort => self.abort_at = None,
            Due::Timeout => self.timeout_at = None,
            Due::Hold => self.hold_at = None,
            Due::Progress => self.progress_at = None,
        }
        Some(due)
    }

    /// Asks the handler to end; only the first time counts.
    pub(super) fn cancel(&mut self, reason: CancelReason, now: Instant) {
        if self.run.reason().is_some() {
            return;
        }
        self.run.cancel(reason);
        self.timeout_at = None;
        self.abort_at = Some(now + abort_after(reason));
    }

    /// Drops the handler.
    pub(super) fn abort(&mut self, now: Instant) {
        self.run.abort();
        self.give_up_at = Some(now + GIVE_UP_AFTER);
    }

    /// There is progress: it is due at once, or a while after the one before.
    pub(super) fn noted(&mut self, now: Instant) {
        let soonest = self.progressed_at.map_or(now, |at| at + PROGRESS_INTERVAL);
        self.progress_at = Some(soonest.max(now));
    }

    /// Progress is being reported.
    pub(super) fn progressed(&mut self, now: Instant) {
        self.progressed_at = Some(now);
    }
}
