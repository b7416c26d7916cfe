//! What workers say of attempts.

use crate::entry::Entry;
use crate::event::{
    Answer, Effect, Expect, Field, Note, Payload, Record, ReplyBody, ReportFacts, Said, Write,
};
use crate::facts::CarId;
use crate::flight::Counts;
use crate::retry::Failure;
use crate::scheduler::{Pending, Scheduler, Timer};
use taskyard_model::{CopyFacts, ErrorKind, Source, State, TaskId, Transition, Wants};

/// Rounds that a copy which a worker handed over has behind it: it runs long, so it is looked at
/// seldom from the start.
const HELD_ROUNDS: u32 = 3;
/// How long a nack may take after its report; a copy in memory and one publish more if it is too short.
const COPY_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// How far the handling of a report is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Nothing follows.
    Last,
    /// The success is being recorded.
    Success,
    /// An attempt that Redis forgot is being recorded, so that its success can be.
    Adoption,
    /// The record is being read, since the books don't know the attempt.
    Look,
    /// The failure is being recorded.
    Failure(Failure),
    /// The return is being recorded.
    Return,
}

impl Scheduler {
    pub(crate) fn reported(&mut self, report: ReportFacts) {
        if self.is_of_another(&report) {
            self.note(Note::LateReport(report.id.clone()));
            return self.release(report.car);
        }
        let attempt = report.attempt;
        match report.said {
            Said::Started => {
                self.has_started(&report);
                let mut fields = vec![Field::StartedAt(self.now)];
                fields.extend(report.worker.clone().map(Field::Worker));
                let expect = Expect::Exactly(attempt);
                let write =
                    Write::new(&report.id, Transition::Start, expect, State::Running, fields);
                self.write(write, Pending::Report(Box::new(report), Step::Last));
            }
            Said::Progress => {
                let fields = vec![Field::ProgressOf(report.car)];
                let expect = Expect::Exactly(attempt);
                let write =
                    Write::new(&report.id, Transition::Progress, expect, State::Running, fields);
                self.write(write, Pending::Report(Box::new(report), Step::Last));
            }
            Said::Succeeded => self.record_success(report, attempt),
            Said::Failed(fault) => {
                let flight = self.flights.get(&report.id).filter(|f| f.attempt == attempt);
                let known = flight.and_then(|f| Some((f.counts.clone()?, f.is_cancel_asked)));
                match known {
                    Some((counts, is_cancelled)) => {
                        let failure = self.failure(&counts, is_cancelled, fault);
                        self.record_failure(report, failure);
                    }
                    None => self.look_first(report),
                }
            }
            Said::Returned { is_orphan: true } => self.look_first(report),
            Said::Returned { is_orphan: false } | Said::Yielded => self.record_return(report),
            Said::Held => match report.copy {
                Some(_) => {
                    let id = report.id.clone();
                    let car = self.take_copy(report, HELD_ROUNDS);
                    self.read(id, Pending::Probe(car));
                }
                None => self.release(report.car),
            },
        }
    }

    pub(crate) fn report_recorded(&mut self, report: ReportFacts, step: Step, answer: Answer) {
        match (step, answer) {
            (Step::Last, _) => self.release(report.car),
            (Step::Success, Answer::Applied(before)) => self.succeeded(&report, before),
            (Step::Success, Answer::Refused(record)) => self.success_refused(report, record),
            (Step::Adoption, _) => {
                let attempt = report.attempt;
                self.record_success(report, attempt);
            }
            (Step::Look, Answer::Applied(record) | Answer::Refused(record)) => {
                self.looked(report, record);
            }
            (Step::Failure(failure), Answer::Applied(before)) => {
                self.failed(report, &failure, before);
            }
            (Step::Return, Answer::Applied(before)) => self.returned(report, before),
            (Step::Failure(_) | Step::Return, Answer::Refused(record)) => {
                self.judge_or_release(report, record);
            }
        }
    }

    /// Whether the attempt was given by this process to another worker than the one that reports:
    /// that one reports it, or is found not to have it. Books that come from heartbeats prove nothing.
    fn is_of_another(&self, report: &ReportFacts) -> bool {
        let flight = self.flights.get(&report.id).filter(|f| f.attempt == report.attempt);
        let flight = flight.filter(|f| f.counts.is_some());
        let owner = flight.and_then(|f| self.workers.get(f.worker));
        owner.zip(report.worker.as_ref()).is_some_and(|(owner, named)| owner.id != *named)
    }

    fn has_started(&mut self, report: &ReportFacts) {
        let now = self.now;
        let flight = self.flights.get_mut(&report.id).filter(|f| f.attempt == report.attempt);
        let Some(flight) = flight else { return };
        flight.started_at = Some(now);
        if flight.is_suspect {
            self.trust_later(&report.id, report.attempt, now);
        }
    }

    /// Records a success of an attempt whose record has `attempt`.
    fn record_success(&mut self, report: ReportFacts, attempt: u32) {
        let mut fields = vec![Field::FinishedAt(self.now), Field::ResultOf(report.car)];
        let flight = self.flights.get(&report.id).filter(|f| f.attempt == report.attempt);
        let keep_ms = flight.and_then(|f| f.counts.as_ref()?.keep_ms);
        let is_known = flight.is_some_and(|f| f.counts.is_some());
        if !is_known {
            fields.push(Field::Attempt(attempt));
        }
        let counts = flight.and_then(|f| f.counts.as_ref());
        if counts.is_none_or(|counts| counts.failures + counts.losses > 0) {
            fields.extend([Field::NoError, Field::NextAt(None)]);
        }
        let expect = Expect::Exactly(attempt);
        let mut write =
            Write::new(&report.id, Transition::Succeed, expect, State::Succeeded, fields);
        write.payload = Payload::Delete;
        write.keep = self.keep(State::Succeeded, keep_ms, None);
        write.wants = if is_known { Wants::Nothing } else { Wants::Record };
        self.write(write, Pending::Report(Box::new(report), Step::Success));
    }

    fn succeeded(&mut self, report: &ReportFacts, before: Option<Record>) {
        let flight = self.end_flight(&report.id, u32::MAX);
        let kind = flight.as_ref().and_then(|f| f.kind.clone());
        let newer = flight.as_ref().filter(|f| f.attempt > report.attempt);
        if let Some(newer) = newer {
            // An older attempt has won: the newer need not go on.
            let (number, attempt) = (newer.worker, newer.attempt);
            if let Some(worker) = self.workers.get(number).map(|w| w.id.clone()) {
                let id = report.id.clone();
                self.effect(Effect::AskCancel { worker, id, attempt });
            }
        } else if let Some(flight) = &flight {
            self.learn(flight, report.ran_us, report.had_us);
        }
        self.note(Note::Finished { id: report.id.clone(), state: State::Succeeded, kind });
        let booked = flight.and_then(|f| f.reply);
        let reply =
            booked.or_else(|| before.and_then(|r| r.reply)).or_else(|| report.reply.clone());
        match reply {
            None => self.release(report.car),
            Some(to) => {
                let body = ReplyBody::Report { car: report.car, state: State::Succeeded };
                self.reply(Some(report.car), &report.id, to, body, true);
            }
        }
    }

    fn success_refused(&mut self, report: ReportFacts, record: Option<Record>) {
        let Some(record) = record else {
            // Forgotten between the two: once more, from nothing.
            let attempt = report.attempt;
            return self.record_success(report, attempt);
        };
        match record.state {
            State::Succeeded => {
                self.end_flight(&report.id, report.attempt);
                // It was recorded before, and its reply may still be owed.
                self.conclude(Some(report.car), &report.id, record.reply);
            }
            state if state.is_final() => {
                self.end_flight(&report.id, report.attempt);
                self.note(Note::LateReport(report.id.clone()));
                if record.owes_dead_letter {
                    // Whoever ended it died before its copy was issued.
                    let (id, attempt) = (report.id.clone(), record.attempt);
                    self.effect(Effect::Reissue { id, attempt });
                }
                self.conclude(Some(report.car), &report.id, record.reply);
            }
            _ if record.attempt < report.attempt => {
                let expect = Expect::Below(report.attempt);
                let fields = vec![Field::Attempt(report.attempt)];
                let write =
                    Write::new(&report.id, Transition::Adopt, expect, State::Dispatched, fields);
                self.write(write, Pending::Report(Box::new(report), Step::Adoption));
            }
            State::Queued | State::Dispatched | State::Retrying => {
                self.record_success(report, record.attempt);
            }
            _ => {
                self.note(Note::LateReport(report.id.clone()));
                self.release(report.car);
            }
        }
    }

    fn look_first(&mut self, report: ReportFacts) {
        let id = report.id.clone();
        self.read(id, Pending::Report(Box::new(report), Step::Look));
    }

    /// The books do not know the attempt: the record decides.
    fn looked(&mut self, report: ReportFacts, record: Option<Record>) {
        let is_live = record.as_ref().is_some_and(|r| {
            r.attempt == report.attempt && matches!(r.state, State::Dispatched | State::Running)
        });
        let Some(record) = record.clone().filter(|_| is_live) else {
            return self.judge_or_release(report, record);
        };
        let counts = Counts {
            failures: record.failures,
            losses: record.losses,
            max_attempts: record.max_attempts,
            max_losses: record.max_losses,
            backoff: record.backoff,
            keep_ms: record.keep_ms,
        };
        match report.said {
            Said::Failed(fault) => {
                let failure = self.failure(&counts, record.is_cancel_asked, fault);
                self.record_failure(report, failure);
            }
            // Back from an earlier life of the worker: lost if it had begun, else free.
            _ if record.state == State::Running => {
                self.note(Note::Lost(report.id.clone(), record.worker.clone()));
                let failure = self.loss(&counts, record.is_cancel_asked);
                self.record_failure(report, failure);
            }
            _ if report.copy.as_ref().is_some_and(|copy| copy.is_suspect) => {
                let failure = self.loss(&counts, record.is_cancel_asked);
                self.record_failure(report, failure);
            }
            _ => self.record_return(report),
        }
    }

    /// A report that does not fit its record: its payload, if it has one, is a copy that does.
    fn judge_or_release(&mut self, report: ReportFacts, record: Option<Record>) {
        if report.copy.is_none() {
            return self.release(report.car);
        }
        let car = self.take_copy(report, 0);
        self.judge(car, record);
    }

    /// The report is the copy from now on.
    fn take_copy(&mut self, report: ReportFacts, rounds: u32) -> CarId {
        let car = report.car;
        if let Some(mut facts) = report.copy {
            facts.attempt = report.attempt;
            facts.rounds = facts.rounds.max(rounds);
            facts.due_at = None;
            let attempt = facts.attempt;
            if let Some(start_by) = facts.start_by {
                self.at(start_by, Timer::StartBy { id: facts.id.clone(), attempt });
            }
            let copy = CopyFacts { attempt, source: Source::Report, is_redelivered: false };
            self.entries.insert(car, Entry::new(facts, copy, self.now));
        }
        car
    }

    fn record_failure(&mut self, report: ReportFacts, failure: Failure) {
        let error = match failure.error_kind {
            Some(ErrorKind::Lost) | None => Field::Error("its worker was lost while it ran".into()),
            _ => Field::ErrorOf(report.car),
        };
        let mut write = self.failure_write(&report.id, report.attempt, &failure, Some(error));
        if report.copy.is_none() && failure.state != State::Cancelled {
            // Until its copy is here: who reports a failure and then acks has thrown it away.
            write.payload = Payload::Keep;
        }
        self.write(write, Pending::Report(Box::new(report), Step::Failure(failure)));
    }

    fn failed(&mut self, report: ReportFacts, failure: &Failure, before: Option<Record>) {
        let flight = self.end_flight(&report.id, report.attempt);
        if let Some(flight) = &flight {
            self.learn(flight, report.ran_us, report.had_us);
        }
        if report.copy.is_some() {
            let car = self.take_copy(report, 0);
            if let (Some(entry), Some(before)) = (self.entries.get_mut(car), before) {
                entry.facts.reply = before.reply.or(entry.facts.reply.take());
            }
            return self.follow_failure(car, failure);
        }
        // The nacked delivery is on its way: it is the copy. Only the end is told now.
        if failure.state != State::Cancelled {
            self.await_copy(&report.id, report.attempt);
        }
        match failure.state.is_final() {
            true => {
                let id = report.id.clone();
                self.note(Note::Finished { id: id.clone(), state: failure.state, kind: None });
                let reply = before.and_then(|r| r.reply).or_else(|| flight.and_then(|f| f.reply));
                self.conclude(Some(report.car), &id, reply);
            }
            false => {
                self.note(Note::Retrying(report.id.clone()));
                self.release(report.car);
            }
        }
    }

    /// The nack that follows a report brings the copy, unless it has already.
    fn await_copy(&mut self, id: &TaskId, attempt: u32) {
        if self.entries.of(id).next().is_some() {
            return;
        }
        self.copies_due.insert(id.clone(), attempt);
        self.at(self.now + COPY_WITHIN, Timer::CopyDue { id: id.clone(), attempt });
    }

    /// Its worker has not nacked what it said had failed: the stored copy goes round instead. A nack
    /// that comes later brings a second copy, of which one is dropped.
    pub(crate) fn copy_is_overdue(&mut self, id: TaskId, attempt: u32) {
        if self.copies_due.get(&id) == Some(&attempt) {
            self.copies_due.swap_remove(&id);
            self.effect(Effect::Reissue { id, attempt });
        }
    }

    fn record_return(&mut self, report: ReportFacts) {
        let expect = Expect::Exactly(report.attempt);
        let mut write =
            Write::new(&report.id, Transition::Requeue, expect, State::Queued, Vec::new());
        write.payload = if report.copy.is_some() { Payload::Delete } else { Payload::Keep };
        write.wants = Wants::Record;
        self.write(write, Pending::Report(Box::new(report), Step::Return));
    }

    fn returned(&mut self, report: ReportFacts, before: Option<Record>) {
        self.end_flight(&report.id, report.attempt);
        self.note(Note::CameBack(report.id.clone()));
        if report.copy.is_none() {
            self.await_copy(&report.id, report.attempt);
            return self.release(report.car);
        }
        let is_orphan = matches!(report.said, Said::Returned { is_orphan: true });
        let car = self.take_copy(report, 0);
        if let Some(entry) = self.entries.get_mut(car) {
            entry.facts.is_suspect = is_orphan;
        }
        match before.is_some_and(|record| record.is_cancel_asked) {
            true => self.cancel_copy(car),
            false => self.keep_copy(car),
        }
    }
}
