//! Heartbeats, silence, and attempts that are nowhere.

use crate::event::{BeatFacts, Effect, Fault, Field, Note, Record, ReplyBody};
use crate::facts::CarId;
use crate::flight::Flight;
use crate::retry::Failure;
use crate::scheduler::{Pending, Scheduler};
use crate::worker::Worker;
use std::time::Duration;
use taskyard_model::{ErrorKind, State, TaskId, WorkerId};

/// A worker that does not end an attempt by itself is given so long after the limit.
const TIMEOUT_GRACE: Duration = Duration::from_secs(5);
/// A worker that has been silent for so long and has nothing is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(3_600);
/// What was issued again is not issued again before.
const REISSUE_INTERVAL: Duration = Duration::from_secs(60);

impl Scheduler {
    pub(crate) fn beat(&mut self, beat: BeatFacts) {
        self.hear_again();
        let number = match self.workers.number(&beat.id) {
            None => {
                let worker = Worker::new(&beat, self.now, self.hasher);
                let number = self.workers.insert(worker);
                self.effect(Effect::DeclareWorker(beat.id.clone()));
                self.note(Note::WorkerUp(beat.id.clone()));
                self.workers_changed();
                number
            }
            Some(number) => match self.renew(number, &beat) {
                true => number,
                false => return,
            },
        };
        if self.is_leading {
            self.compare_books(number, &beat.holding);
        }
        if let Some(worker) = self.workers.get_mut(number) {
            worker.holding.clear();
            worker.holding.extend(beat.holding);
        }
        self.classes.open_for(number);
    }

    /// A known worker beats; whether the beat counts.
    fn renew(&mut self, number: usize, beat: &BeatFacts) -> bool {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(number) else { return false };
        if worker.boot != beat.boot {
            if worker.stopped_boot.as_ref() == Some(&beat.boot) {
                let (boot, other) = (beat.boot.clone(), worker.boot.clone());
                self.effect(Effect::AskStop { worker: beat.id.clone(), boot, other });
                return false;
            }
            if worker.previous_boot.as_ref() == Some(&beat.boot) {
                // The older life speaks again: both live. The newer has to go, and this one stays.
                let newer = std::mem::replace(&mut worker.boot, beat.boot.clone());
                worker.previous_boot = None;
                worker.stopped_boot = Some(newer.clone());
                let (worker, boot, other) = (beat.id.clone(), newer, beat.boot.clone());
                self.note(Note::TwoWorkers(worker.clone()));
                self.effect(Effect::AskStop { worker, boot, other });
                return self.renew(number, beat);
            }
            worker.previous_boot = Some(std::mem::replace(&mut worker.boot, beat.boot.clone()));
            worker.mean_us = None;
            worker.look_ahead = 0;
            let id = worker.id.clone();
            // It waits for its queue, if somebody deleted that.
            self.effect(Effect::DeclareWorker(id.clone()));
            self.note(Note::WorkerUp(id));
        }
        let Some(worker) = self.workers.get_mut(number) else { return false };
        let was_away = worker.is_suspect || worker.is_lost;
        worker.last_beat = now;
        worker.is_suspect = false;
        worker.is_lost = false;
        worker.weight = beat.weight;
        worker.takes_trains = beat.takes_trains;
        let takes_otherwise = worker.kinds != beat.kinds
            || worker.labels != beat.labels
            || worker.slots != beat.slots
            || worker.is_draining != beat.is_draining;
        if takes_otherwise || was_away {
            worker.kinds.clone_from(&beat.kinds);
            worker.labels = beat.labels.clone();
            worker.slots = beat.slots;
            worker.is_draining = beat.is_draining;
            let id = worker.id.clone();
            if was_away {
                self.effect(Effect::DeclareWorker(id.clone()));
                self.note(Note::WorkerUp(id));
            }
            self.workers_changed();
        }
        true
    }

    fn workers_changed(&mut self) {
        self.reroute();
        self.reservoirs.want_parked();
    }

    /// What the worker lists against what the books say that it has.
    fn compare_books(&mut self, number: usize, holding: &[(TaskId, u32)]) {
        let listed: indexmap::IndexSet<&(TaskId, u32), _> = {
            let mut set = indexmap::IndexSet::with_hasher(self.hasher);
            set.extend(holding.iter());
            set
        };
        let Some(worker) = self.workers.get(number) else { return };
        let booked: Vec<TaskId> = worker.flights.iter().cloned().collect();
        // What is on its way or still lies in the queue cannot be listed yet.
        let on_the_way = self.now - (self.settings.lie + Duration::from_secs(1));
        let mut asked = Vec::new();
        for id in booked {
            let Some(flight) = self.flights.get_mut(&id) else { continue };
            let key = (id, flight.attempt);
            if listed.contains(&key) {
                flight.absent = 0;
                flight.marker = None;
                if flight.is_cancel_asked {
                    asked.push(key.0);
                }
            } else if flight.dispatched_at < on_the_way {
                flight.absent += 1;
            }
        }
        asked.iter().for_each(|id| self.ask_cancel(id));
        self.book_listed_twice(holding, number);
    }

    /// A new lead: what was waited for in the last one does not come any more, and what the books
    /// do not know was given out by others.
    pub(crate) fn reopen_books(&mut self) {
        // Nobody can tell whether these messages were stored. Their sources come again and are sent
        // again; what a worker has nevertheless, it lists.
        let unconfirmed = self.flights.iter().filter(|(_, flight)| !flight.is_confirmed);
        let unconfirmed: Vec<TaskId> = unconfirmed.map(|(id, _)| id.clone()).collect();
        for id in unconfirmed {
            self.end_flight(&id, u32::MAX);
        }
        for flight in self.flights.values_mut() {
            flight.marker = None;
            // Another leader may have noted a reply address meanwhile: the record is asked at the end.
            flight.counts = None;
        }
        let mut listed = Vec::new();
        for (number, worker) in self.workers.iter_mut() {
            let flights = &worker.flights;
            worker.exclusive.take_if(|exclusive| !flights.contains(exclusive));
            worker.is_clearing = false;
            if !worker.is_lost {
                listed.extend(worker.holding.iter().map(|held| (number, held.clone())));
            }
        }
        for (number, (id, attempt)) in listed {
            self.book_listed(&id, attempt, number);
        }
    }

    /// Given to it by a leader before this one.
    fn book_listed(&mut self, id: &TaskId, attempt: u32, number: usize) {
        if !self.is_known(id) {
            let record = Record::in_flight(attempt, None);
            self.book_unknown(id, &record, number);
        }
    }

    /// A report may overtake the heartbeat that still lists its attempt. So only what two heartbeats in
    /// a row list and the books do not know is really there (given to it before this process led).
    fn book_listed_twice(&mut self, holding: &[(TaskId, u32)], number: usize) {
        let unknown = holding.iter().filter(|(id, _)| !self.is_known(id)).cloned();
        let unknown: Vec<(TaskId, u32)> = unknown.collect();
        let Some(worker) = self.workers.get_mut(number) else { return };
        let mut twice = unknown.clone();
        twice.retain(|held| worker.unknown.contains(held));
        worker.unknown.clear();
        worker.unknown.extend(unknown);
        twice.iter().for_each(|(id, attempt)| self.book_listed(id, *attempt, number));
    }

    fn is_known(&self, id: &TaskId) -> bool {
        self.flights.contains_key(id) || self.entries.of(id).next().is_some()
    }

    /// The worker gets nothing new until it beats.
    pub(crate) fn suspect(&mut self, number: usize) {
        let Some(worker) = self.workers.get_mut(number).filter(|w| !w.is_suspect) else { return };
        worker.is_suspect = true;
        let id = worker.id.clone();
        self.note(Note::WorkerSuspect(id));
    }

    pub(crate) fn look_at_workers(&mut self) {
        let (now, settings) = (self.now, &self.settings);
        let mut notes = Vec::new();
        let mut gone = Vec::new();
        for (number, worker) in self.workers.iter_mut() {
            let silent = worker.silent_for(now);
            if silent >= settings.suspect_after && !worker.is_suspect {
                worker.is_suspect = true;
                notes.push(Note::WorkerSuspect(worker.id.clone()));
            }
            if silent >= settings.lost_after && !worker.is_lost {
                worker.is_lost = true;
                notes.push(Note::WorkerLost(worker.id.clone()));
            }
            if silent >= FORGET_AFTER && worker.used == 0 {
                gone.push(number);
            }
        }
        let has_lost = notes.iter().any(|note| matches!(note, Note::WorkerLost(_)));
        notes.into_iter().for_each(|note| self.note(note));
        for &number in &gone {
            self.workers.remove(number);
            self.route.forget(number);
        }
        if has_lost || !gone.is_empty() {
            self.reroute();
        }
    }

    pub(crate) fn look_at_flights(&mut self) {
        let mut late = Vec::new();
        let mut nowhere = Vec::new();
        for (id, flight) in &self.flights {
            if self.is_over_its_limit(flight) {
                late.push(id.clone());
            }
            // A marker that another leader has read, or that was purged, does not come.
            let is_marked =
                flight.marker.is_some() && self.now.since(flight.marked_at) < REISSUE_INTERVAL;
            if !is_marked && self.is_nowhere(id, flight) {
                nowhere.push(id.clone());
            }
        }
        late.iter().for_each(|id| self.time_out(id));
        if !nowhere.is_empty() {
            self.marker += 1;
            for id in &nowhere {
                if let Some(flight) = self.flights.get_mut(id) {
                    flight.marker = Some(self.marker);
                    flight.marked_at = self.now;
                }
            }
            self.effect(Effect::Mark(self.marker));
        }
    }

    fn is_over_its_limit(&self, flight: &Flight) -> bool {
        let Some(timeout_ms) = flight.timeout_ms.filter(|_| !flight.is_timed_out) else {
            return false;
        };
        let started_at = flight.started_at.unwrap_or(flight.dispatched_at + self.settings.lie);
        self.now > started_at + Duration::from_millis(timeout_ms) + TIMEOUT_GRACE
    }

    /// Neither listed nor on its way nor coming round. What timed out was issued again then: its copy
    /// here says nothing about the worker.
    fn is_nowhere(&self, id: &TaskId, flight: &Flight) -> bool {
        let Some(worker) = self.workers.get(flight.worker) else { return true };
        let is_silent = worker.silent_for(self.now) >= self.settings.lost_after;
        let was_issued = flight.reissued_at.is_some_and(|at| self.now.since(at) < REISSUE_INTERVAL);
        flight.is_confirmed
            && (flight.absent >= 2 || is_silent)
            && self.now.since(flight.dispatched_at) > self.settings.lie * 2
            && !was_issued
            && (flight.is_timed_out
                || flight.copy_until <= self.now && self.entries.of(id).next().is_none())
    }

    /// Whatever workers reported before the marker was published has been read by now.
    pub(crate) fn marker_passed(&mut self, marker: u64) {
        let marked: Vec<TaskId> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.marker == Some(marker))
            .map(|(id, _)| id.clone())
            .collect();
        for id in marked {
            let Some(flight) = self.flights.get_mut(&id) else { continue };
            flight.marker = None;
            let (attempt, is_timed_out) = (flight.attempt, flight.is_timed_out);
            let flight = flight.clone();
            if !self.is_nowhere(&id, &flight) {
                continue;
            }
            if is_timed_out {
                // Its copy has been issued already; the worker is rid of it.
                self.end_flight(&id, attempt);
                continue;
            }
            self.reissue(&id);
        }
    }

    /// What was issued again is back, and nobody has it: it had vanished. Not before: the books may
    /// have listed what had ended, and then there is nothing to issue.
    pub(crate) fn note_if_vanished(&mut self, id: &TaskId, record: &Record) {
        let flight = self.flights.get(id).filter(|f| f.attempt == record.attempt);
        let is_reissued = flight.is_some_and(|f| f.reissued_at.is_some() && !f.is_timed_out);
        let Some(number) = flight.filter(|_| is_reissued).map(|f| f.worker) else { return };
        if let Some(worker) = record.worker.clone() {
            self.note(Note::Vanished(id.clone(), worker));
        }
        let now = self.now;
        if let Some(worker) = self.workers.get_mut(number)
            && !worker.is_lost
            && now.since(worker.consumes_since) >= REISSUE_INTERVAL
        {
            worker.consumes_since = now;
            let id = worker.id.clone();
            self.effect(Effect::AskConsume(id));
        }
    }

    fn reissue(&mut self, id: &TaskId) {
        let now = self.now;
        let Some(flight) = self.flights.get_mut(id) else { return };
        flight.reissued_at = Some(now);
        let attempt = flight.attempt;
        self.effect(Effect::Reissue { id: id.clone(), attempt });
    }

    pub(crate) fn nothing_to_reissue(&mut self, id: &TaskId, attempt: u32) {
        self.end_flight(id, attempt);
    }

    /// A new leader reads its books from the store.
    pub(crate) fn found_in_flight(&mut self, id: &TaskId, record: &Record) {
        if self.is_known(id) {
            return;
        }
        if record.state == State::Retrying || record.owes_dead_letter {
            // It timed out, and whoever recorded that died before its copy was issued again.
            return self.effect(Effect::Reissue { id: id.clone(), attempt: record.attempt });
        }
        if !matches!(record.state, State::Dispatched | State::Running) {
            return;
        }
        let Some(worker) = record.worker.clone() else { return };
        let number = match self.workers.number(&worker) {
            Some(number) => number,
            None => self.silent_worker(worker),
        };
        self.book_unknown(id, record, number);
    }

    /// A worker that only the store knows of; if it does not beat, what it had is lost.
    fn silent_worker(&mut self, id: WorkerId) -> usize {
        let beat = BeatFacts {
            id,
            boot: "".into(),
            kinds: Vec::new(),
            slots: 1,
            labels: taskyard_model::Labels::default(),
            weight: 1,
            is_draining: false,
            takes_trains: false,
            holding: Vec::new(),
        };
        let worker = Worker::new(&beat, self.listening_since, self.hasher);
        self.workers.insert(worker)
    }

    /// The worker did not end the attempt by itself.
    fn time_out(&mut self, id: &TaskId) {
        let Some(flight) = self.flights.get_mut(id) else { return };
        flight.is_timed_out = true;
        let (attempt, is_cancelled) = (flight.attempt, flight.is_cancel_asked);
        let Some(counts) = flight.counts.clone() else { return };
        let failure = self.failure(&counts, is_cancelled, Fault::of(ErrorKind::Timeout));
        let error =
            Field::Error("it ran longer than its limit, and its worker did not end it".into());
        let mut write = self.failure_write(id, attempt, &failure, Some(error));
        if matches!(failure.state, State::Retrying | State::Failed) {
            // The stored payload is the copy that will be retried or buried.
            write.payload = crate::event::Payload::Keep;
        }
        self.write(write, Pending::TimeOut { id: id.clone(), attempt, verdict: failure });
    }

    pub(crate) fn timed_out(
        &mut self,
        id: &TaskId,
        attempt: u32,
        failure: &Failure,
        answer: &crate::event::Answer,
    ) {
        let crate::event::Answer::Applied(before) = answer else { return };
        if self.flights.get(id).is_some_and(|f| f.attempt == attempt) {
            self.reissue(id);
            self.ask_cancel(id);
        } else {
            // The books were closed meanwhile: what is on record is carried on all the same.
            self.effect(Effect::Reissue { id: id.clone(), attempt });
        }
        let reply = before.as_ref().and_then(|record| record.reply.clone());
        if let (true, Some(to)) = (failure.state.is_final(), reply) {
            self.reply(None::<CarId>, id, to, ReplyBody::Stored, true);
        }
        match failure.state.is_final() {
            true => self.note(Note::Finished { id: id.clone(), state: failure.state, kind: None }),
            false => self.note(Note::Retrying(id.clone())),
        }
    }
}

impl Record {
    /// What is known of an attempt that was only seen in a heartbeat.
    fn in_flight(attempt: u32, worker: Option<WorkerId>) -> Self {
        Self {
            state: State::Dispatched,
            attempt,
            failures: 0,
            losses: 0,
            max_attempts: taskyard_model::MAX_ATTEMPTS_DEFAULT,
            max_losses: taskyard_model::MAX_LOSSES_DEFAULT,
            backoff: taskyard_model::Backoff::default(),
            worker,
            next_at: None,
            reply: None,
            owes_dead_letter: false,
            is_cancel_asked: false,
            keep_ms: None,
            start_by: None,
        }
    }
}
