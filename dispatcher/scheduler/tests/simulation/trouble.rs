//! What workers do, and what goes wrong.

use crate::broker::SessionId;
use crate::dispatcher::Input;
use crate::message::{Body, Message, Queue};
use crate::worker::{Act, Due, Key};
use crate::world::{Happening, Owner, World};
use taskyard_scheduler::Event;

const BEAT_MS: u64 = 2_000;

impl World {
    pub(crate) fn worker_begins(&mut self, number: usize) {
        let boot = self.workers[number].boot;
        self.after(1, Happening::Beat(number, boot));
        self.after(100, Happening::WorkerConnect(number, boot));
    }

    /// Whether the process of this life is there.
    fn is_there(&self, number: usize, boot: u64) -> bool {
        self.workers[number].is_alive && self.workers[number].boot == boot
    }

    pub(crate) fn beat(&mut self, number: usize, boot: u64) {
        if !self.is_there(number, boot) {
            return;
        }
        self.after(BEAT_MS, Happening::Beat(number, boot));
        if self.workers[number].is_frozen {
            return;
        }
        let beat = self.workers[number].beat();
        let lost = if self.plan.is_calm { 0 } else { self.plan.faults.lost_beats_percent };
        for dispatcher in 0..self.dispatchers.len() {
            let is_lost = self.chance.percent(lost);
            if let Some(process) = self.dispatchers[dispatcher].as_mut()
                && process.session.is_some()
                && !is_lost
            {
                process.inbox.push_back(Input::Event(Event::Beat(beat.clone())));
                self.wake(dispatcher);
            }
        }
    }

    pub(crate) fn worker_connect(&mut self, number: usize, boot: u64) {
        if !self.is_there(number, boot) || self.workers[number].is_consuming {
            return;
        }
        if self.workers[number].is_frozen {
            return self.after(500, Happening::WorkerConnect(number, boot));
        }
        let session = self.workers[number].session.unwrap_or_else(|| self.open_session(number));
        if !self.broker.is_declared(number) {
            return self.after(500, Happening::WorkerConnect(number, boot));
        }
        let prefetch = usize::try_from(self.workers[number].manners.slots).unwrap() * 2;
        self.broker.consume(session, Queue::Worker(number), prefetch);
        self.workers[number].is_consuming = true;
    }

    fn open_session(&mut self, number: usize) -> SessionId {
        self.next_session += 1;
        let session = self.next_session;
        self.owners.insert(session, Owner::Worker(number));
        self.workers[number].session = Some(session);
        // What was not confirmed is said again.
        let unconfirmed: Vec<u64> = self.workers[number].outbox.keys().copied().collect();
        self.workers[number].acts.extend(unconfirmed.into_iter().map(Act::Say));
        self.act(number);
        session
    }

    pub(crate) fn give(&mut self, number: usize, tag: u64, message: Message) {
        self.workers[number].delivered(tag, message, &self.plan, &mut self.chance);
        self.act(number);
    }

    /// Does what a worker wants.
    fn act(&mut self, number: usize) {
        let boot = self.workers[number].boot;
        let session = self.workers[number].session;
        for act in std::mem::take(&mut self.workers[number].acts) {
            match (act, session) {
                (Act::Say(report), Some(session)) => {
                    // A link keeps the order; only its speed differs.
                    let wait = 1 + self.now % 3;
                    self.after(wait, Happening::WorkerSays(number, session, report));
                }
                (Act::Ack(tag), Some(session)) => self.broker.ack(session, tag),
                (Act::Reject(tag), Some(session)) => {
                    let nacked = self.broker.reject(session, tag);
                    nacked.iter().for_each(|id| self.oracle.nacked(id));
                }
                (Act::Say(_) | Act::Ack(_) | Act::Reject(_), None) => {}
                (Act::Later(ms, key, due), _) => {
                    self.after(ms, Happening::WorkerDue(number, boot, key, due));
                }
                (Act::Ran(key), _) => {
                    self.trace.line(self.now, format_args!("  w{number} runs {key:?}"));
                    self.oracle.ran(&key.0);
                }
                (Act::RanWell(id), _) => self.oracle.ran_well(&id),
                (Act::Die, _) => return self.worker_dies(number),
            }
        }
    }

    pub(crate) fn worker_says(&mut self, number: usize, session: SessionId, report: u64) {
        let boot = self.workers[number].boot;
        if self.workers[number].session != Some(session) {
            return;
        }
        let Some(said) = self.workers[number].outbox.get(&report).cloned() else { return };
        let body = Body::Reports(vec![said]);
        self.broker.publish(Queue::Outcomes, Message::new(body));
        let wait = self.chance.delay(2, 500);
        self.after(wait, Happening::Confirmed(number, boot, report));
    }

    pub(crate) fn confirmed(&mut self, number: usize, boot: u64, report: u64) {
        if self.is_there(number, boot) {
            self.workers[number].confirmed(report, &self.plan, &mut self.chance);
            self.act(number);
        }
    }

    pub(crate) fn worker_due(&mut self, number: usize, boot: u64, key: Key, due: Due) {
        if !self.is_there(number, boot) {
            return;
        }
        if self.workers[number].is_frozen {
            return self.after(500, Happening::WorkerDue(number, boot, key, due));
        }
        self.workers[number].due(&key, due, &self.plan, &mut self.chance);
        self.act(number);
    }

    pub(crate) fn control(&mut self, number: usize, key: &Key) {
        if self.workers[number].is_alive && !self.workers[number].is_frozen {
            self.workers[number].cancel(key);
            self.act(number);
        }
    }

    fn worker_dies(&mut self, number: usize) {
        self.trace.line(self.now, format_args!("w{number} dies"));
        self.workers[number].is_alive = false;
        if let Some(session) = self.workers[number].session {
            self.close(session);
        }
        let boot = self.workers[number].boot;
        let wait = self.chance.within(100..60_000);
        self.after(wait, Happening::WorkerReborn(number, boot));
    }

    pub(crate) fn worker_reborn(&mut self, number: usize, boot: u64) {
        if !self.workers[number].is_alive && self.workers[number].boot == boot {
            self.workers[number].reborn();
            self.worker_begins(number);
        }
    }

    pub(crate) fn thaw(&mut self, number: usize) {
        self.workers[number].is_frozen = false;
    }

    fn reconnect_worker(&mut self, number: usize) {
        if let Some(session) = self.workers[number].session {
            self.close(session);
            let boot = self.workers[number].boot;
            self.after(300, Happening::WorkerConnect(number, boot));
        }
    }

    /// One thing goes wrong.
    pub(crate) fn fault(&mut self) {
        if self.plan.is_calm {
            return;
        }
        let next = self.chance.within(1..self.plan.faults.every_ms * 2);
        self.after(next, Happening::Fault);
        let worker = self.chance.index(self.workers.len());
        let dispatcher = self.chance.index(self.dispatchers.len());
        let session = self.dispatchers[dispatcher].as_ref().and_then(|d| d.session);
        let fault = self.chance.within(0..14);
        self.trace.line(self.now, format_args!("fault {fault} w{worker} d{dispatcher}"));
        match fault {
            0 if self.dispatchers[dispatcher].is_some() => self.kill(dispatcher),
            1 => session.into_iter().for_each(|session| self.close(session)),
            2 | 3 if self.workers[worker].is_alive => self.worker_dies(worker),
            4 | 5 => self.reconnect_worker(worker),
            6 => {
                self.workers[worker].is_frozen = true;
                let wait = self.chance.within(500..45_000);
                self.after(wait, Happening::Thaw(worker));
                if self.chance.percent(50) {
                    self.reconnect_worker(worker);
                }
            }
            7 => self.workers[worker].is_draining ^= true,
            8 => self.store_is_down_until = self.now + self.chance.within(10..8_000),
            9 if self.plan.faults.loses_store && self.chance.percent(30) => {
                self.oracle.store_forgot();
                self.store.forget();
            }
            10 if self.plan.faults.loses_store => self.store.take_snapshot(),
            11 if self.plan.faults.loses_store => {
                self.oracle.store_forgot();
                self.store.roll_back();
            }
            12 if self.plan.faults.loses_queues => self.lose_queue(worker),
            13 if self.plan.faults.two_leaders => {
                let old = session.filter(|_| {
                    self.dispatchers[dispatcher].as_ref().is_some_and(|d| d.is_leading)
                });
                if let Some(old) = old {
                    self.lead(|other| other != dispatcher);
                    let overlap = self.chance.within(1..10_000);
                    self.after(overlap, Happening::StepDown(old));
                }
            }
            _ => {}
        }
    }

    fn lose_queue(&mut self, number: usize) {
        // The delivery that a foreign worker nacks is the only copy once its report is recorded:
        // with the queue it is gone, as the promise says.
        let is_foreign = self.workers[number].manners.is_foreign;
        let is_deleted = self.chance.percent(50) && !is_foreign;
        self.broker.purge_worker(number, is_deleted, is_foreign);
        if is_deleted {
            self.reconnect_worker(number);
        }
    }

    /// The faults stop: from now on everything must end.
    pub(crate) fn calm(&mut self) {
        self.plan.is_calm = true;
        self.store_is_down_until = 0;
        for number in 0..self.workers.len() {
            let boot = self.workers[number].boot;
            self.workers[number].is_draining = false;
            self.workers[number].is_frozen = false;
            self.worker_reborn(number, boot);
        }
        self.after(1, Happening::Look);
    }
}
