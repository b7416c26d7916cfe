//! Sessions, workers and copies that overtake each other, event by event.
#![expect(clippy::unwrap_used, reason = "what cannot be is a failed test")]

use taskyard_model::{
    Backoff, CopyFacts, ErrorKind, Labels, Source, State, TaskId, Timestamp, Transition, WorkerId,
};
use taskyard_scheduler::{
    Answer, Arrival, BeatFacts, CarId, Destination, Effect, Event, Facts, Fault, Field, OpId,
    Outcome, Place, Record, ReportFacts, Reservoir, Said, Scheduler, Settings, Write,
};

/// A scheduler and what it has asked for since the last look.
struct Stage {
    scheduler: Scheduler,
    now: Timestamp,
    effects: Vec<Effect>,
}

impl Stage {
    fn new(settings: Settings) -> Self {
        let now = Timestamp::from_ms(1_000_000);
        let scheduler = Scheduler::new(settings, now);
        let mut stage = Self { scheduler, now, effects: Vec::new() };
        stage.tell(Event::SessionBegan);
        stage
    }

    fn tell(&mut self, event: Event) {
        self.scheduler.handle(self.now, event, &mut self.effects);
    }

    /// Time passes, in turns as short as the scheduler asks for.
    fn pass(&mut self, ms: u64) {
        let end = self.now.as_ms() + ms;
        while self.now.as_ms() < end {
            self.now = Timestamp::from_ms((self.now.as_ms() + 250).min(end));
            self.tell(Event::TurnEnded);
        }
    }

    fn beat(&mut self, worker: &str, boot: &str, holding: &[(&str, u32)]) {
        let holding = holding.iter().map(|&(id, attempt)| (task(id), attempt)).collect();
        self.tell(Event::Beat(BeatFacts {
            id: worker_id(worker),
            boot: boot.into(),
            kinds: vec!["#".parse().unwrap()],
            slots: 2,
            labels: Labels::default(),
            weight: 1,
            is_draining: false,
            takes_trains: true,
            holding,
        }));
    }

    fn arrive(&mut self, car: u64, id: &str, source: Source, attempt: u32) {
        self.arrive_with(car, facts(id, attempt), source, None);
    }

    fn arrive_with(&mut self, car: u64, facts: Facts, source: Source, lane: Option<u8>) {
        let copy = CopyFacts { attempt: facts.attempt, source, is_redelivered: false };
        let destination = Destination::Here;
        self.tell(Event::Arrived(Arrival {
            car: CarId(car),
            copy,
            facts: Box::new(facts),
            destination,
            lane,
        }));
    }

    /// The writes and looks asked for since the last look.
    fn writes(&mut self) -> Vec<(OpId, Write)> {
        let effects = std::mem::take(&mut self.effects);
        let writes = effects.into_iter().filter_map(|effect| match effect {
            Effect::Write { op, write } => Some((op, write)),
            _ => None,
        });
        writes.collect()
    }

    fn answer(&mut self, op: OpId, answer: Answer) {
        self.tell(Event::Wrote { op, answer, is_repeated: false });
    }

    /// Lets a new submission be dispatched: its message's op and its worker.
    fn dispatch(&mut self, car: u64, id: &str) -> (OpId, WorkerId) {
        self.arrive(car, id, Source::Submit, 0);
        self.tell(Event::TurnEnded);
        let (op, _) = self.writes().pop().expect("its dispatch is recorded");
        self.answer(op, Answer::Applied(None));
        let sent = self.effects.iter().find_map(|effect| match effect {
            Effect::Send { op, worker, .. } => Some((*op, worker.clone())),
            _ => None,
        });
        sent.expect("it is sent")
    }

    fn confirm(&mut self, op: OpId) {
        self.tell(Event::Published { op, outcome: Outcome::Confirmed });
    }

    fn is_released(&self, car: u64) -> bool {
        self.effects.contains(&Effect::Release(CarId(car)))
    }

    fn asked_to_stop(&self) -> Vec<&str> {
        let stops = self.effects.iter().filter_map(|effect| match effect {
            Effect::AskStop { boot, .. } => Some(&**boot),
            _ => None,
        });
        stops.collect()
    }
}

fn task(id: &str) -> TaskId {
    id.parse().unwrap()
}

fn worker_id(id: &str) -> WorkerId {
    id.parse().unwrap()
}

fn facts(id: &str, attempt: u32) -> Facts {
    Facts {
        id: task(id),
        kind: "echo".parse().unwrap(),
        requires: Labels::default(),
        slots: 1,
        priority: 0,
        accepted_at: Timestamp::from_ms(999_000),
        due_at: None,
        start_by: None,
        timeout_ms: None,
        attempt,
        failures: 0,
        losses: 0,
        max_attempts: 5,
        max_losses: 5,
        backoff: Backoff::default(),
        keep_ms: None,
        is_suspect: false,
        rounds: 0,
        bytes: 10,
        reply: None,
    }
}

fn record(state: State, attempt: u32, worker: Option<&str>) -> Record {
    Record {
        state,
        attempt,
        failures: 0,
        losses: 0,
        max_attempts: 5,
        max_losses: 5,
        backoff: Backoff::default(),
        worker: worker.map(worker_id),
        next_at: None,
        reply: None,
        owes_dead_letter: false,
        is_cancel_asked: false,
        keep_ms: None,
        start_by: None,
    }
}

#[test]
fn a_standby_keeps_no_books_and_a_new_leader_knows_what_workers_hold() {
    let mut stage = Stage::new(Settings::default());
    stage.tell(Event::SessionEnded);
    for number in 0..100 {
        stage.beat("w1", "b1", &[(&format!("t{number}"), 1)]);
    }
    assert_eq!(stage.scheduler.gauges().in_flight, 0);
    stage.tell(Event::SessionBegan);
    let gauges = stage.scheduler.gauges();
    assert_eq!((gauges.in_flight, gauges.used), (1, 1));
}

#[test]
fn a_heartbeat_that_a_report_has_overtaken_takes_no_slot() {
    let mut stage = Stage::new(Settings::default());
    stage.beat("w1", "b1", &[]);
    // Written while it still had them; what they report has come through before.
    stage.beat("w1", "b1", &[("t1", 1), ("t2", 1)]);
    assert_eq!(stage.scheduler.gauges().used, 0);
    stage.beat("w1", "b1", &[("t2", 1), ("t3", 1)]);
    let gauges = stage.scheduler.gauges();
    assert_eq!((gauges.in_flight, gauges.used), (1, 1), "t2 is really there");
}

#[test]
fn what_was_not_confirmed_holds_no_slot_in_the_next_session() {
    let mut stage = Stage::new(Settings::default());
    stage.beat("w1", "b1", &[]);
    stage.dispatch(1, "t1");
    assert_eq!(stage.scheduler.gauges().used, 1);
    stage.tell(Event::SessionEnded);
    stage.tell(Event::SessionBegan);
    assert_eq!(stage.scheduler.gauges().used, 0);
}

#[test]
fn what_vanished_in_one_session_is_issued_again_in_the_next() {
    let mut stage = Stage::new(Settings::default());
    stage.beat("w1", "b1", &[]);
    let (op, _) = stage.dispatch(1, "t1");
    stage.confirm(op);
    for _ in 0..4 {
        stage.pass(2_000);
        stage.beat("w1", "b1", &[]);
    }
    stage.pass(1_000);
    assert!(stage.effects.contains(&Effect::Mark(1)), "{:?}", stage.effects);
    // The marker is lost with the session.
    stage.tell(Event::SessionEnded);
    stage.tell(Event::SessionBegan);
    stage.pass(1_000);
    assert!(stage.effects.contains(&Effect::Mark(2)), "{:?}", stage.effects);
    stage.tell(Event::MarkerPassed(2));
    assert!(stage.effects.iter().any(|effect| matches!(effect, Effect::Reissue { .. })));
}

#[test]
fn workers_are_not_lost_because_nobody_listened() {
    let mut stage = Stage::new(Settings::default());
    stage.beat("w1", "b1", &[]);
    stage.tell(Event::SessionEnded);
    stage.now = Timestamp::from_ms(stage.now.as_ms() + 300_000);
    stage.tell(Event::SessionBegan);
    stage.pass(1_000);
    assert_eq!(stage.scheduler.gauges().workers, 1);
    stage.pass(31_000);
    assert_eq!(stage.scheduler.gauges().workers, 0);
}

#[test]
fn workers_are_not_lost_because_this_process_was_frozen() {
    let mut stage = Stage::new(Settings::default());
    stage.beat("w1", "b1", &[]);
    stage.tell(Event::TurnEnded);
    stage.now = Timestamp::from_ms(stage.now.as_ms() + 40_000);
    stage.tell(Event::TurnEnded);
    assert_eq!(stage.scheduler.gauges().workers, 1);
}

#[test]
fn a_second_submission_and_the_delayed_copy_never_both_go() {
    let mut stage = Stage::new(Settings::default());
    let due_at = Timestamp::from_ms(stage.now.as_ms() + 60_000);
    let delayed = Facts { due_at: Some(due_at), ..facts("t1", 0) };
    stage.arrive_with(1, delayed.clone(), Source::Submit, None);
    stage.arrive_with(2, delayed, Source::Again, None);
    let known = Record { next_at: Some(due_at), ..record(State::Delayed, 0, None) };
    for (op, _) in stage.writes().into_iter().rev() {
        stage.answer(op, Answer::Refused(Some(known.clone())));
    }
    assert!(stage.is_released(1), "the second submission changes nothing");
    assert!(!stage.is_released(2), "it is the durable copy");
}

#[test]
fn the_older_of_two_lives_is_heard_again() {
    let mut stage = Stage::new(Settings::default());
    stage.beat("w1", "old", &[]);
    stage.beat("w1", "new", &[]);
    assert!(stage.asked_to_stop().is_empty());
    stage.beat("w1", "old", &[]);
    stage.beat("w1", "new", &[]);
    assert_eq!(stage.asked_to_stop(), ["new", "new"]);
    for _ in 0..30 {
        stage.pass(2_000);
        stage.beat("w1", "old", &[]);
    }
    assert_eq!(stage.scheduler.gauges().workers, 1);
    assert_eq!(stage.asked_to_stop().len(), 2);
    stage.beat("w1", "newest", &[]);
    assert_eq!(stage.asked_to_stop().len(), 2, "a restart is no second worker");
}

/// Sends a task to w1, and brings its copy back two seconds later; w1's beat is due.
fn come_back() -> Stage {
    let mut stage = Stage::new(Settings::default());
    stage.beat("w1", "b1", &[]);
    let (op, _) = stage.dispatch(1, "t1");
    stage.confirm(op);
    stage.pass(2_000);
    stage.effects.clear();
    stage.arrive(2, "t1", Source::WorkerExpired, 1);
    answer_looks(&mut stage);
    stage
}

/// Answers looks with a record that is dispatched to w1; what else was asked for.
fn answer_looks(stage: &mut Stage) -> Vec<Write> {
    let mut others = Vec::new();
    for (op, write) in stage.writes() {
        match write.transition {
            None => {
                let dispatched = record(State::Dispatched, 1, Some("w1"));
                stage.answer(op, Answer::Refused(Some(dispatched)));
            }
            Some(_) => {
                others.push(write);
                stage.answer(op, Answer::Applied(None));
            }
        }
    }
    others
}

/// What moves to the parked queue or a lane, or is sent, since the last look.
fn sent_as_suspect(stage: &mut Stage) -> Option<bool> {
    for _ in 0..20 {
        stage.pass(250);
        let sent = stage.effects.iter().find_map(|effect| match effect {
            Effect::Send { update, .. } => Some(update.is_suspect),
            _ => None,
        });
        if sent.is_some() {
            return sent;
        }
        answer_looks(stage);
    }
    None
}

#[test]
fn what_lay_untouched_at_a_worker_that_lives_is_no_suspect() {
    let mut stage = come_back();
    stage.pass(250);
    stage.beat("w1", "b1", &[]);
    assert_eq!(sent_as_suspect(&mut stage), Some(false));
}

#[test]
fn what_came_back_from_a_worker_that_fell_silent_is_a_suspect() {
    let mut stage = come_back();
    stage.beat("w2", "b1", &[]);
    assert_eq!(sent_as_suspect(&mut stage), Some(true));
}

#[test]
fn what_came_back_from_a_dead_worker_is_not_given_to_it_again() {
    let mut stage = come_back();
    stage.pass(2_250);
    assert_eq!(stage.scheduler.gauges().workers, 1);
    for _ in 0..4 {
        stage.pass(250);
        answer_looks(&mut stage);
    }
    assert_eq!(stage.scheduler.gauges().workers, 0);
    stage.beat("w1", "b1", &[]);
    assert_eq!(stage.scheduler.gauges().workers, 1);
}

#[test]
fn a_suspect_task_gets_a_worker_for_itself_although_all_are_busy() {
    let mut stage = Stage::new(Settings::default());
    stage.beat("w1", "b1", &[]);
    for car in 1..=2 {
        let (op, _) = stage.dispatch(car, &format!("t{car}"));
        stage.confirm(op);
    }
    let suspect = Facts { is_suspect: true, ..facts("s", 1) };
    stage.arrive_with(10, suspect, Source::Lane, Some(0));
    for car in 11..=20 {
        stage.arrive(car, &format!("t{car}"), Source::Lane, 0);
    }
    stage.tell(Event::TurnEnded);
    stage.effects.clear();
    for (number, slots) in [(1, 1), (2, 0)] {
        stage.tell(Event::NothingToReissue { id: task(&format!("t{number}")), attempt: 1 });
        assert_eq!(stage.scheduler.gauges().used, slots);
        stage.tell(Event::TurnEnded);
        let next: Vec<TaskId> = stage.writes().into_iter().map(|(_, write)| write.id).collect();
        assert_eq!(next, if slots == 0 { vec![task("s")] } else { vec![] });
    }
}

#[test]
fn a_lane_is_read_on_as_long_as_copies_of_it_are_held() {
    let mut stage = Stage::new(Settings::default());
    stage.beat("w1", "b1", &[]);
    stage.pass(5_000);
    // Nothing came: all lanes count as empty.
    let ends = |stage: &Stage| {
        let off = Effect::Fill { from: Reservoir::Lane(3), is_on: false };
        stage.effects.iter().filter(|&effect| *effect == off).count()
    };
    assert_eq!(ends(&stage), 1);
    // They are looked into again, and now there is something.
    stage.pass(57_000);
    for car in 1..=5 {
        stage.arrive_with(car, facts(&format!("t{car}"), 0), Source::Lane, Some(3));
    }
    stage.pass(20_000);
    stage.beat("w1", "b1", &[]);
    assert_eq!(ends(&stage), 1, "two are sent, three wait, more may be behind them");
}

#[test]
fn what_nobody_takes_goes_back_to_the_parked_queue_at_once() {
    let mut stage = Stage::new(Settings::default());
    stage.arrive(1, "t1", Source::Parked, 0);
    let moved = stage
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::Move { car: CarId(1), to: Place::Parked, .. }));
    assert!(moved, "{:?}", stage.effects);
}

/// How long a failed attempt with a backoff of 5 s is put off, when its worker asks for this.
fn put_off_ms(retry_after_ms: Option<u64>) -> u64 {
    let mut stage = Stage::new(Settings::default());
    stage.beat("w1", "b1", &[]);
    let task = Facts { backoff: Backoff::Fixed { base_ms: 5_000 }, ..facts("t1", 0) };
    stage.arrive_with(1, task.clone(), Source::Submit, None);
    stage.tell(Event::TurnEnded);
    let (op, _) = stage.writes().pop().expect("its dispatch is recorded");
    stage.answer(op, Answer::Applied(None));
    stage.effects.clear();
    let fault = Fault { retry_after_ms, ..Fault::of(ErrorKind::Failed) };
    stage.tell(Event::Reported(ReportFacts {
        car: CarId(2),
        id: task.id.clone(),
        attempt: 1,
        worker: Some(worker_id("w1")),
        said: Said::Failed(fault),
        ran_us: None,
        had_us: None,
        copy: Some(Box::new(Facts { attempt: 1, ..task })),
        reply: None,
    }));
    let (_, write) = stage.writes().pop().expect("the failure is recorded");
    let next_at = write.fields.iter().find_map(|field| match field {
        Field::NextAt(at) => *at,
        _ => None,
    });
    next_at.expect("it is retried").as_ms() - stage.now.as_ms()
}

#[test]
fn what_a_worker_asks_for_is_the_least_that_a_retry_waits_and_at_most_a_day() {
    assert_eq!(put_off_ms(None), 5_000);
    assert_eq!(put_off_ms(Some(0)), 5_000);
    assert_eq!(put_off_ms(Some(4_999)), 5_000);
    assert_eq!(put_off_ms(Some(30_000)), 30_000);
    assert_eq!(put_off_ms(Some(u64::MAX)), 86_400_000);
}

/// A submission that must have started within so many ms.
fn hurried(stage: &Stage, id: &str, ms: u64) -> Facts {
    Facts { start_by: Some(Timestamp::from_ms(stage.now.as_ms() + ms)), ..facts(id, 0) }
}

/// The transitions among what was asked for since the last look; `None` is a look.
fn asked(stage: &mut Stage) -> Vec<(OpId, Option<Transition>)> {
    stage.writes().into_iter().map(|(op, write)| (op, write.transition)).collect()
}

#[test]
fn a_second_submission_that_expires_before_it_is_recorded_ends_nothing_of_the_first() {
    let mut stage = Stage::new(Settings::default());
    stage.beat("w1", "boot", &[]);
    for (car, id) in [(1, "a"), (2, "b")] {
        stage.dispatch(car, id);
    }
    // No slot is free: it waits, and its delivery is all there is of it.
    stage.arrive_with(3, hurried(&stage, "s", 100), Source::Submit, None);
    stage.tell(Event::TurnEnded);
    assert_eq!(asked(&mut stage), []);
    stage.pass(100);
    let [(op, Some(Transition::Accept))] = asked(&mut stage)[..] else { panic!("not recorded") };
    stage.answer(op, Answer::Refused(Some(record(State::Delayed, 0, None))));
    assert!(stage.is_released(3), "it was a question");
    stage.pass(1_000);
    assert!(asked(&mut stage).iter().all(|(_, asked)| *asked != Some(Transition::Expire)));
}

#[test]
fn a_first_submission_that_expires_before_it_is_recorded_is_recorded_and_ended() {
    let mut stage = Stage::new(Settings::default());
    stage.arrive_with(1, hurried(&stage, "s", 0), Source::Submit, None);
    stage.tell(Event::TurnEnded);
    let [(op, Some(Transition::Accept))] = asked(&mut stage)[..] else { panic!("not recorded") };
    stage.answer(op, Answer::Applied(None));
    let [(op, Some(Transition::Expire))] = asked(&mut stage)[..] else { panic!("not ended") };
    stage.answer(op, Answer::Applied(None));
    assert!(stage.is_released(1));
}

#[test]
fn what_is_nowhere_here_expires_by_the_start_by_on_its_record_alone() {
    for (first, expires) in [(None, false), (Some(5_000_000), false), (Some(1_000_500), true)] {
        let mut stage = Stage::new(Settings::default());
        // A second submission, answered at once; its own instant comes later.
        stage.arrive_with(1, hurried(&stage, "s", 500), Source::Submit, None);
        stage.tell(Event::TurnEnded);
        let known =
            Record { start_by: first.map(Timestamp::from_ms), ..record(State::Delayed, 0, None) };
        let [(op, Some(Transition::Accept))] = asked(&mut stage)[..] else { panic!("{first:?}") };
        stage.answer(op, Answer::Refused(Some(known.clone())));
        assert!(stage.is_released(1));
        stage.pass(500);
        let [(op, None)] = asked(&mut stage)[..] else { panic!("nobody looks: {first:?}") };
        stage.answer(op, Answer::Refused(Some(known)));
        let asked = asked(&mut stage);
        let expected = if expires { vec![Some(Transition::Expire)] } else { vec![] };
        assert_eq!(asked.into_iter().map(|(_, asked)| asked).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_second_submission_that_comes_again_waits_as_long_as_the_first() {
    let mut stage = Stage::new(Settings::default());
    stage.beat("w1", "boot", &[]);
    // Whoever had it before died: nobody can tell whether it is the first.
    let copy = CopyFacts { attempt: 0, source: Source::Submit, is_redelivered: true };
    let facts = Box::new(hurried(&stage, "s", 100));
    let destination = Destination::Here;
    let arrival = Arrival { car: CarId(1), copy, facts, destination, lane: None };
    stage.tell(Event::Arrived(arrival));
    stage.tell(Event::TurnEnded);
    let [(op, Some(Transition::AcceptDispatched))] = asked(&mut stage)[..] else { panic!() };
    let due = Some(Timestamp::from_ms(stage.now.as_ms() + 1_500));
    let known = Record { next_at: due, ..record(State::Delayed, 0, None) };
    stage.answer(op, Answer::Refused(Some(known)));
    stage.pass(1_250);
    assert_eq!(asked(&mut stage), [], "neither ended nor started before its time");
    stage.pass(250);
    let [(_, Some(Transition::Dispatch))] = asked(&mut stage)[..] else { panic!("not started") };
}
