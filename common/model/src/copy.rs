use crate::state::State::{self, *};

/// Where a copy of a task was delivered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The pool's submit queue.
    Submit,
    /// The pool's submit queue, after its `expiration` passed there.
    SubmitExpired,
    /// The way back in: delays, what vanished, what was judged before.
    Again,
    /// The backlog beyond the window.
    Lane,
    /// What no worker could take.
    Parked,
    /// A worker's queue let go of it: its time to lie there passed, or its worker was lost.
    WorkerExpired,
    /// A worker nacked it.
    WorkerNacked,
    /// A worker's report carries the payload along (members of a train cannot be nacked alone).
    Report,
}

impl Source {
    /// Whether it comes straight from a submitter.
    #[must_use]
    pub fn is_submission(self) -> bool {
        matches!(self, Source::Submit | Source::SubmitExpired)
    }
}

/// What is known of a copy from the message itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFacts {
    /// The attempt that it carries; 0 before the first dispatch.
    pub attempt: u32,
    /// Where it came from.
    pub source: Source,
    /// Whether it may have been delivered before, to this process or another.
    pub is_redelivered: bool,
}

/// The task's record: its state and live attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// The state.
    pub state: State,
    /// The number of its current or last dispatch.
    pub attempt: u32,
    /// Whether it must not be started after some instant.
    pub has_start_by: bool,
}

/// What this process knows for itself, in the present session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// It holds another unacked delivery of the same attempt or a later one.
    pub holds_another: bool,
    /// It has seen the broker confirm the live attempt's message to the worker.
    pub is_dispatch_confirmed: bool,
}

/// What to do with a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its start-by passed before a dispatcher saw it: record `expired`, then ack.
    Expire,
    /// The record is gone: write it anew from the copy, then go on with the copy.
    Rebuild,
    /// Redis went back: record the copy's attempt as dispatched, then judge as came back.
    Adopt,
    /// This is the durable copy: keep it until its time or its worker comes.
    Keep,
    /// A newer copy exists, or this process holds this one twice: ack.
    Drop,
    /// A second submission: remember its reply address, ack.
    Answer,
    /// Nobody knows whether the live attempt reached the worker: send the same attempt to the same
    /// worker again, which ignores what it has; if that worker is gone, by the way back in.
    Resend,
    /// The live attempt's own copy is back from the worker: find out whether it ran.
    CameBack,
    /// Waits for its next attempt: into the delay at the stored time.
    Later,
    /// Final: deliver what is still owed, then ack.
    Settle,
}

/// Which copy may be acked: the heart of the promise that nothing is lost.
///
/// A copy of attempt k meets the record of a task with live attempt a. Only the newest attempt's
/// copy is the durable one; anything older may go as soon as the newer is known to be stored.
/// `ARCHITECTURE.md` has the table that this is.
#[must_use]
pub fn judge(copy: CopyFacts, live: Option<Live>, books: Books) -> Verdict {
    let Some(live) = live else {
        return match copy.source {
            Source::SubmitExpired => Verdict::Expire,
            _ => Verdict::Rebuild,
        };
    };
    if live.state.is_final() {
        return Verdict::Settle;
    }
    if copy.attempt > live.attempt {
        return Verdict::Adopt;
    }
    let is_live_copy = copy.attempt == live.attempt;
    let is_second_submission = copy.source == Source::Submit && !copy.is_redelivered;
    match live.state {
        Blocked | Delayed | Queued => match copy.source {
            _ if !is_live_copy => Verdict::Drop,
            _ if is_second_submission => Verdict::Answer,
            _ if books.holds_another => Verdict::Drop,
            Source::SubmitExpired if live.has_start_by => Verdict::Expire,
            // A second one's own expiration: it says nothing about the first.
            Source::SubmitExpired => Verdict::Answer,
            _ => Verdict::Keep,
        },
        Dispatched if is_live_copy => Verdict::CameBack,
        Dispatched if books.is_dispatch_confirmed || books.holds_another => Verdict::Drop,
        Dispatched => Verdict::Resend,
        Running if is_live_copy => Verdict::CameBack,
        Running => Verdict::Drop,
        Retrying if is_live_copy => Verdict::Later,
        Retrying => Verdict::Drop,
        Succeeded | Failed | Cancelled | Expired | Rejected => Verdict::Settle,
    }
}

#[cfg(test)]
mod tests;
