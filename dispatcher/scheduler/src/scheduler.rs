use crate::class::{ClassKey, Classes};
use crate::entry::{Entries, Entry, Phase};
use crate::event::{
    Answer, Command, Effect, Event, Expect, Field, HeadUpdate, Keep, Note, OpId, Outcome, Payload,
    Place, Record, RefusedSubmission, ReportFacts, Write,
};
use crate::facts::{CarId, Facts};
use crate::flight::Flight;
use crate::order::{self, Order, Rank};
use crate::reservoir::Reservoirs;
use crate::rng::Rng;
use crate::route::{self, Route};
use crate::settings::Settings;
use crate::worker::Workers;
use foldhash::fast::{FixedState, FoldHasher};
use indexmap::IndexMap;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::BuildHasher;
use taskyard_model::{Kind, State, TaskId, Timestamp, Transition, Wants, WorkerId};

/// Hashes the same way in every run, from a seed that is handed in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hasher {
    seed: u64,
}

impl BuildHasher for Hasher {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> Self::Hasher {
        FixedState::with_seed(self.seed).build_hasher()
    }
}

/// What an answer is waited for.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    /// A submission is being recorded as waiting.
    Accept(CarId),
    /// A copy's record is being read.
    Probe(CarId),
    /// A later reply address is being recorded.
    Readdress(CarId),
    /// The reply address of a copy that stays is being recorded.
    NoteReply(CarId),
    /// A lost record is being written anew.
    Rebuild(CarId),
    /// A forgotten attempt is being recorded.
    Adopt(CarId),
    /// A dispatch is being recorded.
    Dispatch { car: CarId, worker: usize, attempt: u32 },
    /// A copy is on its way to a worker.
    Sent { car: CarId, attempt: u32 },
    /// A copy is on its way elsewhere.
    Moved(CarId),
    /// A dead letter is on its way.
    Buried(CarId),
    /// A copy that came back is being recorded as waiting again.
    Requeue { car: CarId, update: HeadUpdate },
    /// A failure of a copy in hand is being recorded.
    FailCopy { car: CarId, verdict: crate::retry::Failure },
    /// The end of a task that no worker has is being recorded.
    Ended { car: Option<CarId>, id: TaskId, state: State },
    /// The record of a task is being read that nothing here stands for and whose start-by may have
    /// passed.
    StartBy { id: TaskId, attempt: u32 },
    /// The last write about a car, if there is one, is on its way.
    Last(Option<CarId>),
    /// A submission's refusal is being recorded.
    Refuse(RefusedSubmission),
    /// A report is being recorded.
    Report(Box<ReportFacts>, crate::report::Step),
    /// A dead letter is in its place and is being struck out.
    Struck(CarId),
    /// A reply is on its way; then the car, if there is one, is done.
    Replied { car: Option<CarId>, id: TaskId, owes: bool },
    /// An attempt over its limit is being recorded.
    TimeOut { id: TaskId, attempt: u32, verdict: crate::retry::Failure },
    /// A task is being looked at or changed for a cancel.
    Cancel { ask: u64, id: TaskId, step: crate::cancel::Step },
}

/// Something to do later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A held copy is due.
    Due(CarId),
    /// A copy that came back is judged again.
    JudgeAgain(CarId),
    /// A task must have started.
    StartBy { id: TaskId, attempt: u32 },
    /// The copy of an attempt that did not succeed should have come back.
    CopyDue { id: TaskId, attempt: u32 },
    /// A suspect task has run long enough to be trusted.
    Trusted { id: TaskId, attempt: u32 },
}

impl Timer {
    fn is_about_a_copy(&self) -> bool {
        matches!(self, Timer::Due(_) | Timer::JudgeAgain(_))
    }
}

/// What is known of the run times of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunTime {
    pub(crate) mean_us: f64,
}

/// How much there is, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Copies held.
    pub held: usize,
    /// Of them, in the window.
    pub waiting: usize,
    /// Bytes of their payloads.
    pub bytes: usize,
    /// Attempts that workers have.
    pub in_flight: usize,
    /// Workers that take tasks.
    pub workers: usize,
    /// Slots of those workers.
    pub slots: u64,
    /// Slots taken.
    pub used: u64,
    /// Answers waited for.
    pub pending: usize,
}

/// The state machine.
pub struct Scheduler {
    pub(crate) settings: Settings,
    pub(crate) now: Timestamp,
    pub(crate) listening_since: Timestamp,
    /// Only a leader keeps books: a standby hears beats, but neither reports nor markers.
    pub(crate) is_leading: bool,
    /// Nothing has been heard since the last session ended.
    is_deaf: bool,
    turned_at: Timestamp,
    pub(crate) rng: Rng,
    pub(crate) hasher: Hasher,
    pub(crate) order: Box<dyn Order>,
    pub(crate) route: Box<dyn Route>,
    pub(crate) entries: Entries,
    pub(crate) classes: Classes,
    pub(crate) workers: Workers,
    pub(crate) flights: IndexMap<TaskId, Flight, Hasher>,
    pub(crate) run_times: IndexMap<Kind, RunTime, Hasher>,
    pub(crate) reservoirs: Reservoirs,
    /// Attempts that were reported failed or returned, and whose copy is on its way back.
    pub(crate) copies_due: IndexMap<TaskId, u32, Hasher>,
    /// Submissions about which nothing is written yet, oldest first.
    pub(crate) fresh: VecDeque<CarId>,
    pub(crate) round_trip: crate::dispatch::RoundTrip,
    pub(crate) marker: u64,
    pub(crate) looked_at: Timestamp,
    pending: IndexMap<OpId, Pending, Hasher>,
    timers: BinaryHeap<Reverse<(Timestamp, u64, Timer)>>,
    next_op: u64,
    next_sequence: u64,
    out: Vec<Effect>,
}

impl Scheduler {
    /// A scheduler that knows nothing yet and began to listen at `now`.
    #[must_use]
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        let hasher = Hasher { seed: settings.seed };
        Self {
            now,
            listening_since: now,
            is_leading: false,
            is_deaf: false,
            turned_at: now,
            rng: Rng::new(settings.seed),
            hasher,
            order: order::named(&settings),
            route: route::named(&settings),
            entries: Entries::new(hasher),
            classes: Classes::new(hasher),
            workers: Workers::new(hasher),
            flights: IndexMap::with_hasher(hasher),
            run_times: IndexMap::with_hasher(hasher),
            reservoirs: Reservoirs::default(),
            copies_due: IndexMap::with_hasher(hasher),
            fresh: VecDeque::new(),
            round_trip: crate::dispatch::RoundTrip::default(),
            marker: 0,
            looked_at: Timestamp::ZERO,
            pending: IndexMap::with_hasher(hasher),
            timers: BinaryHeap::new(),
            next_op: 0,
            next_sequence: 0,
            out: Vec::new(),
            settings,
        }
    }

    /// Takes in one event; what it makes happen is appended to `effects`.
    ///
    /// Decisions about what goes where fall with [`Event::TurnEnded`].
    pub fn handle(&mut self, now: Timestamp, event: Event, effects: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        std::mem::swap(&mut self.out, effects);
        match event {
            Event::SessionBegan => self.session_began(),
            Event::SessionEnded => {
                self.is_leading = false;
                self.is_deaf = true;
            }
            Event::Arrived(arrival) => self.arrived(arrival),
            Event::Refused(submission) => self.refused(submission),
            Event::Reported(report) => self.reported(report),
            Event::Beat(beat) => self.beat(beat),
            Event::Wrote { op, answer, is_repeated } => self.wrote(op, answer, is_repeated),
            Event::Published { op, outcome } => self.published(op, outcome),
            Event::MarkerPassed(marker) => self.marker_passed(marker),
            Event::ParkedPassed => self.parked_passed(),
            Event::FoundInFlight { id, record } => self.found_in_flight(&id, &record),
            Event::NothingToReissue { id, attempt } => self.nothing_to_reissue(&id, attempt),
            Event::Commanded(Command::Cancel { ask, id }) => self.cancel_asked(ask, id),
            Event::TurnEnded => self.turn_ended(),
        }
        std::mem::swap(&mut self.out, effects);
    }

    /// When [`Event::TurnEnded`] is needed even if nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        let look = self.looked_at + LOOK_INTERVAL;
        let accept = self.accept_by().unwrap_or(look);
        self.timers.peek().map_or(look, |Reverse((at, _, _))| look.min(*at)).min(accept)
    }

    /// How much there is.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let taking =
            || self.workers.iter().filter(|(_, w)| !w.is_suspect && !w.is_lost && !w.is_draining);
        Gauges {
            held: self.entries.len(),
            waiting: self.classes.waiting(),
            bytes: self.entries.bytes(),
            in_flight: self.flights.len(),
            workers: taking().count(),
            slots: taking().map(|(_, w)| u64::from(w.slots)).sum(),
            used: taking().map(|(_, w)| u64::from(w.used)).sum(),
            pending: self.pending.len(),
        }
    }

    /// State and slots taken of each worker, for the view that people see.
    pub fn workers(&self) -> impl Iterator<Item = (&WorkerId, &'static str, u32)> {
        self.workers.iter().map(|(_, w)| {
            let state = match w {
                w if w.is_lost => "lost",
                w if w.is_suspect => "suspect",
                w if w.is_draining => "draining",
                _ => "up",
            };
            (&w.id, state, w.used)
        })
    }

    /// Every delivery of before is void. What workers have stays in the books.
    fn session_began(&mut self) {
        self.hear_again();
        self.is_leading = true;
        for (number, slots) in self.reserved() {
            if let Some(worker) = self.workers.get_mut(number) {
                worker.used = worker.used.saturating_sub(slots);
            }
        }
        self.entries.clear();
        self.classes.clear();
        self.fresh.clear();
        self.pending.clear();
        self.timers.retain(|Reverse((_, _, timer))| !timer.is_about_a_copy());
        self.reservoirs = Reservoirs::default();
        self.listening_since = self.now;
        self.turned_at = self.now;
        self.reopen_books();
        // Queues may be gone with a broker that was set up anew.
        let workers: Vec<WorkerId> = self.workers.iter().map(|(_, w)| w.id.clone()).collect();
        workers.into_iter().for_each(|id| self.out.push(Effect::DeclareWorker(id)));
    }

    /// Slots that dispatches being recorded have taken, by worker.
    fn reserved(&self) -> Vec<(usize, u32)> {
        let of = |pending: &Pending| match pending {
            Pending::Dispatch { car, worker, .. } => {
                Some((*worker, self.entries.get(*car)?.facts.slots))
            }
            _ => None,
        };
        self.pending.values().filter_map(of).collect()
    }

    /// What workers were silent about while nobody listened does not count against them.
    pub(crate) fn hear_again(&mut self) {
        if !std::mem::take(&mut self.is_deaf) {
            return;
        }
        let now = self.now;
        for (_, worker) in self.workers.iter_mut().filter(|(_, worker)| !worker.is_lost) {
            worker.last_beat = now;
        }
    }

    /// A process that was frozen, or starved, finds beats unread: they come with the next turns.
    fn forgive_own_silence(&mut self) {
        let gap = self.now.since(self.turned_at);
        self.turned_at = self.now;
        if gap > FROZEN_AFTER {
            self.is_deaf = true;
            self.hear_again();
        }
    }

    fn turn_ended(&mut self) {
        self.forgive_own_silence();
        while let Some(Reverse((at, _, _))) = self.timers.peek() {
            if *at > self.now {
                break;
            }
            if let Some(Reverse((_, _, timer))) = self.timers.pop() {
                self.fired(timer);
            }
        }
        if self.now >= self.looked_at + LOOK_INTERVAL {
            self.looked_at = self.now;
            self.look_at_workers();
            self.look_at_flights();
            if self.classes.len() > CLASSES_KEPT {
                self.classes.forget_empty();
            }
        }
        self.dispatch();
        self.accept_fresh();
        self.make_room();
        self.refill();
    }

    fn fired(&mut self, timer: Timer) {
        match timer {
            Timer::Due(car) => {
                if matches!(self.entries.get(car), Some(Entry { phase: Phase::Holding { until }, .. }) if *until <= self.now)
                {
                    self.wait(car);
                }
            }
            Timer::JudgeAgain(car) => {
                if let Some(entry) = self.entries.get(car) {
                    let id = entry.facts.id.clone();
                    self.read(id, Pending::Probe(car));
                }
            }
            Timer::StartBy { id, attempt } => self.start_by_passed(id, attempt),
            Timer::CopyDue { id, attempt } => self.copy_is_overdue(id, attempt),
            Timer::Trusted { id, attempt } => self.trusted(&id, attempt),
        }
    }

    fn wrote(&mut self, op: OpId, answer: Answer, is_repeated: bool) {
        // An answer to a session that is over.
        let Some(pending) = self.pending.swap_remove(&op) else { return };
        if is_repeated {
            self.may_be_ours(&pending);
        }
        match pending {
            Pending::Accept(car) => self.accepted(car, answer),
            Pending::Probe(car) => match answer {
                Answer::Refused(record) | Answer::Applied(record) => self.judge(car, record),
            },
            Pending::Readdress(car) => self.readdressed(car, answer),
            Pending::NoteReply(car) => self.reply_noted(car, answer),
            Pending::Rebuild(car) => self.rebuilt(car, answer),
            Pending::Adopt(car) => self.adopted(car, answer),
            Pending::Dispatch { car, worker, attempt } => {
                self.dispatched(car, worker, attempt, answer);
            }
            Pending::Requeue { car, update } => self.requeued(car, update, answer),
            Pending::FailCopy { car, verdict } => self.copy_failed(car, verdict, answer),
            Pending::Ended { car, id, state } => self.ended(car, &id, state, answer),
            Pending::StartBy { id, attempt } => match answer {
                Answer::Refused(record) | Answer::Applied(record) => {
                    self.start_by_read(&id, attempt, record.as_ref());
                }
            },
            Pending::Last(car) => car.into_iter().for_each(|car| self.release(car)),
            Pending::Struck(car) => self.conclude_copy(car),
            Pending::Refuse(submission) => self.refusal_recorded(submission, &answer),
            Pending::Report(report, step) => self.report_recorded(*report, step, answer),
            Pending::TimeOut { id, attempt, verdict } => {
                self.timed_out(&id, attempt, &verdict, &answer);
            }
            Pending::Cancel { ask, id, step } => self.cancel_answered(ask, id, step, answer),
            Pending::Sent { .. }
            | Pending::Moved(_)
            | Pending::Buried(_)
            | Pending::Replied { .. } => {
                unreachable!("the store does not answer for the broker")
            }
        }
    }

    /// The record may show our own earlier write: such a submission is no second one.
    fn may_be_ours(&mut self, pending: &Pending) {
        if let Pending::Accept(car) | Pending::Dispatch { car, .. } | Pending::Rebuild(car) =
            pending
            && let Some(entry) = self.entries.get_mut(*car)
        {
            entry.copy.is_redelivered = true;
        }
    }

    fn published(&mut self, op: OpId, outcome: Outcome) {
        let Some(pending) = self.pending.swap_remove(&op) else { return };
        match pending {
            Pending::Sent { car, attempt } => self.sent(car, attempt, outcome),
            Pending::Moved(car) => self.release(car),
            Pending::Buried(car) => self.buried(car),
            Pending::Replied { car, id, owes } => {
                if outcome == Outcome::Returned {
                    self.note(Note::ReplyDropped(id.clone()));
                }
                self.replied(car, id, owes);
            }
            other => unreachable!("the broker does not answer for the store: {other:?}"),
        }
    }

    // What the other parts are made of.

    pub(crate) fn note(&mut self, note: Note) {
        self.out.push(Effect::Note(note));
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    pub(crate) fn expecting(&mut self, pending: Pending) -> OpId {
        let op = OpId(self.next_op);
        self.next_op += 1;
        self.pending.insert(op, pending);
        op
    }

    pub(crate) fn write(&mut self, write: Write, pending: Pending) {
        let op = self.expecting(pending);
        self.out.push(Effect::Write { op, write });
    }

    /// Looks at a task's record.
    pub(crate) fn read(&mut self, id: TaskId, pending: Pending) {
        self.write(Write::look(id), pending);
    }

    pub(crate) fn publish(&mut self, car: CarId, to: Place, update: HeadUpdate, pending: Pending) {
        if let Some(entry) = self.entries.get_mut(car) {
            entry.phase = Phase::Leaving;
        }
        let op = self.expecting(pending);
        self.out.push(Effect::Move { op, car, to, update });
    }

    pub(crate) fn move_to(&mut self, car: CarId, to: Place, update: HeadUpdate) {
        self.publish(car, to, update, Pending::Moved(car));
    }

    /// A copy or report is done with.
    pub(crate) fn release(&mut self, car: CarId) {
        if let Some(entry) = self.entries.remove(car) {
            self.reservoirs.released(entry.lane, self.now);
        }
        self.out.push(Effect::Release(car));
    }

    pub(crate) fn at(&mut self, when: Timestamp, timer: Timer) {
        self.next_sequence += 1;
        self.timers.push(Reverse((when, self.next_sequence, timer)));
    }

    /// Puts a copy into the window.
    pub(crate) fn wait(&mut self, car: CarId) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        self.next_sequence += 1;
        let rank = Rank { key: self.order.key(&entry.facts), sequence: self.next_sequence };
        let workers = &self.workers;
        let class = self.classes.id_of(ClassKey::of(&entry.facts), |key| workers.who_take(key));
        entry.phase = Phase::Waiting { class, rank };
        self.classes.insert(class, rank, car, entry.facts.bytes);
    }

    /// Takes a copy out of the window, if it is there.
    pub(crate) fn unwait(&mut self, car: CarId) {
        let Some(entry) = self.entries.get_mut(car) else { return };
        if let Phase::Waiting { class, rank } = entry.phase {
            entry.phase = Phase::Checking;
            self.classes.remove(class, rank, car, entry.facts.bytes);
        }
    }

    /// How long a final state is remembered: as asked, but not before the last message that may
    /// still carry the task is due.
    pub(crate) fn keep(&self, state: State, asked_ms: Option<u64>, due: Option<Timestamp>) -> Keep {
        let default = match state {
            State::Succeeded => self.settings.keep_succeeded,
            _ => self.settings.keep_others,
        };
        let asked = asked_ms.map_or(default, std::time::Duration::from_millis);
        let copies_due = due.map_or(std::time::Duration::ZERO, |due| due.since(self.now));
        Keep::For(asked.max(KEEP_MIN + copies_due))
    }
}

/// A turn falls due after half a second at most: after so long this process did not run at all.
const FROZEN_AFTER: std::time::Duration = std::time::Duration::from_secs(4);
/// How often workers and attempts are looked at.
const LOOK_INTERVAL: std::time::Duration = std::time::Duration::from_millis(500);
/// Classes kept although nothing waits in them.
const CLASSES_KEPT: usize = 4_096;
/// A final state is remembered for at least so long: nothing that we consume stays unacked for
/// more than 10 minutes, so no copy of the task turns up later.
const KEEP_MIN: std::time::Duration = std::time::Duration::from_secs(15 * 60);

impl Write {
    /// Changes nothing.
    pub(crate) fn look(id: TaskId) -> Self {
        Self {
            id,
            transition: None,
            expect: Expect::Any,
            state: None,
            fields: Vec::new(),
            payload: Payload::Keep,
            keep: Keep::Unchanged,
            wants: Wants::Record,
        }
    }

    pub(crate) fn new(
        id: &TaskId,
        transition: Transition,
        expect: Expect,
        state: State,
        fields: Vec<Field>,
    ) -> Self {
        let state = (!transition.to().is_empty()).then_some(state);
        Self {
            transition: Some(transition),
            expect,
            state,
            fields,
            wants: Wants::Nothing,
            ..Self::look(id.clone())
        }
    }
}

impl Record {
    /// Whether it is what this very change would have left: then it was applied before, and only
    /// the answer was lost.
    pub(crate) fn is_dispatch(&self, attempt: u32, worker: &WorkerId) -> bool {
        self.state == State::Dispatched
            && self.attempt == attempt
            && self.worker.as_ref() == Some(worker)
    }
}

impl HeadUpdate {
    /// As it is.
    pub(crate) fn of(facts: &Facts) -> Self {
        Self {
            attempt: facts.attempt,
            failures: facts.failures,
            losses: facts.losses,
            due_at: facts.due_at,
            is_suspect: facts.is_suspect,
            rounds: facts.rounds,
        }
    }
}
