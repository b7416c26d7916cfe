//! What dispatcher processes do to the world, and the other way round.

use crate::broker::SessionId;
use crate::dispatcher::{Dispatcher, Input, Parcel, Sent, couple, worker_queue};
use crate::message::{Body, Message, Queue};
use crate::world::{Happening, Owner, Wire, World};
use taskyard_model::TaskId;
use taskyard_scheduler::{Event, Outcome};

/// A new leader reads its books so long after it began, and again after each interval.
const BOOKS_AFTER_MS: u64 = 5_000;
const BOOKS_INTERVAL_MS: u64 = 300_000;

impl World {
    pub(crate) fn dispatcher_reborn(&mut self, number: usize) {
        if self.dispatchers[number].is_some() {
            return;
        }
        self.next_boot += 1;
        self.trace.line(self.now, format_args!("dispatcher {number} begins"));
        let settings = self.plan.settings.clone();
        self.dispatchers[number] = Some(Dispatcher::new(settings, self.next_boot, self.now));
        self.connect(number);
    }

    /// A process connects; one of those that are connected leads.
    pub(crate) fn connect(&mut self, number: usize) {
        let Some(dispatcher) = self.dispatchers[number].as_mut() else { return };
        if dispatcher.session.is_some() {
            return;
        }
        self.next_session += 1;
        dispatcher.session = Some(self.next_session);
        self.owners.insert(self.next_session, Owner::Dispatcher(number));
        let wait = self.chance.delay(50, 15_000);
        self.after(wait, Happening::Elect);
    }

    pub(crate) fn elect(&mut self) {
        let is_led = self.dispatchers.iter().flatten().any(|d| d.is_leading);
        if !is_led {
            self.lead(|_| true);
        }
    }

    /// Makes one of the standbys lead.
    pub(crate) fn lead(&mut self, may: impl Fn(usize) -> bool) {
        let is_standby = |d: &Option<Dispatcher>| {
            d.as_ref().is_some_and(|d| d.session.is_some() && !d.is_leading)
        };
        let candidates: Vec<usize> = (0..self.dispatchers.len())
            .filter(|&n| may(n) && is_standby(&self.dispatchers[n]))
            .collect();
        if candidates.is_empty() {
            return;
        }
        let number = candidates[self.chance.index(candidates.len())];
        self.trace.line(self.now, format_args!("dispatcher {number} leads"));
        let dispatcher = self.dispatchers[number].as_mut().expect("it is a candidate");
        let session = dispatcher.session.expect("it is a candidate");
        let sent = dispatcher.lead(self.now);
        let window = self.plan.settings.window_tasks + 64;
        for queue in [Queue::Outcomes, Queue::Again, Queue::Submit] {
            self.broker.consume(session, queue, window);
        }
        self.send_off(session, sent);
        self.after(BOOKS_AFTER_MS, Happening::Books(session));
        self.wake(number);
    }

    /// Lets a process take its next turn soon.
    pub(crate) fn wake(&mut self, number: usize) {
        let wait = self.chance.delay(3, 1_500);
        self.turn_in(number, wait);
    }

    fn turn_in(&mut self, number: usize, ms: u64) {
        let at = self.now + ms;
        if self.turn_at[number].is_none_or(|planned| planned > at) {
            self.turn_at[number] = Some(at);
            self.after(ms, Happening::Turn(number));
        }
    }

    pub(crate) fn turn(&mut self, number: usize) {
        if self.turn_at[number] != Some(self.now) {
            return;
        }
        self.turn_at[number] = None;
        let Some(mut dispatcher) = self.dispatchers[number].take() else { return };
        let Some(session) = dispatcher.session else {
            self.dispatchers[number] = Some(dispatcher);
            return;
        };
        self.name_the_nameless(&mut dispatcher);
        let most = dispatcher.inbox.len() + 1;
        let inputs = if self.chance.percent(80) { most } else { self.chance.index(most) };
        let (trace, chance, now) = (&mut self.trace, &mut self.chance, self.now);
        let crash = if self.plan.is_calm { 0 } else { self.plan.faults.crash_at_effect };
        let (sent, is_alive) = dispatcher.turn(self.now, inputs, |effect| {
            trace.line(now, format_args!("  {number}: {effect:?}"));
            !chance.in_a_million(crash)
        });
        let deadline = dispatcher.scheduler.deadline().as_ms().saturating_sub(self.now);
        let (is_leading, is_busy) = (dispatcher.is_leading, !dispatcher.inbox.is_empty());
        self.dispatchers[number] = Some(dispatcher);
        if is_alive || self.chance.percent(50) {
            self.send_off(session, sent);
        }
        match is_alive {
            false => self.kill(number),
            true if is_busy => self.wake(number),
            true if is_leading => self.turn_in(number, deadline.clamp(1, 250)),
            true => {}
        }
    }

    /// What comes without an id gets one as it is read.
    fn name_the_nameless(&mut self, dispatcher: &mut Dispatcher) {
        for input in &mut dispatcher.inbox {
            if let Input::Delivered(_, _, message) = input
                && let Body::Submission { facts, is_named: false, .. } = &mut message.body
                && !facts.id.as_str().starts_with("given1")
            {
                facts.id = self.draw_id();
            }
        }
    }

    /// Hands over what a turn has gathered: each sort goes its own way, in order.
    fn send_off(&mut self, session: SessionId, sent: Vec<Sent>) {
        for one in couple(sent, &mut self.chance) {
            let wire = match &one {
                Sent::Write(..) => Wire::Store,
                Sent::Ack(_) => Wire::Acks,
                Sent::Reissue(id, attempt) => {
                    let wait = self.chance.delay(5, 500);
                    let happening = Happening::Reissue(session, id.clone(), *attempt);
                    self.after(wait, happening);
                    continue;
                }
                _ => Wire::Publish,
            };
            let (last, queue) = self.wires.entry((session, wire)).or_default();
            let at = (self.now + self.chance.delay(2, 300)).max(*last);
            *last = at;
            queue.push_back(one);
            self.after(at - self.now, Happening::Wire(session, wire));
        }
    }

    pub(crate) fn wire(&mut self, session: SessionId, wire: Wire) {
        if wire == Wire::Store && self.store_is_down_until > self.now {
            return self.after(self.store_is_down_until - self.now, Happening::Wire(session, wire));
        }
        let repeats = if self.plan.is_calm { 0 } else { self.plan.faults.repeated_writes_percent };
        if wire == Wire::Store && self.chance.percent(repeats) {
            return self.write_twice(session);
        }
        let Some((_, queue)) = self.wires.get_mut(&(session, wire)) else { return };
        match queue.pop_front() {
            None => drop(self.wires.remove(&(session, wire))),
            Some(Sent::Write(op, asked)) => {
                let answer = self.store.run(self.now, &asked);
                self.tell(session, Input::Stored(op, answer, false));
            }
            Some(Sent::Publish(parcel)) => self.publish(session, parcel),
            Some(Sent::Ack(tag)) => self.broker.ack(session, tag),
            Some(Sent::Declare(worker)) => {
                let Queue::Worker(number) = worker_queue(&worker) else { return };
                self.broker.declare_worker(number);
            }
            Some(Sent::Fill(queue, is_on)) => match is_on {
                true if self.owners.contains_key(&session) => {
                    self.broker.consume(session, queue, 8)
                }
                true => {}
                false => self.broker.cancel(session, queue),
            },
            Some(Sent::AskCancel(worker, id, attempt)) => {
                let Queue::Worker(number) = worker_queue(&worker) else { return };
                self.after(1, Happening::Control(number, (id, attempt)));
            }
            Some(Sent::Reissue(..)) => unreachable!("it goes its own way"),
        }
    }

    /// A pipeline's answers are lost, and all of it is asked again.
    fn write_twice(&mut self, session: SessionId) {
        let Some((_, queue)) = self.wires.get_mut(&(session, Wire::Store)) else { return };
        let most = queue.len().min(8);
        let pipeline: Vec<Sent> = queue.drain(..most).collect();
        let heard = self.chance.index(pipeline.len() + 1);
        let writes = || {
            pipeline.iter().filter_map(|sent| match sent {
                Sent::Write(op, asked) => Some((*op, asked)),
                _ => None,
            })
        };
        for (_, asked) in writes().take(heard) {
            self.store.run(self.now, asked);
        }
        for (op, asked) in writes() {
            let answer = self.store.run(self.now, asked);
            self.tell(session, Input::Stored(op, answer, true));
        }
    }

    fn publish(&mut self, session: SessionId, parcel: Parcel) {
        let Parcel { queue, body, lie, ops, .. } = parcel;
        if let (Queue::Again, Body::Copies(copies)) = (queue, &body) {
            copies.iter().for_each(|copy| self.oracle.accepted(&copy.id));
        }
        let expires_at = lie.map(|lie| self.now + lie);
        let is_routed = self.broker.publish(queue, Message { expires_at, ..Message::new(body) });
        if let Some(lie) = lie {
            self.after(lie, Happening::Expire);
        }
        let outcome = if is_routed { Outcome::Confirmed } else { Outcome::Returned };
        let worst = if self.plan.is_calm { 20 } else { self.plan.faults.slow_confirm_ms };
        let wait = self.chance.delay(2, worst);
        self.after(wait, Happening::Told(session, Box::new(Input::Posted(ops, outcome))));
    }

    /// An answer reaches the process, if the session still lives.
    pub(crate) fn tell(&mut self, session: SessionId, input: Input) {
        let Some(&Owner::Dispatcher(number)) = self.owners.get(&session) else { return };
        if let Some(dispatcher) = self.dispatchers[number].as_mut() {
            dispatcher.inbox.push_back(input);
            self.wake(number);
        }
    }

    /// As `dispatcher/src/books.rs` does.
    pub(crate) fn reissue(&mut self, session: SessionId, id: TaskId, attempt: u32) {
        if !self.owners.contains_key(&session) {
            return;
        }
        let live = self.store.record(&id).filter(|record| record.attempt == attempt);
        let wants_copy = live.is_some_and(|r| !r.state.is_final() || r.owes_dead_letter);
        match self.store.payload(&id).cloned() {
            Some(copy) if wants_copy => {
                self.broker.publish(Queue::Again, Message::new(Body::Copies(vec![copy])));
            }
            _ => {
                let event = Event::NothingToReissue { id, attempt };
                self.tell(session, Input::Event(event));
            }
        }
    }

    pub(crate) fn read_books(&mut self, session: SessionId) {
        if !self.owners.contains_key(&session) {
            return;
        }
        for id in self.store.in_flight() {
            if let Some(record) = self.store.record(&id).cloned() {
                self.tell(session, Input::Event(Event::FoundInFlight { id, record }));
            }
        }
        self.after(BOOKS_INTERVAL_MS, Happening::Books(session));
    }

    /// A session ends: some of what it had sent off still arrives.
    pub(crate) fn close(&mut self, session: SessionId) {
        for wire in [Wire::Store, Wire::Publish, Wire::Acks] {
            if let Some((_, queue)) = self.wires.get_mut(&(session, wire)) {
                let arrives = self.chance.index(queue.len() + 1);
                queue.truncate(arrives);
            }
        }
        self.broker.close(session);
        match self.owners.remove(&session) {
            Some(Owner::Dispatcher(number)) => {
                if let Some(dispatcher) = self.dispatchers[number].as_mut() {
                    dispatcher.end_session(self.now);
                    let wait = self.chance.delay(200, 5_000);
                    self.after(wait, Happening::Connect(number));
                }
                self.after(5, Happening::Elect);
            }
            Some(Owner::Worker(number)) => self.workers[number].lost_session(),
            None => {}
        }
    }

    /// A process dies.
    pub(crate) fn kill(&mut self, number: usize) {
        self.trace.line(self.now, format_args!("dispatcher {number} dies"));
        if let Some(session) = self.dispatchers[number].as_ref().and_then(|d| d.session) {
            self.close(session);
        }
        self.dispatchers[number] = None;
        let wait = self.chance.within(100..20_000);
        self.after(wait, Happening::Reborn(number));
    }
}
