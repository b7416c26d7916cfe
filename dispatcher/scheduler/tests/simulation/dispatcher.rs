use crate::broker::SessionId;
use crate::chance::Chance;
use crate::message::{Body, Message, Queue, Report};
use crate::store::{Asked, Stored};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use taskyard_model::{CopyFacts, Source, TaskId, Timestamp, WorkerId};
use taskyard_scheduler::{
    Answer, Arrival, CarId, Destination, Effect, Event, Facts, HeadUpdate, OpId, Outcome, Payload,
    Place, RefusedSubmission, ReplyBody, ReportFacts, Reservoir, Scheduler, Settings,
};

/// Largest payload that is kept beside the state, as in the real shell.
const PAYLOAD_KEPT_MAX: usize = 64 * 1024;
/// Copies in one message.
const TRAIN_MAX: usize = 16;
const DELAY_BASE_MS: u64 = 125;
const DELAYS: u32 = 24;

/// What reaches the engine.
#[derive(Debug)]
pub(crate) enum Input {
    Delivered(Queue, u64, Message),
    Stored(OpId, Answer, bool),
    Posted(Vec<OpId>, Outcome),
    Event(Event),
}

/// Something to publish.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) queue: Queue,
    pub(crate) body: Body,
    /// How long it may lie there.
    pub(crate) lie: Option<u64>,
    pub(crate) ops: Vec<OpId>,
    pub(crate) may_be_coupled: bool,
}

/// What leaves the process, each sort in its own order.
#[derive(Debug)]
pub(crate) enum Sent {
    Write(OpId, Asked),
    Publish(Parcel),
    Ack(u64),
    Declare(WorkerId),
    Fill(Queue, bool),
    Reissue(TaskId, u32),
    AskCancel(WorkerId, TaskId, u32),
}

#[derive(Debug)]
enum Load {
    Task(Box<Facts>),
    Report,
    Refused(Option<TaskId>),
}

#[derive(Debug)]
struct Car {
    tag: u64,
    load: Load,
}

/// A dispatcher process: a scheduler and the shell around it, as `dispatcher/src` has it.
pub(crate) struct Dispatcher {
    pub(crate) scheduler: Scheduler,
    pub(crate) boot: u64,
    pub(crate) session: Option<SessionId>,
    pub(crate) is_leading: bool,
    pub(crate) inbox: VecDeque<Input>,
    cars: BTreeMap<CarId, Car>,
    open: BTreeMap<u64, usize>,
    next_car: u64,
    parked_pass: Option<u64>,
    next_pass: u64,
}

impl Dispatcher {
    pub(crate) fn new(settings: Settings, boot: u64, now: u64) -> Self {
        Self {
            scheduler: Scheduler::new(settings, Timestamp::from_ms(now)),
            boot,
            session: None,
            is_leading: false,
            inbox: VecDeque::new(),
            cars: BTreeMap::new(),
            open: BTreeMap::new(),
            next_car: 0,
            parked_pass: None,
            next_pass: 0,
        }
    }

    /// Everything that hung on the session goes with it.
    pub(crate) fn end_session(&mut self, now: u64) {
        self.session = None;
        self.is_leading = false;
        self.inbox.clear();
        self.cars.clear();
        self.open.clear();
        self.parked_pass = None;
        let mut effects = Vec::new();
        self.scheduler.handle(Timestamp::from_ms(now), Event::SessionEnded, &mut effects);
    }

    /// Begins to lead.
    pub(crate) fn lead(&mut self, now: u64) -> Vec<Sent> {
        self.is_leading = true;
        let mut effects = Vec::new();
        self.scheduler.handle(Timestamp::from_ms(now), Event::SessionBegan, &mut effects);
        let mut sent = Vec::new();
        effects.into_iter().for_each(|effect| self.carry(now, effect, &mut sent));
        sent
    }

    /// One turn over some of what has arrived; whether the process survives it.
    pub(crate) fn turn(
        &mut self,
        now: u64,
        inputs: usize,
        mut survives: impl FnMut(&Effect) -> bool,
    ) -> (Vec<Sent>, bool) {
        let at = Timestamp::from_ms(now);
        let mut effects = Vec::new();
        let mut sent = Vec::new();
        for _ in 0..inputs {
            let Some(input) = self.inbox.pop_front() else { break };
            for event in self.read(now, input, &mut sent) {
                self.scheduler.handle(at, event, &mut effects);
            }
        }
        if self.is_leading {
            self.scheduler.handle(at, Event::TurnEnded, &mut effects);
            for effect in effects {
                if !survives(&effect) {
                    return (sent, false);
                }
                self.carry(now, effect, &mut sent);
            }
        }
        (sent, true)
    }

    fn delivered(&mut self, tag: u64, loads: Vec<Load>, sent: &mut Vec<Sent>) -> Vec<CarId> {
        if loads.is_empty() {
            sent.push(Sent::Ack(tag));
            return Vec::new();
        }
        self.open.insert(tag, loads.len());
        let enter = |load| {
            let car = CarId(self.next_car);
            self.next_car += 1;
            self.cars.insert(car, Car { tag, load });
            car
        };
        loads.into_iter().map(enter).collect()
    }

    /// As `dispatcher/src/intake.rs` does.
    fn read(&mut self, now: u64, input: Input, sent: &mut Vec<Sent>) -> Vec<Event> {
        let (queue, tag, message) = match input {
            Input::Delivered(queue, tag, message) => (queue, tag, message),
            Input::Stored(op, answer, is_repeated) => {
                return vec![Event::Wrote { op, answer, is_repeated }];
            }
            Input::Posted(ops, outcome) => {
                return ops.into_iter().map(|op| Event::Published { op, outcome }).collect();
            }
            Input::Event(event) => return vec![event],
        };
        let is_redelivered = message.is_redelivered;
        match message.body {
            Body::Submission { mut facts, is_named, delay_ms, start_within_ms } => {
                facts.accepted_at = Timestamp::from_ms(now);
                facts.due_at = delay_ms.map(|ms| Timestamp::from_ms(now + ms));
                facts.start_by = start_within_ms
                    .filter(|_| message.death.is_none())
                    .map(|ms| Timestamp::from_ms(now + ms));
                let source = message.death.unwrap_or(Source::Submit);
                let destination = if is_named { Destination::Here } else { Destination::Named };
                self.arrival(tag, vec![facts], source, destination, is_redelivered, sent)
            }
            Body::Broken { id } => {
                let car = self.delivered(tag, vec![Load::Refused(id.clone())], sent)[0];
                let reason = "it breaks a rule".into();
                vec![Event::Refused(RefusedSubmission { car, id, reason, reply: None })]
            }
            Body::Copies(copies) => {
                let source = message.death.unwrap_or(match queue {
                    Queue::Lane(_) => Source::Lane,
                    Queue::Parked => Source::Parked,
                    _ => Source::Again,
                });
                let mut events =
                    self.arrival(tag, copies, source, Destination::Here, is_redelivered, sent);
                for event in &mut events {
                    if let (Event::Arrived(arrival), Queue::Lane(lane)) = (event, queue) {
                        arrival.lane = Some(lane);
                    }
                }
                events
            }
            Body::Reports(reports) => self.reports(tag, reports, sent),
            Body::Marker { boot, number } => {
                self.delivered(tag, Vec::new(), sent);
                match queue {
                    Queue::Parked if boot == self.boot && self.parked_pass == Some(number) => {
                        self.parked_pass = None;
                        vec![Event::ParkedPassed]
                    }
                    Queue::Outcomes if boot == self.boot => vec![Event::MarkerPassed(number)],
                    _ => Vec::new(),
                }
            }
            Body::Reply { .. } => unreachable!("nobody here reads replies"),
        }
    }

    fn arrival(
        &mut self,
        tag: u64,
        tasks: Vec<Facts>,
        source: Source,
        destination: Destination,
        is_redelivered: bool,
        sent: &mut Vec<Sent>,
    ) -> Vec<Event> {
        let loads = tasks.iter().map(|facts| Load::Task(Box::new(facts.clone()))).collect();
        let cars = self.delivered(tag, loads, sent);
        let arrival = |(car, facts): (CarId, Facts)| {
            let copy = CopyFacts { attempt: facts.attempt, source, is_redelivered };
            let destination = destination.clone();
            Event::Arrived(Arrival { car, copy, facts: Box::new(facts), destination, lane: None })
        };
        cars.into_iter().zip(tasks).map(arrival).collect()
    }

    fn reports(&mut self, tag: u64, reports: Vec<Report>, sent: &mut Vec<Sent>) -> Vec<Event> {
        let load = |report: &Report| match &report.copy {
            Some(copy) => Load::Task(Box::new(Facts { attempt: report.attempt, ..copy.clone() })),
            None => Load::Report,
        };
        let cars = self.delivered(tag, reports.iter().map(load).collect(), sent);
        let event = |(car, report): (CarId, Report)| {
            let Report { id, attempt, worker, said, ran_us, copy, reply } = report;
            let (worker, had_us) = (Some(worker), ran_us);
            Event::Reported(ReportFacts {
                car,
                id,
                attempt,
                worker,
                said,
                ran_us,
                had_us,
                copy: copy.map(Box::new),
                reply,
            })
        };
        cars.into_iter().zip(reports).map(event).collect()
    }

    /// As `dispatcher/src/carry.rs` does.
    fn carry(&mut self, now: u64, effect: Effect, sent: &mut Vec<Sent>) {
        match effect {
            Effect::Write { op, write } => {
                let all = write.fields.iter().find_map(|field| match field {
                    taskyard_scheduler::Field::All(car) => Some(self.task(*car)),
                    _ => None,
                });
                let payload = match write.payload {
                    Payload::Keep => Stored::Keep,
                    Payload::Delete => Stored::Delete,
                    Payload::Store(car, update) => match self.copy(car, &update) {
                        copy if copy.bytes <= PAYLOAD_KEPT_MAX => Stored::Set(Box::new(copy)),
                        _ => Stored::Delete,
                    },
                };
                sent.push(Sent::Write(op, Asked { write, all, payload }));
            }
            Effect::Send { op, car, worker, update, may_share } => {
                let (queue, body) = (worker_queue(&worker), vec![self.copy(car, &update)]);
                let lie = Some(2_000);
                post(sent, queue, Body::Copies(body), lie, vec![op], may_share);
            }
            Effect::Move { op, car, to, update } => self.move_car(now, op, car, to, &update, sent),
            Effect::Reply { op, id, body, .. } => {
                let state = match body {
                    ReplyBody::Report { state, .. } => Some(state),
                    ReplyBody::Stored => None,
                };
                let body = Body::Reply { id, state };
                post(sent, Queue::Replies, body, None, vec![op], false);
            }
            Effect::Release(car) => self.settle(car, sent),
            Effect::Reissue { id, attempt } => sent.push(Sent::Reissue(id, attempt)),
            Effect::Mark(number) => self.mark(Queue::Outcomes, number, sent),
            Effect::DeclareWorker(worker) => sent.push(Sent::Declare(worker)),
            Effect::Fill { from, is_on } => {
                let queue = match from {
                    Reservoir::Lane(lane) => Queue::Lane(lane),
                    Reservoir::Parked => Queue::Parked,
                };
                if queue == Queue::Parked && is_on && self.parked_pass.is_none() {
                    self.next_pass += 1;
                    self.parked_pass = Some(self.next_pass);
                    self.mark(Queue::Parked, self.next_pass, sent);
                }
                sent.push(Sent::Fill(queue, is_on));
            }
            Effect::AskCancel { worker, id, attempt } => {
                sent.push(Sent::AskCancel(worker, id, attempt));
            }
            Effect::AskConsume(_)
            | Effect::AskStop { .. }
            | Effect::Answer { .. }
            | Effect::Note(_) => {}
        }
    }

    fn mark(&self, queue: Queue, number: u64, sent: &mut Vec<Sent>) {
        let body = Body::Marker { boot: self.boot, number };
        post(sent, queue, body, None, Vec::new(), false);
    }

    fn move_car(
        &mut self,
        now: u64,
        op: OpId,
        car: CarId,
        to: Place,
        update: &HeadUpdate,
        sent: &mut Vec<Sent>,
    ) {
        let (queue, lie) = match to {
            Place::Lane(lane) => (Queue::Lane(lane), None),
            Place::Parked => (Queue::Parked, None),
            Place::Again => (Queue::Again, None),
            Place::Later(at) => {
                let level = delay_level(at.since(Timestamp::from_ms(now)));
                (Queue::Delay(level), Some(DELAY_BASE_MS << level))
            }
            Place::Dead => (Queue::Dead, None),
            Place::Pool(_) => unreachable!("there is one pool"),
            Place::Rejected => {
                let Load::Refused(id) = &self.cars[&car].load else {
                    unreachable!("only what was refused is rejected")
                };
                let body = Body::Broken { id: id.clone() };
                return post(sent, Queue::Rejected, body, None, vec![op], false);
            }
        };
        let body = Body::Copies(vec![self.copy(car, update)]);
        post(sent, queue, body, lie, vec![op], queue != Queue::Dead);
    }

    fn settle(&mut self, car: CarId, sent: &mut Vec<Sent>) {
        let car = self.cars.remove(&car).expect("a car is released once");
        let left = self.open.get_mut(&car.tag).expect("its message is open");
        *left -= 1;
        if *left == 0 {
            self.open.remove(&car.tag);
            sent.push(Sent::Ack(car.tag));
        }
    }

    fn task(&self, car: CarId) -> Facts {
        match &self.cars[&car].load {
            Load::Task(facts) => (**facts).clone(),
            other => unreachable!("{car:?} is no task but {other:?}"),
        }
    }

    /// The copy with its head brought up to date.
    fn copy(&self, car: CarId, update: &HeadUpdate) -> Facts {
        let mut facts = self.task(car);
        facts.attempt = update.attempt;
        facts.failures = update.failures;
        facts.losses = update.losses;
        facts.due_at = update.due_at;
        facts.is_suspect = update.is_suspect;
        facts.rounds = update.rounds;
        if update.failures > 0 || update.losses > 0 {
            facts.start_by = None;
        }
        facts
    }
}

fn post(
    sent: &mut Vec<Sent>,
    queue: Queue,
    body: Body,
    lie: Option<u64>,
    ops: Vec<OpId>,
    may_be_coupled: bool,
) {
    sent.push(Sent::Publish(Parcel { queue, body, lie, ops, may_be_coupled }));
}

/// Couples what leaves for the same queue in the same turn into trains.
pub(crate) fn couple(sent: Vec<Sent>, chance: &mut Chance) -> Vec<Sent> {
    let mut out: Vec<Sent> = Vec::with_capacity(sent.len());
    for one in sent {
        if let Sent::Publish(parcel) = &one
            && let (true, Body::Copies(copies)) = (parcel.may_be_coupled, &parcel.body)
            && let Some(train) = out.iter_mut().find_map(|other| has_room(other, parcel.queue))
            && chance.percent(90)
            && let Body::Copies(cars) = &mut train.body
        {
            cars.extend(copies.iter().cloned());
            train.ops.extend(parcel.ops.iter().copied());
            continue;
        }
        out.push(one);
    }
    out
}

fn has_room(sent: &mut Sent, queue: Queue) -> Option<&mut Parcel> {
    match sent {
        Sent::Publish(parcel) if parcel.queue == queue && parcel.may_be_coupled => {
            let is_short = matches!(&parcel.body, Body::Copies(cars) if cars.len() < TRAIN_MAX);
            is_short.then_some(parcel)
        }
        _ => None,
    }
}

pub(crate) fn worker_queue(worker: &WorkerId) -> Queue {
    Queue::Worker(worker.as_str()[1..].parse().expect("workers are called w0, w1, …"))
}

fn delay_level(wait: Duration) -> u32 {
    let steps = (u64::try_from(wait.as_millis()).unwrap() / DELAY_BASE_MS).max(1);
    steps.ilog2().min(DELAYS - 1)
}
