//! Copies and submissions as they arrive.

use crate::class::ClassKey;
use crate::entry::{Entry, Phase};
use crate::event::{
    Answer, Arrival, Destination, Effect, Expect, Field, HeadUpdate, Note, Payload, Place, Record,
    RefusedSubmission, ReplyBody, ReplyTo, Write,
};
use crate::facts::CarId;
use crate::scheduler::{Pending, Scheduler, Timer};
use std::sync::Arc;
use taskyard_model::{ErrorKind, Source, State, TaskId, Timestamp, Transition, Wants};

/// What a waiting task says of itself when nobody takes its class.
const NO_WORKER: &str = "no worker takes this kind";
/// The same where some would, but for what else it asks.
const NO_FITTING_WORKER: &str = "no worker takes this kind with its labels and slots";
/// A submission is on record within this time, dispatched or waiting. Shorter costs a write more
/// for each task of a burst; longer keeps people from seeing it.
const ACCEPT_WITHIN: std::time::Duration = std::time::Duration::from_millis(250);

impl Scheduler {
    pub(crate) fn arrived(&mut self, arrival: Arrival) {
        let Arrival { car, copy, facts, destination, lane } = arrival;
        let update = HeadUpdate::of(&facts);
        let (start_by, due_at) = (facts.start_by, facts.due_at);
        let has_never_run = facts.failures == 0 && facts.losses == 0;
        let id = facts.id.clone();
        let attempt = facts.attempt;
        self.entries.insert(car, Entry { lane, ..Entry::new(facts, copy, self.now) });
        if !copy.source.is_submission() {
            self.copies_due.swap_remove(&id);
        }
        match destination {
            Destination::Here => {}
            Destination::Named => return self.move_to(car, Place::Again, update),
            Destination::Elsewhere(pool) => return self.move_to(car, Place::Pool(pool), update),
        }
        if let Some(start_by) = start_by.filter(|_| has_never_run) {
            self.at(start_by, Timer::StartBy { id: id.clone(), attempt });
        }
        match copy.source {
            // Whose start-by has passed is recorded first, too: it may be a second submission.
            Source::Submit if start_by.is_some_and(|at| at <= self.now) => self.accept(car),
            Source::Submit if due_at.is_some_and(|at| at > self.now) => self.accept(car),
            Source::Submit if !self.is_taken(car) => self.accept(car),
            Source::Submit => {
                if let Some(entry) = self.entries.get_mut(car) {
                    entry.is_new = true;
                }
                self.fresh.push_back(car);
                self.wait(car);
            }
            Source::Lane | Source::Parked => {
                self.reservoirs.arrived(lane, self.now);
                self.keep_copy(car);
            }
            Source::SubmitExpired
            | Source::Again
            | Source::WorkerExpired
            | Source::WorkerNacked
            | Source::Report => self.read(id, Pending::Probe(car)),
        }
    }

    /// Whether some worker takes tasks like this one, credit or not.
    fn is_taken(&mut self, car: CarId) -> bool {
        let Some(entry) = self.entries.get(car) else { return false };
        let (key, workers) = (ClassKey::of(&entry.facts), &self.workers);
        let class = self.classes.id_of(key, |key| workers.who_take(key));
        !self.classes.get(class).workers.is_empty()
    }

    fn why_not_taken(&self, car: CarId) -> &'static str {
        let takes_kind = self.entries.get(car).is_some_and(|entry| {
            self.workers.iter().any(|(_, worker)| worker.takes_kind(&entry.facts.kind))
        });
        if takes_kind { NO_FITTING_WORKER } else { NO_WORKER }
    }

    /// When the oldest submission has to be on record.
    pub(crate) fn accept_by(&self) -> Option<Timestamp> {
        let &oldest = self.fresh.front()?;
        // One that is gone or on record is struck out at once.
        Some(self.entries.get(oldest).map_or(self.now, |entry| entry.held_since + ACCEPT_WITHIN))
    }

    /// What could not be dispatched soon is recorded as waiting. Until then its delivery is all
    /// there is of it, unacked; a task that goes at once costs a write less.
    pub(crate) fn accept_fresh(&mut self) {
        while self.accept_by().is_some_and(|by| by <= self.now) {
            if let Some(car) = self.fresh.pop_front() {
                self.accept_waiting(car);
            }
        }
    }

    /// Records a submission that waits in the window, if nothing is on record yet.
    pub(crate) fn accept_waiting(&mut self, car: CarId) {
        let is_waiting = self
            .entries
            .get(car)
            .is_some_and(|entry| entry.is_new && matches!(entry.phase, Phase::Waiting { .. }));
        if is_waiting {
            self.unwait(car);
            self.accept(car);
        }
    }

    /// Records a submission as waiting.
    fn accept(&mut self, car: CarId) {
        let Some(entry) = self.entries.get(car) else { return };
        let id = entry.facts.id.clone();
        let due_at = entry.facts.due_at.filter(|&at| at > self.now);
        let state = if due_at.is_some() { State::Delayed } else { State::Queued };
        let mut fields = vec![Field::All(car), Field::NextAt(due_at)];
        let is_taken = self.is_taken(car);
        if !is_taken {
            fields.push(Field::Reason(self.why_not_taken(car)));
        }
        if let Some(entry) = self.entries.get_mut(car) {
            entry.is_plain = is_taken && due_at.is_none();
        }
        let write = Write::new(&id, Transition::Accept, Expect::Any, state, fields);
        self.write(write, Pending::Accept(car));
    }

    pub(crate) fn accepted(&mut self, car: CarId, answer: Answer) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        entry.is_new = false;
        match answer {
            Answer::Applied(_) => {
                let id = entry.facts.id.clone();
                self.note(Note::Accepted(id));
                self.keep_copy(car);
            }
            Answer::Refused(record) => {
                entry.is_plain = false;
                self.judge(car, record);
            }
        }
    }

    /// This delivery is the durable copy: it waits here, or where it does not stand in the way.
    pub(crate) fn keep_copy(&mut self, car: CarId) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        entry.live = entry.facts.attempt;
        entry.is_kept = true;
        // What waits again is with no worker: books that say otherwise would hold a slot for ever,
        // since nobody looks for an attempt whose copy is here.
        let (id, attempt) = (entry.facts.id.clone(), entry.live);
        self.end_flight(&id, attempt);
        let Some(entry) = self.entries.get_mut(car) else { return };
        if let Some(due_at) = entry.facts.due_at.filter(|&at| at > self.now) {
            return self.later(car, due_at);
        }
        let has_never_run = entry.facts.failures == 0 && entry.facts.losses == 0;
        if has_never_run && entry.facts.start_by.is_some_and(|at| at <= self.now) {
            return self.expire(car);
        }
        let is_from_backlog = matches!(entry.copy.source, Source::Lane | Source::Parked);
        let key = ClassKey::of(&entry.facts);
        let is_large = entry.facts.bytes > self.settings.waiting_bytes_max && !is_from_backlog;
        let workers = &self.workers;
        let class = self.classes.id_of(key, |key| workers.who_take(key));
        let is_untakeable = self.classes.get(class).workers.is_empty();
        let is_crowded = self.classes.waiting_in(class) >= self.settings.untakeable_tasks;
        // From the backlog only so many messages come at once: those that nobody takes must not be
        // in the way of what is behind them.
        if is_untakeable && (is_crowded || is_from_backlog) {
            return self.park(car);
        }
        self.wait(car);
        if is_large {
            self.reservoirs.large.push(car);
        }
    }

    /// Waits for an instant: in memory when it is near, else in a delay.
    pub(crate) fn later(&mut self, car: CarId, due_at: Timestamp) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        entry.facts.due_at = Some(due_at);
        entry.live = entry.facts.attempt;
        entry.is_kept = true;
        if due_at <= self.now + self.settings.near {
            entry.phase = Phase::Holding { until: due_at };
            return self.at(due_at, Timer::Due(car));
        }
        let update = HeadUpdate::of(&entry.facts);
        self.move_to(car, Place::Later(due_at), update);
    }

    /// The start-by of a submission has passed. It may be a second submission of its task, and then
    /// says nothing about the first: only a copy that is on record is ended by its own.
    pub(crate) fn start_by_passed(&mut self, id: TaskId, attempt: u32) {
        if self.entries.of(&id).next().is_none() {
            return self.start_by_passed_elsewhere(id, attempt);
        }
        let is_over = |entry: &Entry| entry.facts.start_by.is_some_and(|at| at <= self.now);
        let Some((car, entry)) = self.entries.of(&id).find(|(_, entry)| is_over(entry)) else {
            return;
        };
        let has_run = entry.facts.failures + entry.facts.losses > 0;
        match entry.phase {
            // It was started in time; this is a retry.
            Phase::Waiting { .. } | Phase::Holding { .. } if has_run => {}
            Phase::Waiting { .. } if entry.is_new => self.accept_waiting(car),
            Phase::Waiting { .. } | Phase::Holding { .. } => {
                self.unwait(car);
                self.expire(car);
            }
            // Something is being decided about it: look again soon.
            _ => {
                let soon = self.now + std::time::Duration::from_millis(100);
                self.at(soon, Timer::StartBy { id, attempt });
            }
        }
    }

    /// Nothing is held of it. A worker that has it refuses what it would start too late. Else it is in a
    /// lane, parked or in a delay, and its copy meets the final state when it comes by.
    fn start_by_passed_elsewhere(&mut self, id: TaskId, attempt: u32) {
        if !self.flights.contains_key(&id) {
            self.read(id.clone(), Pending::StartBy { id, attempt });
        }
    }

    pub(crate) fn start_by_read(&mut self, id: &TaskId, attempt: u32, record: Option<&Record>) {
        let is_over = record.is_some_and(|record| {
            record.failures + record.losses == 0 && record.start_by.is_some_and(|at| at <= self.now)
        });
        let is_elsewhere = self.entries.of(id).next().is_none() && !self.flights.contains_key(id);
        if is_over && is_elsewhere {
            let mut write = self.expiry(id, Vec::new());
            write.expect = Expect::Exactly(attempt);
            let ended = Pending::Ended { car: None, id: id.clone(), state: State::Expired };
            self.write(write, ended);
        }
    }

    pub(crate) fn expire(&mut self, car: CarId) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        entry.phase = Phase::Checking;
        let (id, attempt) = (entry.facts.id.clone(), entry.facts.attempt);
        let mut write = self.expiry(&id, vec![Field::All(car)]);
        // A record of a later attempt has been started before.
        write.expect = Expect::Exactly(attempt);
        self.write(write, Pending::Ended { car: Some(car), id, state: State::Expired });
    }

    fn expiry(&self, id: &TaskId, mut fields: Vec<Field>) -> Write {
        fields.extend([
            Field::FinishedAt(self.now),
            Field::NextAt(None),
            Field::ErrorKind(ErrorKind::Expired),
            Field::Error("it was not started before its start-by".into()),
        ]);
        let mut write = Write::new(id, Transition::Expire, Expect::Any, State::Expired, fields);
        write.payload = Payload::Delete;
        write.keep = self.keep(State::Expired, None, None);
        write.wants = Wants::Record;
        write
    }

    pub(crate) fn ended(&mut self, car: Option<CarId>, id: &TaskId, state: State, answer: Answer) {
        match (answer, car) {
            (Answer::Applied(before), _) => {
                self.note(Note::Finished { id: id.clone(), state, kind: None });
                let own = car.and_then(|car| self.entries.get(car)?.facts.reply.clone());
                let reply = own.or_else(|| before.and_then(|record| record.reply));
                self.conclude(car, id, reply);
            }
            (Answer::Refused(record), Some(car)) => self.judge(car, record),
            (Answer::Refused(_), None) => {}
        }
    }

    /// Tells the end of a task where somebody waits for it, then lets go of the car.
    pub(crate) fn conclude(&mut self, car: Option<CarId>, id: &TaskId, reply: Option<ReplyTo>) {
        match reply {
            Some(to) => self.reply(car, id, to, ReplyBody::Stored, true),
            None => car.into_iter().for_each(|car| self.release(car)),
        }
    }

    /// As [`Scheduler::conclude`], for a copy that knows its own reply address.
    pub(crate) fn conclude_copy(&mut self, car: CarId) {
        let Some(entry) = self.entries.get(car) else { return };
        let (id, reply) = (entry.facts.id.clone(), entry.facts.reply.clone());
        self.conclude(Some(car), &id, reply);
    }

    /// Publishes a reply; `owes` says that the record still names its address.
    pub(crate) fn reply(
        &mut self,
        car: Option<CarId>,
        id: &TaskId,
        to: ReplyTo,
        body: ReplyBody,
        owes: bool,
    ) {
        let op = self.expecting(Pending::Replied { car, id: id.clone(), owes });
        self.effect(Effect::Reply { op, id: id.clone(), to, body });
    }

    pub(crate) fn replied(&mut self, car: Option<CarId>, id: TaskId, owes: bool) {
        if owes {
            let fields = vec![Field::Reply(None)];
            let write = Write::new(&id, Transition::Settle, Expect::Any, State::Succeeded, fields);
            return self.write(write, Pending::Last(car));
        }
        car.into_iter().for_each(|car| self.release(car));
    }

    /// A submission that breaks a rule: its record, if it has a usable id, then its place among the
    /// rejected.
    pub(crate) fn refused(&mut self, submission: RefusedSubmission) {
        self.note(Note::Refused(submission.id.clone()));
        let Some(id) = submission.id.clone() else {
            let car = submission.car;
            return self.publish(car, Place::Rejected, HeadUpdate::default(), Pending::Moved(car));
        };
        let reason: Arc<str> = submission.reason.clone();
        let fields = vec![
            Field::Error(reason),
            Field::ErrorKind(ErrorKind::Rejected),
            Field::FinishedAt(self.now),
        ];
        let mut write = Write::new(&id, Transition::Refuse, Expect::Any, State::Rejected, fields);
        write.keep = self.keep(State::Rejected, None, None);
        self.write(write, Pending::Refuse(submission));
    }

    /// Whether or not the id was unknown, the message goes where it can be looked at.
    pub(crate) fn refusal_recorded(&mut self, submission: RefusedSubmission, answer: &Answer) {
        let car = submission.car;
        let is_recorded = matches!(answer, Answer::Applied(_));
        if let (Some(to), Some(id), true) = (submission.reply, submission.id, is_recorded) {
            // The reply of a refusal is not owed: the submitter sees the record as well.
            let op = self.expecting(Pending::Replied { car: None, id: id.clone(), owes: false });
            self.effect(Effect::Reply { op, id, to, body: ReplyBody::Stored });
        }
        self.publish(car, Place::Rejected, HeadUpdate::default(), Pending::Moved(car));
    }
}
