use crate::broker::{Broker, SessionId};
use crate::chance::Chance;
use crate::dispatcher::{Dispatcher, Input, Sent};
use crate::message::{Body, Message, Queue};
use crate::oracle::Oracle;
use crate::plan::{Plan, Planned, given_id};
use crate::store::Store;
use crate::trace::Trace;
use crate::worker::{Due, Key, Worker};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use taskyard_model::TaskId;
use taskyard_scheduler::{Command, Event, Gauges};

/// When a run begins: far from zero, as the real clock is.
const BEGIN: u64 = 1_000_000_000_000;
/// After the faults have stopped everything must end within this time: longer than the longest
/// interval of the scheduler (what is parked is read every 10 minutes).
const LIVENESS_MS: u64 = 25 * 60_000;

/// What a session sends in order: writes, publications, acks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wire {
    Store,
    Publish,
    Acks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Dispatcher(usize),
    Worker(usize),
}

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum Happening {
    Submit(usize),
    Cancel(TaskId),
    Turn(usize),
    Wire(SessionId, Wire),
    Told(SessionId, Box<Input>),
    Elect,
    Reborn(usize),
    Connect(usize),
    StepDown(SessionId),
    Reissue(SessionId, TaskId, u32),
    Books(SessionId),
    Control(usize, Key),
    Beat(usize, u64),
    WorkerDue(usize, u64, Key, Due),
    WorkerSays(usize, SessionId, u64),
    Confirmed(usize, u64, u64),
    WorkerReborn(usize, u64),
    WorkerConnect(usize, u64),
    Thaw(usize),
    Fault,
    Calm,
    Look,
    Expire,
}

/// A whole system with a virtual clock.
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) plan: Plan,
    pub(crate) chance: Chance,
    pub(crate) broker: Broker,
    pub(crate) store: Store,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    pub(crate) dispatchers: Vec<Option<Dispatcher>>,
    pub(crate) turn_at: Vec<Option<u64>>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) owners: BTreeMap<SessionId, Owner>,
    pub(crate) wires: BTreeMap<(SessionId, Wire), (u64, VecDeque<Sent>)>,
    pub(crate) store_is_down_until: u64,
    pub(crate) next_session: SessionId,
    pub(crate) next_boot: u64,
    agenda: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    next_happening: u64,
    given: u64,
    breach: Option<String>,
}

impl World {
    pub(crate) fn new(seed: u64, is_kept: bool) -> Self {
        let plan = Plan::draw(seed);
        let workers = plan.workers.iter().cloned().enumerate();
        let mut world = Self {
            now: BEGIN,
            chance: Chance::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(1)),
            broker: Broker::default(),
            store: Store::default(),
            oracle: Oracle::default(),
            trace: Trace::new(is_kept),
            dispatchers: Vec::new(),
            turn_at: vec![None; plan.dispatchers],
            workers: workers.map(|(number, manners)| Worker::new(number, manners)).collect(),
            owners: BTreeMap::new(),
            wires: BTreeMap::new(),
            store_is_down_until: 0,
            next_session: 0,
            next_boot: 0,
            agenda: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            next_happening: 0,
            given: 0,
            breach: None,
            plan,
        };
        world.set_the_scene();
        world
    }

    fn set_the_scene(&mut self) {
        for dispatcher in 0..self.plan.dispatchers {
            self.dispatchers.push(None);
            self.dispatcher_reborn(dispatcher);
        }
        for worker in 0..self.workers.len() {
            self.worker_begins(worker);
        }
        let times: Vec<u64> = self.plan.tasks.iter().map(|task| task.at).collect();
        for (number, at) in times.into_iter().enumerate() {
            self.after(at, Happening::Submit(number));
        }
        if self.plan.faults.every_ms > 0 {
            self.after(self.plan.faults.every_ms, Happening::Fault);
        }
        self.after(self.plan.safety_ms, Happening::Calm);
    }

    pub(crate) fn after(&mut self, ms: u64, happening: Happening) {
        self.next_happening += 1;
        self.agenda.push(Reverse((self.now + ms, self.next_happening)));
        self.happenings.insert(self.next_happening, happening);
    }

    /// Something was promised and not kept; the first such thing is told.
    pub(crate) fn breach(&mut self, what: String) {
        self.breach.get_or_insert(what);
    }

    /// Runs to the end: the digest and text of all that happened, and what was not kept.
    pub(crate) fn run(mut self) -> (u64, String, Result<(), String>) {
        let mut end = None;
        while end.is_none()
            && let Some(Reverse((at, number))) = self.agenda.pop()
        {
            self.now = at;
            let happening = self.happenings.remove(&number).expect("it was put there");
            let is_look = matches!(happening, Happening::Look);
            self.happen(happening);
            self.pump();
            self.judge();
            if let Some(breach) = self.breach.take() {
                end = Some(Err(breach));
            } else if is_look {
                end = self.look();
            }
        }
        let end = end.expect("a look is always ahead");
        self.trace.line(self.now, format_args!("ended: {end:?}"));
        (self.trace.digest(), self.trace.into_text(), end)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Submit(number) => self.submit(number),
            Happening::Cancel(id) => self.cancel(id),
            Happening::Turn(dispatcher) => self.turn(dispatcher),
            Happening::Wire(session, wire) => self.wire(session, wire),
            Happening::Told(session, input) => self.tell(session, *input),
            Happening::Elect => self.elect(),
            Happening::Reborn(dispatcher) => self.dispatcher_reborn(dispatcher),
            Happening::Connect(dispatcher) => self.connect(dispatcher),
            Happening::StepDown(session) => self.close(session),
            Happening::Reissue(session, id, attempt) => self.reissue(session, id, attempt),
            Happening::Books(session) => self.read_books(session),
            Happening::Control(worker, key) => self.control(worker, &key),
            Happening::Beat(worker, boot) => self.beat(worker, boot),
            Happening::WorkerDue(worker, boot, key, due) => {
                self.worker_due(worker, boot, key, due);
            }
            Happening::WorkerSays(worker, session, number) => {
                self.worker_says(worker, session, number);
            }
            Happening::Confirmed(worker, boot, number) => self.confirmed(worker, boot, number),
            Happening::WorkerReborn(worker, boot) => self.worker_reborn(worker, boot),
            Happening::WorkerConnect(worker, boot) => self.worker_connect(worker, boot),
            Happening::Thaw(worker) => self.thaw(worker),
            Happening::Fault => self.fault(),
            Happening::Calm => self.calm(),
            Happening::Look => self.after(1_000, Happening::Look),
            Happening::Expire => {}
        }
    }

    fn submit(&mut self, number: usize) {
        let Planned {
            facts, is_named, delay_ms, start_within_ms, is_broken, cancel_after_ms, ..
        } = self.plan.tasks[number].clone();
        self.trace.line(self.now, format_args!("submit {number} {}", facts.id));
        let mut facts = facts;
        let id = facts.id.clone();
        if is_broken {
            let body = Body::Broken { id: is_named.then_some(id) };
            self.broker.publish(Queue::Submit, Message::new(body));
            return;
        }
        match is_named {
            true => self.oracle.accepted(&id),
            false => facts.id = given_id(number as u64),
        }
        if let Some(after) = cancel_after_ms.filter(|_| is_named) {
            self.after(after, Happening::Cancel(id));
        }
        let expires_at = start_within_ms.map(|ms| self.now + ms);
        let body = Body::Submission { facts, is_named, delay_ms, start_within_ms };
        self.broker.publish(Queue::Submit, Message { expires_at, ..Message::new(body) });
        if let Some(ms) = start_within_ms {
            self.after(ms, Happening::Expire);
        }
    }

    fn cancel(&mut self, id: TaskId) {
        self.oracle.cancel_asked(&id);
        let leads = |d: &Option<Dispatcher>| d.as_ref().is_some_and(|d| d.is_leading);
        for number in 0..self.dispatchers.len() {
            if leads(&self.dispatchers[number]) {
                let event = Event::Commanded(Command::Cancel { ask: self.now, id: id.clone() });
                let dispatcher = self.dispatchers[number].as_mut().unwrap();
                dispatcher.inbox.push_back(Input::Event(event));
                self.wake(number);
            }
        }
    }

    /// What the broker can deliver goes to whom it is for.
    fn pump(&mut self) {
        self.broker.expire(self.now);
        for delivery in self.broker.deliveries() {
            match self.owners.get(&delivery.session) {
                Some(&Owner::Dispatcher(number)) => {
                    let input = Input::Delivered(delivery.queue, delivery.tag, delivery.message);
                    if let Some(dispatcher) = self.dispatchers[number].as_mut() {
                        dispatcher.inbox.push_back(input);
                    }
                    self.wake(number);
                }
                Some(&Owner::Worker(number)) => self.give(number, delivery.tag, delivery.message),
                None => unreachable!("a session that is over consumes nothing"),
            }
        }
    }

    /// Watches what has changed.
    fn judge(&mut self) {
        for made in std::mem::take(&mut self.store.made) {
            let (id, transition, state) = (&made.id, made.transition, made.after.state);
            let attempt = made.after.attempt;
            self.trace.line(
                self.now,
                format_args!(
                    "{id}:{attempt} {transition:?}: {state} reply {:?}",
                    made.after.reply.as_ref().map(|r| &r.queue)
                ),
            );
            if let Err(breach) = self.oracle.made(&made, &self.plan) {
                self.breach(breach);
            }
        }
        let mut touched = std::mem::take(&mut self.broker.lost_a_holder);
        touched.append(&mut self.store.lost_a_payload);
        for id in touched {
            if !self.oracle.is_held(&id, &self.broker, &self.store) {
                self.breach(format!("{id} is lost: nothing holds it"));
            }
        }
    }

    /// In the liveness phase: whether everything has ended.
    fn look(&self) -> Option<Result<(), String>> {
        let late = self.now > BEGIN + self.plan.safety_ms + LIVENESS_MS;
        let leader = self.dispatchers.iter().flatten().find(|d| d.is_leading);
        let gauges = leader.map(|d| d.scheduler.gauges()).unwrap_or_default();
        let unfinished: Vec<_> = self.oracle.unfinished(&self.store).collect();
        let leftovers = self.broker.leftovers();
        let Gauges { held, in_flight, pending, used, .. } = gauges;
        let is_at_rest = held + in_flight + pending == 0 && used == 0;
        if unfinished.is_empty() && leftovers.is_empty() && is_at_rest && leader.is_some() {
            return Some(self.oracle.settled(&self.broker, &self.store, &self.plan));
        }
        let states = || {
            let state = |id: &&TaskId| format!("{id}: {:?}", self.store.record(id));
            unfinished.iter().map(state).collect::<Vec<_>>().join("\n")
        };
        late.then(|| {
            Err(format!(
                "not everything ended: {gauges:?}\nunfinished: {}\nleft over: {leftovers:#?}\n\
                 workers have: {:?}",
                states(),
                self.workers.iter().map(Worker::has).collect::<Vec<_>>()
            ))
        })
    }

    /// The id of an anonymous submission is drawn by whoever takes it in, each time anew.
    pub(crate) fn draw_id(&mut self) -> TaskId {
        self.given += 1;
        given_id(1_000_000 + self.given)
    }
}
