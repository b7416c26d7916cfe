//! What becomes of an attempt that failed or was lost.

use crate::entry::Phase;
use crate::event::{Answer, Expect, Fault, Field, HeadUpdate, Note, Payload, Place, Write};
use crate::facts::CarId;
use crate::flight::Counts;
use crate::scheduler::{Pending, Scheduler};
use std::time::Duration;
use taskyard_model::{ErrorKind, State, TaskId, Timestamp, Transition, Wants};

/// Longest wait that a worker may ask for. It speaks for others (an HTTP endpoint's Retry-After): one
/// who is wrong by a factor of a thousand shall not put tasks off for months.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// The decision about an attempt that did not succeed, made once and then recorded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) transition: Transition,
    pub(crate) state: State,
    pub(crate) failures: u32,
    pub(crate) losses: u32,
    pub(crate) next_at: Option<Timestamp>,
    pub(crate) error_kind: Option<ErrorKind>,
    keep_ms: Option<u64>,
}

impl Scheduler {
    /// A failed attempt: retried after its backoff, or the end.
    pub(crate) fn failure(
        &mut self,
        counts: &Counts,
        is_cancel_asked: bool,
        fault: Fault,
    ) -> Failure {
        let Fault { is_permanent, error_kind, retry_after_ms } = fault;
        let failures = counts.failures + 1;
        let (transition, state) = match error_kind {
            _ if is_cancel_asked => (Transition::CancelTaken, State::Cancelled),
            ErrorKind::Cancelled => (Transition::CancelTaken, State::Cancelled),
            ErrorKind::Expired => (Transition::Expire, State::Expired),
            _ if is_permanent || failures >= counts.max_attempts => {
                (Transition::Fail, State::Failed)
            }
            _ => (Transition::Retry, State::Retrying),
        };
        let share = self.rng.share();
        let asked = Duration::from_millis(retry_after_ms.unwrap_or(0)).min(RETRY_AFTER_MAX);
        let wait = counts.backoff.wait(failures, share).max(asked);
        let next_at = (state == State::Retrying).then(|| self.now + wait);
        // What never ran, or was ended on demand, has not failed.
        let has_failed = matches!(state, State::Failed | State::Retrying);
        let failures = if has_failed { failures } else { counts.failures };
        let error_kind = match state {
            State::Cancelled => ErrorKind::Cancelled,
            _ => error_kind,
        };
        let losses = counts.losses;
        let keep_ms = counts.keep_ms;
        Failure {
            transition,
            state,
            failures,
            losses,
            next_at,
            error_kind: Some(error_kind),
            keep_ms,
        }
    }

    /// A lost attempt: goes again at once, or the end.
    pub(crate) fn loss(&mut self, counts: &Counts, is_cancel_asked: bool) -> Failure {
        let losses = counts.losses + 1;
        let (transition, state, error_kind) = match () {
            () if is_cancel_asked => {
                (Transition::CancelTaken, State::Cancelled, Some(ErrorKind::Cancelled))
            }
            () if losses > counts.max_losses => {
                (Transition::Fail, State::Failed, Some(ErrorKind::Lost))
            }
            () => (Transition::Requeue, State::Queued, None),
        };
        let failures = counts.failures;
        Failure {
            transition,
            state,
            failures,
            losses,
            next_at: None,
            error_kind,
            keep_ms: counts.keep_ms,
        }
    }

    /// The change that records the decision.
    pub(crate) fn failure_write(
        &self,
        id: &TaskId,
        attempt: u32,
        failure: &Failure,
        error: Option<Field>,
    ) -> Write {
        let mut fields = vec![
            Field::Failures(failure.failures),
            Field::Losses(failure.losses),
            Field::NextAt(failure.next_at),
        ];
        fields.extend(error);
        if let Some(kind) = failure.error_kind {
            fields.push(Field::ErrorKind(kind));
        }
        if failure.state.is_final() {
            fields.push(Field::FinishedAt(self.now));
        }
        if failure.state == State::Failed {
            fields.push(Field::OwesDeadLetter(true));
        }
        let expect = Expect::Exactly(attempt);
        let mut write = Write::new(id, failure.transition, expect, failure.state, fields);
        write.payload = Payload::Delete;
        if failure.state.is_final() {
            write.keep = self.keep(failure.state, failure.keep_ms, None);
            write.wants = Wants::Record;
        }
        write
    }

    /// Records a failure or loss of an attempt whose copy is here.
    pub(crate) fn fail_copy(&mut self, car: CarId, failure: Failure, why: &'static str) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        entry.phase = Phase::Checking;
        let (id, attempt) = (entry.facts.id.clone(), entry.facts.attempt);
        let write = self.failure_write(&id, attempt, &failure, Some(Field::Error(why.into())));
        self.write(write, Pending::FailCopy { car, verdict: failure });
    }

    pub(crate) fn copy_failed(&mut self, car: CarId, failure: Failure, answer: Answer) {
        let Some(entry) = self.entries.get(car) else { return };
        let (id, attempt) = (entry.facts.id.clone(), entry.facts.attempt);
        match answer {
            Answer::Refused(record) => self.judge(car, record),
            Answer::Applied(_) => {
                self.end_flight(&id, attempt);
                self.follow_failure(car, &failure);
            }
        }
    }

    /// The decision is on record: the copy goes where it leads.
    pub(crate) fn follow_failure(&mut self, car: CarId, failure: &Failure) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        entry.facts.failures = failure.failures;
        entry.facts.losses = failure.losses;
        entry.facts.rounds = 0;
        entry.facts.due_at = failure.next_at;
        // A loss makes it suspect: it may be what killed the worker. A failure clears it.
        entry.facts.is_suspect = failure.state == State::Queued;
        let id = entry.facts.id.clone();
        let kind = Some(entry.facts.kind.clone());
        match failure.state {
            State::Retrying => {
                self.note(Note::Retrying(id));
                self.keep_copy(car);
            }
            State::Queued => self.keep_copy(car),
            State::Failed => {
                self.note(Note::Finished { id, state: failure.state, kind });
                self.bury(car);
            }
            _ => {
                self.note(Note::Finished { id, state: failure.state, kind });
                self.conclude_copy(car);
            }
        }
    }

    /// To the dead letters; then the debt is struck out, and the end is told.
    pub(crate) fn bury(&mut self, car: CarId) {
        let Some(entry) = self.entries.get(car) else { return };
        let update = HeadUpdate::of(&entry.facts);
        self.publish(car, Place::Dead, update, Pending::Buried(car));
    }

    pub(crate) fn buried(&mut self, car: CarId) {
        let Some(entry) = self.entries.get(car) else { return };
        let id = entry.facts.id.clone();
        let fields = vec![Field::OwesDeadLetter(false)];
        let mut write = Write::new(&id, Transition::Settle, Expect::Any, State::Failed, fields);
        write.payload = Payload::Delete;
        self.write(write, Pending::Struck(car));
    }
}
