//! The next task, and the worker that gets it.

use crate::class::{ClassId, ClassKey};
use crate::entry::{Entry, Phase};
use crate::event::{
    Answer, Effect, Expect, Field, HeadUpdate, Note, Outcome, Payload, Place, Write,
};
use crate::facts::CarId;
use crate::flight::{Counts, Flight};
use crate::route::Candidate;
use crate::scheduler::{Pending, RunTime, Scheduler, Timer};
use crate::settings::Mode;
use std::time::Duration;
use taskyard_model::{Kind, Source, State, TaskId, Timestamp, Transition, Wants};

/// A kind whose tasks take less than this on average is short: its tasks share trains, and may be
/// sent ahead of a free slot. Longer ones would hold up what shares their message.
const SHORT_US: f64 = 20_000.0;
/// Weight of the newest value in moving averages.
const NEWEST: f64 = 0.2;
/// A suspect task that ran so long did not kill its worker at once.
const TRUSTED_AFTER: Duration = Duration::from_secs(10);

/// The way to a worker and back, without the time that the worker had the task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    mean_us: f64,
}

impl Default for RoundTrip {
    fn default() -> Self {
        // Measured on an idle broker: three hops of half a millisecond and more.
        Self { mean_us: 5_000.0 }
    }
}

impl RoundTrip {
    fn learn(&mut self, us: f64) {
        // Beyond a second it is a fault and says nothing of the way.
        self.mean_us += NEWEST * 0.1 * (us.clamp(500.0, 1_000_000.0) - self.mean_us);
    }
}

impl Scheduler {
    /// Gives out tasks as long as one finds a worker with credit.
    pub(crate) fn dispatch(&mut self) {
        self.stop_clearing();
        while let Some((class, car)) = self.classes.first() {
            match self.choose(class) {
                Some(worker) => self.assign(car, worker),
                None => {
                    self.clear_for(class);
                    self.classes.close(class);
                }
            }
        }
    }

    /// A suspect task needs a worker that holds nothing else. Where all are busy without end, one
    /// takes nothing new until it is idle: the one that has least.
    fn clear_for(&mut self, class: ClassId) {
        let class = self.classes.get(class);
        if !class.key.is_suspect || self.workers.iter().any(|(_, worker)| worker.is_clearing) {
            return;
        }
        let workers = &self.workers;
        let usable =
            class.workers.iter().filter_map(|&number| Some((workers.get(number)?, number)));
        let usable = usable.filter(|(worker, _)| !worker.is_suspect && worker.exclusive.is_none());
        let least = usable.min_by_key(|(worker, number)| (worker.used, *number));
        let Some((_, number)) = least else { return };
        if let Some(worker) = self.workers.get_mut(number) {
            worker.is_clearing = true;
        }
    }

    /// Nothing suspect waits any more, or the worker that was being cleared is gone.
    fn stop_clearing(&mut self) {
        let clearing = self.workers.iter().find(|(_, worker)| worker.is_clearing);
        let Some((number, is_usable)) =
            clearing.map(|(number, worker)| (number, !worker.is_suspect && !worker.is_draining))
        else {
            return;
        };
        if is_usable && self.classes.has_suspects_for(number) {
            return;
        }
        if let Some(worker) = self.workers.get_mut(number) {
            worker.is_clearing = false;
        }
        self.classes.open_for(number);
    }

    fn choose(&mut self, class: ClassId) -> Option<usize> {
        let class = self.classes.get(class);
        let is_short = self.is_short(&class.key.kind);
        let workers = &self.workers;
        let with_credit = class.workers.iter().filter_map(|&index| {
            let worker = workers.get(index).filter(|w| w.has_credit(&class.key, is_short))?;
            Some(Candidate {
                id: &worker.id,
                index,
                weight: worker.weight,
                slots: worker.slots,
                used: worker.used,
            })
        });
        let candidates: Vec<Candidate<'_>> = with_credit.collect();
        match candidates.len() {
            0 => None,
            _ => Some(candidates[self.route.choose(&candidates)].index),
        }
    }

    pub(crate) fn is_short(&self, kind: &Kind) -> bool {
        self.run_times.get(kind).is_some_and(|known| known.mean_us < SHORT_US)
    }

    /// Records that the task goes to the worker, its payload with it.
    fn assign(&mut self, car: CarId, number: usize) {
        self.unwait(car);
        let Some(entry) = self.entries.get_mut(car) else { return };
        let Some(worker) = self.workers.get_mut(number) else { return };
        let attempt = entry.facts.attempt + 1;
        entry.live = attempt;
        entry.phase = Phase::Dispatching;
        worker.used += entry.facts.slots;
        if entry.facts.is_suspect {
            worker.exclusive = Some(entry.facts.id.clone());
            worker.is_clearing = false;
        }
        let transition = match entry.is_new {
            true => Transition::AcceptDispatched,
            false => Transition::Dispatch,
        };
        let mut fields = Vec::with_capacity(6);
        if entry.is_new {
            fields.push(Field::All(car));
        }
        fields.extend([
            Field::Attempt(attempt),
            Field::Worker(worker.id.clone()),
            Field::DispatchedAt(self.now),
        ]);
        let is_plain = entry.is_new || entry.is_plain && entry.facts.attempt == 0;
        if !is_plain {
            fields.extend([Field::NextAt(None), Field::Reason("")]);
        }
        let expect = match entry.is_new {
            true => Expect::Any,
            false => Expect::Exactly(entry.facts.attempt),
        };
        let update =
            HeadUpdate { attempt, due_at: None, rounds: 0, ..HeadUpdate::of(&entry.facts) };
        let id = entry.facts.id.clone();
        let was_away = matches!(entry.copy.source, Source::Lane | Source::Parked | Source::Report);
        let mut write = Write::new(&id, transition, expect, State::Dispatched, fields);
        write.payload = Payload::Store(car, update);
        // While it was in the backlog or with a worker a second submission may have named another
        // reply address.
        write.wants = if was_away { Wants::ReplyAddress } else { Wants::Nothing };
        self.write(write, Pending::Dispatch { car, worker: number, attempt });
    }

    pub(crate) fn dispatched(&mut self, car: CarId, number: usize, attempt: u32, answer: Answer) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        let was_new = std::mem::take(&mut entry.is_new);
        let is_second = was_new && !entry.copy.is_redelivered;
        let slots = entry.facts.slots;
        let id = entry.facts.id.clone();
        let wanted = entry.facts.reply.clone();
        if let Some(worker) = self.workers.get_mut(number) {
            // What was reserved is booked anew by the flight, or free.
            worker.used = worker.used.saturating_sub(slots);
        }
        let is_ours = match &answer {
            Answer::Applied(_) => true,
            // A second submission finds the first one's dispatch: that is not its own.
            Answer::Refused(_) if is_second => false,
            Answer::Refused(record) => self.workers.get(number).is_some_and(|worker| {
                record.as_ref().is_some_and(|record| {
                    // Asked again after a lost answer, two submissions look alike but for their reply.
                    let is_same = !was_new || wanted.is_none() || record.reply == wanted;
                    is_same && record.is_dispatch(attempt, &worker.id)
                })
            }),
        };
        if is_ours {
            if let Some(entry) = self.entries.get_mut(car) {
                entry.is_kept = true;
                let (Answer::Applied(before) | Answer::Refused(before)) = answer;
                entry.facts.follow_reply(before.as_ref());
            }
            if was_new {
                self.note(Note::Accepted(id.clone()));
            }
            self.note(Note::Dispatched(id));
            return self.send(car, number, attempt);
        }
        if let Some(worker) = self.workers.get_mut(number) {
            worker.exclusive.take_if(|exclusive| *exclusive == id);
        }
        self.classes.open_for(number);
        if let Some(entry) = self.entries.get_mut(car) {
            entry.live = entry.facts.attempt;
            entry.phase = Phase::Checking;
        }
        let (Answer::Refused(record) | Answer::Applied(record)) = answer;
        self.judge(car, record);
    }

    /// Sends an attempt that is on record to its worker, and books it.
    pub(crate) fn send(&mut self, car: CarId, number: usize, attempt: u32) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        entry.phase = Phase::Dispatching;
        let id = entry.facts.id.clone();
        let kind = entry.facts.kind.clone();
        let is_short = self.is_short(&kind);
        self.end_flight(&id, u32::MAX);
        let Some(worker) = self.workers.get_mut(number) else { return };
        let Some(Entry { facts, .. }) = self.entries.get(car) else { return };
        worker.used += facts.slots;
        if !is_short {
            worker.long_used += facts.slots;
        }
        worker.flights.insert(id.clone());
        if facts.is_suspect {
            worker.exclusive = Some(id.clone());
        }
        let may_share = is_short && worker.takes_trains && !facts.is_suspect;
        let flight = Flight {
            attempt,
            worker: number,
            boot: worker.boot.clone(),
            slots: facts.slots,
            dispatched_at: self.now,
            is_confirmed: false,
            started_at: None,
            absent: 0,
            marker: None,
            marked_at: Timestamp::ZERO,
            reissued_at: None,
            timeout_ms: facts.timeout_ms,
            is_timed_out: false,
            is_suspect: facts.is_suspect,
            is_long: !is_short,
            copy_until: Timestamp::ZERO,
            is_cancel_asked: false,
            kind: Some(kind),
            counts: Some(Counts::of(facts)),
            reply: facts.reply.clone(),
        };
        let worker = worker.id.clone();
        let update = HeadUpdate { attempt, due_at: None, rounds: 0, ..HeadUpdate::of(facts) };
        self.flights.insert(id, flight);
        let op = self.expecting(Pending::Sent { car, attempt });
        self.effect(Effect::Send { op, car, worker, update, may_share });
    }

    /// The broker has answered: only now may the copy that was held be acked.
    pub(crate) fn sent(&mut self, car: CarId, attempt: u32, outcome: Outcome) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        let id = entry.facts.id.clone();
        match outcome {
            Outcome::Confirmed => {
                if let Some(flight) = self.flights.get_mut(&id).filter(|f| f.attempt == attempt) {
                    flight.is_confirmed = true;
                }
                self.release(car);
            }
            // The worker's queue is gone. The attempt is on record, so a copy that carries it has to
            // be stored before anything else: the way back in, where it is found not to be running.
            Outcome::Returned => {
                entry.facts.attempt = attempt;
                entry.live = attempt;
                entry.facts.due_at = None;
                let update = HeadUpdate::of(&entry.facts);
                if let Some(flight) = self.end_flight(&id, attempt)
                    && let Some(worker) = self.workers.get(flight.worker)
                {
                    let worker = worker.id.clone();
                    self.effect(Effect::DeclareWorker(worker));
                }
                self.move_to(car, Place::Again, update);
            }
        }
    }

    /// An attempt has ended or come back: its slots are free. `u32::MAX` stands for any attempt.
    pub(crate) fn end_flight(&mut self, id: &TaskId, attempt: u32) -> Option<Flight> {
        if self.flights.get(id)?.attempt > attempt {
            return None;
        }
        let flight = self.flights.swap_remove(id)?;
        if let Some(worker) = self.workers.get_mut(flight.worker) {
            worker.used = worker.used.saturating_sub(flight.slots);
            if flight.is_long {
                worker.long_used = worker.long_used.saturating_sub(flight.slots);
            }
            worker.flights.swap_remove(id);
            worker.exclusive.take_if(|exclusive| exclusive == id);
        }
        self.classes.open_for(flight.worker);
        Some(flight)
    }

    /// Learns from an attempt that ended by itself.
    pub(crate) fn learn(&mut self, flight: &Flight, ran_us: Option<u64>, had_us: Option<u64>) {
        let (Some(ran_us), Some(kind)) = (ran_us, &flight.kind) else { return };
        #[expect(clippy::cast_precision_loss, reason = "averages need no exactness")]
        let as_float = |us: u64| us as f64;
        let ran = as_float(ran_us);
        match self.run_times.get_mut(kind) {
            Some(known) => known.mean_us += NEWEST * (ran - known.mean_us),
            None => drop(self.run_times.insert(kind.clone(), RunTime { mean_us: ran })),
        }
        let away = as_float(
            u64::try_from(self.now.since(flight.dispatched_at).as_micros()).unwrap_or(u64::MAX),
        );
        self.round_trip.learn(away - as_float(had_us.unwrap_or(ran_us)));
        let round_trip_us = self.round_trip.mean_us;
        let (mode, most) = (self.settings.mode, self.settings.look_ahead_max);
        let Some(worker) = self.workers.get_mut(flight.worker) else { return };
        if !flight.is_long || worker.mean_us.is_none() {
            let mean = worker.mean_us.get_or_insert(ran);
            *mean += NEWEST * (ran - *mean);
            worker.look_ahead = match mode {
                Mode::Passive => 0,
                Mode::Hybrid => look_ahead(worker.slots, round_trip_us, *mean, most),
            };
        }
    }

    /// A suspect task has run long enough: its worker takes others again.
    pub(crate) fn trusted(&mut self, id: &TaskId, attempt: u32) {
        let Some(flight) = self.flights.get_mut(id).filter(|f| f.attempt == attempt) else {
            return;
        };
        flight.is_suspect = false;
        let number = flight.worker;
        if let Some(worker) = self.workers.get_mut(number) {
            worker.exclusive.take_if(|exclusive| exclusive == id);
        }
        self.classes.open_for(number);
    }

    pub(crate) fn trust_later(&mut self, id: &TaskId, attempt: u32, since: Timestamp) {
        self.at(since + TRUSTED_AFTER, Timer::Trusted { id: id.clone(), attempt });
    }

    /// The workers have changed: who takes what?
    pub(crate) fn reroute(&mut self) {
        let workers = &self.workers;
        self.classes.reroute(|key: &ClassKey| workers.who_take(key));
    }
}

/// How many slots will have become free while a task is on its way.
fn look_ahead(slots: u32, round_trip_us: f64, mean_us: f64, most: u32) -> u32 {
    let expected = f64::from(slots) * round_trip_us / mean_us.max(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
    let whole = expected.clamp(0.0, f64::from(most)) as u32;
    whole
}
