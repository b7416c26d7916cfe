//! A copy meets its record: which copy may be acked.

use crate::entry::Phase;
use crate::event::{
    Answer, Effect, Expect, Fault, Field, HeadUpdate, Note, Payload, Place, Record, ReplyBody,
    ReplyTo, Write,
};
use crate::facts::CarId;
use crate::flight::{Counts, Flight};
use crate::scheduler::{Pending, Scheduler, Timer};
use std::time::Duration;
use taskyard_model::{
    Books, CopyFacts, ErrorKind, Live, Source, State, TaskId, Timestamp, Transition, Verdict, Wants,
};

/// How long a copy waits before it is judged again, at first and from the third round on.
const ROUND: Duration = Duration::from_secs(4);
const LONG_ROUND: Duration = Duration::from_secs(32);
const ROUNDS_SHORT: u32 = 3;
/// So long after its time a copy on its way round is still expected.
const COPY_GRACE: Duration = Duration::from_secs(60);
/// A worker that lives beats within this time.
const BEAT_WITHIN: Duration = Duration::from_millis(2_500);
/// A copy whose worker has yet to beat is judged again so soon.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What is known about an attempt whose copy came back.
enum Whereabouts {
    /// Its worker may still run it.
    WithWorker,
    /// Its worker has not beaten since the copy came back: look again soon.
    NotHeardYet,
    /// It is not there, and its worker lives.
    NotThere,
    /// Its worker is gone, or lives anew.
    WorkerGone,
}

impl Scheduler {
    pub(crate) fn judge(&mut self, car: CarId, record: Option<Record>) {
        let Some(entry) = self.entries.get(car) else { return };
        let id = entry.facts.id.clone();
        let copy = CopyFacts { attempt: entry.facts.attempt, ..entry.copy };
        let live = record.as_ref().map(|r| Live {
            state: r.state,
            attempt: r.attempt,
            has_start_by: r.start_by.is_some(),
        });
        let flight = self.flights.get(&id);
        let books = Books {
            holds_another: self.entries.holds_another(car),
            is_dispatch_confirmed: flight.is_some_and(|f| {
                f.is_confirmed && live.is_some_and(|live| live.attempt == f.attempt)
            }),
        };
        let verdict = taskyard_model::judge(copy, live, books);
        if let (Verdict::Keep | Verdict::Resend | Verdict::CameBack | Verdict::Later, Some(record)) =
            (verdict, &record)
            && self.note_reply(car, record)
        {
            return;
        }
        match (verdict, record) {
            (Verdict::Expire, _) => self.expire(car),
            (Verdict::Rebuild, _) | (_, None) => self.rebuild(car),
            (Verdict::Adopt, Some(_)) => self.adopt(car),
            (Verdict::Keep, Some(record)) => {
                self.follow(car, &record);
                self.follow_first(car, &record);
                self.keep_copy(car);
            }
            (Verdict::Drop | Verdict::Answer, Some(record)) => self.drop_copy(car, &record),
            (Verdict::Resend, Some(record)) => self.resend(car, &record),
            (Verdict::CameBack, Some(record)) => self.came_back(car, &record),
            (Verdict::Later, Some(record)) => {
                self.follow(car, &record);
                self.end_flight(&id, record.attempt);
                match record.next_at.filter(|&at| at > self.now) {
                    Some(next_at) => self.later(car, next_at),
                    None => {
                        self.forget_due(car);
                        self.keep_copy(car);
                    }
                }
            }
            (Verdict::Settle, Some(record)) => self.settle(car, &record),
        }
    }

    /// The record knows better what has happened than a copy that has been away.
    fn follow(&mut self, car: CarId, record: &Record) {
        if let Some(entry) = self.entries.get_mut(car) {
            entry.facts.attempt = record.attempt;
            entry.facts.failures = record.failures;
            entry.facts.losses = record.losses;
            entry.facts.follow_reply(Some(record));
        }
    }

    /// A submission that comes again may be the second one of its task, and the times on record are those
    /// of the first.
    fn follow_first(&mut self, car: CarId, record: &Record) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        if !entry.copy.source.is_submission() {
            return;
        }
        entry.facts.start_by = record.start_by;
        if record.state == State::Delayed {
            entry.facts.due_at = record.next_at;
        }
        let (id, attempt) = (entry.facts.id.clone(), entry.facts.attempt);
        if let Some(start_by) = record.start_by {
            self.at(start_by, Timer::StartBy { id, attempt });
        }
    }

    /// A submission that comes again may be the second one of its task, whose reply address nobody
    /// has recorded yet: it died with whoever was about to. Whether that is being done now; nothing
    /// else happens to the copy before.
    fn note_reply(&mut self, car: CarId, record: &Record) -> bool {
        let Some(entry) = self.entries.get(car) else { return false };
        let is_submission = entry.copy.source.is_submission() && record.reply.is_none();
        let Some(reply) = entry.facts.reply.clone().filter(|_| is_submission) else { return false };
        let id = entry.facts.id.clone();
        self.readdress(&id, &reply);
        let fields = vec![Field::Reply(Some(reply))];
        let write = Write::new(&id, Transition::Readdress, Expect::Any, State::Queued, fields);
        self.write(write, Pending::NoteReply(car));
        true
    }

    pub(crate) fn reply_noted(&mut self, car: CarId, answer: Answer) {
        let Some(entry) = self.entries.get(car) else { return };
        match answer {
            Answer::Applied(_) => self.read(entry.facts.id.clone(), Pending::Probe(car)),
            Answer::Refused(record) => self.judge(car, record),
        }
    }

    fn forget_due(&mut self, car: CarId) {
        if let Some(entry) = self.entries.get_mut(car) {
            entry.facts.due_at = None;
            entry.facts.rounds = 0;
        }
    }

    fn rebuild(&mut self, car: CarId) {
        let Some(entry) = self.entries.get(car) else { return };
        let id = entry.facts.id.clone();
        let due_at = entry.facts.due_at.filter(|&at| at > self.now);
        let state = if due_at.is_some() { State::Delayed } else { State::Queued };
        let fields = vec![Field::All(car), Field::NextAt(due_at)];
        let write = Write::new(&id, Transition::Rebuild, Expect::Any, state, fields);
        self.write(write, Pending::Rebuild(car));
    }

    pub(crate) fn rebuilt(&mut self, car: CarId, answer: Answer) {
        let Some(entry) = self.entries.get(car) else { return };
        match answer {
            Answer::Applied(_) => {
                let (id, attempt) = (entry.facts.id.clone(), entry.facts.attempt);
                let facts = &entry.facts;
                // What was submitted without an id comes by the way back in, as soon as it has one.
                let is_first = entry.copy.source == Source::Again
                    && facts.attempt + facts.rounds == 0
                    && facts.due_at.is_none_or(|at| at > self.now);
                self.end_flight(&id, attempt);
                self.note(if is_first { Note::Accepted(id) } else { Note::Rebuilt(id) });
                self.keep_copy(car);
            }
            Answer::Refused(record) => self.judge(car, record),
        }
    }

    /// Redis went back: the copy proves a later attempt than the record knows.
    fn adopt(&mut self, car: CarId) {
        let Some(entry) = self.entries.get(car) else { return };
        let facts = &entry.facts;
        let fields = vec![
            Field::Attempt(facts.attempt),
            Field::Failures(facts.failures),
            Field::Losses(facts.losses),
        ];
        let expect = Expect::Below(facts.attempt);
        let write = Write::new(&facts.id, Transition::Adopt, expect, State::Dispatched, fields);
        self.write(write, Pending::Adopt(car));
    }

    pub(crate) fn adopted(&mut self, car: CarId, answer: Answer) {
        match answer {
            Answer::Applied(_) => {
                let Some(entry) = self.entries.get_mut(car) else { return };
                // What the worker said of it may have been read, and forgotten with the rest: at
                // worst it runs again, but no failure is made up.
                if entry.copy.source == Source::WorkerNacked {
                    entry.copy.source = Source::WorkerExpired;
                }
                let id = entry.facts.id.clone();
                self.note(Note::Rebuilt(id.clone()));
                self.read(id, Pending::Probe(car));
            }
            Answer::Refused(record) => self.judge(car, record),
        }
    }

    /// A copy that is not needed. A submission leaves its reply address behind.
    fn drop_copy(&mut self, car: CarId, record: &Record) {
        let Some(entry) = self.entries.get(car) else { return };
        let id = entry.facts.id.clone();
        let reply = entry.facts.reply.clone().filter(|_| entry.copy.source.is_submission());
        if entry.copy.source.is_submission() && !entry.copy.is_redelivered {
            self.note(Note::Repeated(id.clone()));
        }
        let Some(reply) = reply.filter(|reply| record.reply.as_ref() != Some(reply)) else {
            return self.release(car);
        };
        self.readdress(&id, &reply);
        let fields = vec![Field::Reply(Some(reply))];
        let write = Write::new(&id, Transition::Readdress, Expect::Any, State::Queued, fields);
        self.write(write, Pending::Readdress(car));
    }

    pub(crate) fn readdressed(&mut self, car: CarId, answer: Answer) {
        match answer {
            Answer::Applied(_) => {
                // Once more: what was read before the change may have come in after it.
                let own =
                    self.entries.get(car).map(|e| (e.facts.id.clone(), e.facts.reply.clone()));
                if let Some((id, Some(reply))) = own {
                    self.readdress(&id, &reply);
                }
                self.release(car);
            }
            // It ended meanwhile: the second submission is answered at once.
            Answer::Refused(record) => self.judge(car, record),
        }
    }

    /// The copies and books of this process follow the latest reply address.
    fn readdress(&mut self, id: &TaskId, reply: &ReplyTo) {
        if let Some(flight) = self.flights.get_mut(id) {
            flight.reply = Some(reply.clone());
        }
        let held: Vec<CarId> = self.entries.of(id).map(|(car, _)| car).collect();
        for car in held {
            if let Some(entry) = self.entries.get_mut(car) {
                entry.facts.reply = Some(reply.clone());
            }
        }
    }

    /// Nobody knows whether the live attempt's message was stored. The same attempt to the same
    /// worker again is harmless; without that worker it goes by the way back in.
    fn resend(&mut self, car: CarId, record: &Record) {
        self.follow(car, record);
        let number = record.worker.as_ref().and_then(|id| self.workers.number(id));
        let number =
            number.filter(|&n| self.workers.get(n).is_some_and(|w| !w.is_lost && !w.is_suspect));
        let Some(entry) = self.entries.get_mut(car) else { return };
        entry.live = record.attempt;
        entry.is_kept = true;
        entry.facts.due_at = None;
        match number {
            Some(number) => self.send(car, number, record.attempt),
            None => {
                let update = HeadUpdate::of(&entry.facts);
                self.move_to(car, Place::Again, update);
            }
        }
    }

    /// The live attempt's own copy is back.
    fn came_back(&mut self, car: CarId, record: &Record) {
        self.follow(car, record);
        let Some(entry) = self.entries.get(car) else { return };
        let id = entry.facts.id.clone();
        let counts =
            Counts { failures: record.failures, losses: record.losses, ..Counts::of(&entry.facts) };
        if entry.copy.source == Source::WorkerNacked {
            let fault = Fault::of(ErrorKind::Failed);
            let failure = self.failure(&counts, record.is_cancel_asked, fault);
            return self.fail_copy(car, failure, "the worker refused it without saying why");
        }
        let is_running = record.state == State::Running;
        let is_suspect = entry.facts.is_suspect;
        let held_since = entry.held_since;
        let whereabouts = self.whereabouts(&id, record, is_running, held_since);
        if matches!(whereabouts, Whereabouts::NotThere | Whereabouts::WorkerGone) {
            self.note_if_vanished(&id, record);
        }
        match whereabouts {
            Whereabouts::NotHeardYet => self.at(self.now + LOOK_AGAIN, Timer::JudgeAgain(car)),
            Whereabouts::WithWorker => self.another_round(car, record),
            Whereabouts::WorkerGone if is_running || is_suspect => {
                self.note(Note::Lost(id, record.worker.clone()));
                let failure = self.loss(&counts, record.is_cancel_asked);
                self.fail_copy(car, failure, "its worker was lost while it ran");
            }
            Whereabouts::NotThere if is_running => {
                self.note(Note::Lost(id, record.worker.clone()));
                let failure = self.loss(&counts, record.is_cancel_asked);
                self.fail_copy(car, failure, "its worker no longer has it");
            }
            Whereabouts::NotThere => self.requeue(car, false),
            Whereabouts::WorkerGone => self.requeue(car, true),
        }
    }

    /// `held_since`: when the copy was delivered here.
    fn whereabouts(
        &mut self,
        id: &TaskId,
        record: &Record,
        is_running: bool,
        held_since: Timestamp,
    ) -> Whereabouts {
        let waits_long = self.now.since(held_since) >= BEAT_WITHIN;
        let number = record.worker.as_ref().and_then(|id| self.workers.number(id));
        let Some((number, worker)) = number.and_then(|n| Some((n, self.workers.get(n)?))) else {
            // Not heard of since this process began to listen.
            let is_long = self.now.since(self.listening_since) >= self.settings.lost_after;
            return match is_running {
                true if is_long => Whereabouts::WorkerGone,
                true => Whereabouts::WithWorker,
                false if waits_long => Whereabouts::WorkerGone,
                false => Whereabouts::NotHeardYet,
            };
        };
        let silent = worker.silent_for(self.now);
        let is_listed = worker.lists(id, record.attempt);
        if silent >= self.settings.lost_after {
            return Whereabouts::WorkerGone;
        }
        let flight = self.flights.get(id).filter(|f| f.attempt == record.attempt);
        let lives_anew = flight.is_some_and(|f| f.boot != worker.boot);
        if lives_anew && !is_listed {
            return Whereabouts::WorkerGone;
        }
        if !is_running {
            // It lay untouched, or its worker let go of it by dying: only a beat from after its
            // return can tell. What a dead worker had may be what killed it.
            return match (worker.last_beat > held_since, is_listed) {
                (true, true) => Whereabouts::WithWorker,
                (true, false) => Whereabouts::NotThere,
                (false, _) if waits_long => {
                    // Given to it again, the same death would be charged.
                    self.suspect(number);
                    Whereabouts::WorkerGone
                }
                (false, _) => Whereabouts::NotHeardYet,
            };
        }
        match flight {
            _ if is_listed => Whereabouts::WithWorker,
            Some(flight) if flight.absent >= 2 => Whereabouts::NotThere,
            Some(_) => Whereabouts::WithWorker,
            None => {
                // Heartbeats count its absences from now on.
                self.book_unknown(id, record, number);
                Whereabouts::WithWorker
            }
        }
    }

    /// Its worker may still have it: the copy goes round once more.
    fn another_round(&mut self, car: CarId, record: &Record) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        entry.facts.rounds += 1;
        let wait = if entry.facts.rounds >= ROUNDS_SHORT { LONG_ROUND } else { ROUND };
        let id = entry.facts.id.clone();
        if let Some(flight) = self.flights.get_mut(&id).filter(|f| f.attempt == record.attempt) {
            flight.copy_until = self.now + wait + COPY_GRACE;
        }
        self.later(car, self.now + wait);
    }

    /// Came back without having begun: free.
    pub(crate) fn requeue(&mut self, car: CarId, is_suspect: bool) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        entry.phase = Phase::Checking;
        entry.facts.is_suspect |= is_suspect;
        let (id, attempt) = (entry.facts.id.clone(), entry.facts.attempt);
        let update = HeadUpdate::of(&entry.facts);
        let mut write = Write::new(
            &id,
            Transition::Requeue,
            Expect::Exactly(attempt),
            State::Queued,
            Vec::new(),
        );
        write.payload = Payload::Delete;
        write.wants = Wants::Record;
        self.write(write, Pending::Requeue { car, update });
    }

    pub(crate) fn requeued(&mut self, car: CarId, update: HeadUpdate, answer: Answer) {
        let Some(entry) = self.entries.get(car) else { return };
        let id = entry.facts.id.clone();
        match answer {
            Answer::Applied(before) => {
                self.end_flight(&id, update.attempt);
                self.note(Note::CameBack(id.clone()));
                self.forget_due(car);
                if before.is_some_and(|record| record.is_cancel_asked) {
                    return self.cancel_copy(car);
                }
                self.keep_copy(car);
            }
            Answer::Refused(record) => self.judge(car, record),
        }
    }

    /// Final: what is still owed, then ack.
    fn settle(&mut self, car: CarId, record: &Record) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        let (id, attempt) = (entry.facts.id.clone(), entry.facts.attempt);
        if record.owes_dead_letter && attempt == record.attempt {
            // Only a reply that is still owed is sent.
            entry.facts.reply = record.reply.clone();
            return self.bury(car);
        }
        self.end_flight(&id, attempt);
        let is_submission = self.entries.get(car).is_some_and(|e| e.copy.source.is_submission());
        if is_submission {
            self.note(Note::Repeated(id.clone()));
        }
        let own = self.entries.get(car).and_then(|entry| entry.facts.reply.clone());
        // A submission is answered in any case. What the record still names was recorded, and then
        // the process that was to tell it died.
        match own.filter(|_| is_submission).or_else(|| record.reply.clone()) {
            Some(to) => {
                let is_owed = record.reply.as_ref() == Some(&to);
                self.reply(Some(car), &id, to, ReplyBody::Stored, is_owed);
            }
            None => self.release(car),
        }
    }

    /// An attempt that only a record or a heartbeat knows of enters the books.
    pub(crate) fn book_unknown(&mut self, id: &TaskId, record: &Record, number: usize) {
        self.end_flight(id, u32::MAX);
        let Some(worker) = self.workers.get_mut(number) else { return };
        let flight = Flight {
            attempt: record.attempt,
            worker: number,
            boot: worker.boot.clone(),
            slots: 1,
            dispatched_at: self.now,
            is_confirmed: true,
            started_at: (record.state == State::Running).then_some(self.now),
            absent: 0,
            marker: None,
            marked_at: Timestamp::ZERO,
            reissued_at: None,
            timeout_ms: None,
            is_timed_out: false,
            is_suspect: false,
            is_long: true,
            copy_until: Timestamp::ZERO,
            is_cancel_asked: record.is_cancel_asked,
            kind: None,
            counts: None,
            reply: record.reply.clone(),
        };
        worker.used += flight.slots;
        worker.long_used += flight.slots;
        worker.flights.insert(id.clone());
        self.flights.insert(id.clone(), flight);
    }

    pub(crate) fn ask_cancel(&mut self, id: &TaskId) {
        let Some(flight) = self.flights.get_mut(id) else { return };
        flight.is_cancel_asked = true;
        let (number, attempt) = (flight.worker, flight.attempt);
        if let Some(worker) = self.workers.get(number) {
            let worker = worker.id.clone();
            self.effect(Effect::AskCancel { worker, id: id.clone(), attempt });
        }
    }
}
