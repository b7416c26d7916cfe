use crate::chance::Chance;
use crate::worker::End;
use std::time::Duration;
use taskyard_model::{Backoff, Labels, Pattern, TaskId, Timestamp};
use taskyard_scheduler::{Facts, Mode, OrderName, ReplyTo, RouteName, Settings};

/// How a worker behaves.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    pub(crate) slots: u32,
    pub(crate) weight: u32,
    pub(crate) labels: Labels,
    pub(crate) kinds: Vec<Pattern>,
    /// Not ours: no trains, no limits kept, failures are nacked.
    pub(crate) is_foreign: bool,
}

/// One submission.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) at: u64,
    pub(crate) facts: Facts,
    pub(crate) is_named: bool,
    pub(crate) delay_ms: Option<u64>,
    pub(crate) start_within_ms: Option<u64>,
    pub(crate) is_broken: bool,
    pub(crate) cancel_after_ms: Option<u64>,
}

/// What may go wrong, in so many of a hundred faults.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// One fault every so often, on average; 0 for none.
    pub(crate) every_ms: u64,
    /// A process dies between two effects, in so many of a million.
    pub(crate) crash_at_effect: u64,
    pub(crate) lost_beats_percent: u64,
    pub(crate) repeated_writes_percent: u64,
    pub(crate) slow_confirm_ms: u64,
    /// Redis loses or goes back; never together with `loses_queues`, since the payload of an
    /// attempt is kept in just those two places.
    pub(crate) loses_store: bool,
    pub(crate) loses_queues: bool,
    pub(crate) two_leaders: bool,
}

/// Everything that a seed decides beforehand.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) faults: Faults,
    pub(crate) workers: Vec<Manners>,
    pub(crate) tasks: Vec<Planned>,
    pub(crate) safety_ms: u64,
    pub(crate) dispatchers: usize,
    pub(crate) held_after_ms: u64,
    failures_percent: u64,
    crashes_percent: u64,
    hangs_percent: u64,
    /// From the liveness phase on handlers neither hang nor crash.
    pub(crate) is_calm: bool,
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let c = &mut chance;
        let safety_ms = c.within(20_000..60_000);
        let loses_store = c.percent(40);
        let faults = Faults {
            every_ms: if c.percent(10) { 0 } else { c.within(300..6_000) },
            crash_at_effect: if c.percent(50) { c.within(0..3_000) } else { 0 },
            lost_beats_percent: if c.percent(30) { c.within(0..40) } else { 0 },
            repeated_writes_percent: if c.percent(50) { c.within(0..20) } else { 0 },
            slow_confirm_ms: if c.percent(30) { c.within(10..4_000) } else { 10 },
            loses_store,
            loses_queues: !loses_store && c.percent(60),
            two_leaders: c.percent(40),
        };
        let settings = draw_settings(c, seed);
        let workers: Vec<Manners> =
            (0..c.within(1..5)).map(|number| draw_manners(c, number)).collect();
        let mut tasks: Vec<Planned> = Vec::new();
        for number in 0..c.within(5..60) {
            let at = c.within(0..safety_ms * 3 / 4);
            let planned = match (c.percent(8), tasks.is_empty()) {
                (true, false) => repeated(c, &tasks, at),
                _ => draw_task(c, number, at, &faults),
            };
            tasks.push(planned);
        }
        Self {
            settings,
            workers,
            tasks,
            safety_ms,
            dispatchers: if c.percent(70) { 2 } else { 1 },
            held_after_ms: c.within(3_000..20_000),
            failures_percent: c.within(0..40),
            crashes_percent: if c.percent(40) { c.within(0..10) } else { 0 },
            hangs_percent: if c.percent(30) { c.within(0..10) } else { 0 },
            is_calm: false,
            faults,
        }
    }

    /// How long an attempt runs, and how it ends.
    pub(crate) fn draw_run(&self, task: &Facts, c: &mut Chance) -> (u64, End) {
        let ms = match task.kind.as_str() {
            "quick.one" | "quick.two" => c.within(0..10),
            "slow.one" => c.within(50..3_000),
            _ => c.within(2_000..30_000),
        };
        if !self.is_calm && c.percent(self.hangs_percent) {
            return (c.within(30_000..120_000), End::Success);
        }
        let end = match () {
            () if !self.is_calm && c.percent(self.crashes_percent) => End::Crash,
            () if c.percent(self.failures_percent) => End::Failure { is_permanent: c.percent(10) },
            () => End::Success,
        };
        (ms, end)
    }
}

fn draw_settings(c: &mut Chance, seed: u64) -> Settings {
    let window_tasks = match c.percent(50) {
        true => usize::try_from(c.within(1..30)).unwrap(),
        false => 1_000,
    };
    Settings {
        order: if c.percent(80) { OrderName::Priority } else { OrderName::Fcfs },
        ageing: Duration::from_millis(c.within(100..60_000)),
        route: if c.percent(50) { RouteName::Weighted } else { RouteName::LeastLoaded },
        mode: if c.percent(70) { Mode::Hybrid } else { Mode::Passive },
        window_tasks,
        window_bytes: if c.percent(20) { 3_000 } else { 1 << 20 },
        untakeable_tasks: usize::try_from(c.within(1..20)).unwrap(),
        waiting_bytes_max: if c.percent(30) { 500 } else { 100_000 },
        hold_max: Duration::from_secs(c.within(5..600)),
        seed,
        ..Settings::default()
    }
}

fn draw_manners(c: &mut Chance, number: u64) -> Manners {
    let kinds = ["quick.*", "slow.#", "long.#"];
    // The first takes everything, so that everything can end.
    let is_first = number == 0;
    let kinds: Vec<Pattern> = kinds
        .iter()
        .filter(|_| is_first || c.percent(70))
        .map(|kind| Pattern::new(kind).unwrap())
        .collect();
    Manners {
        slots: if is_first { 3 } else { u32::try_from(c.within(1..6)).unwrap() },
        weight: u32::try_from(c.within(1..5)).unwrap(),
        labels: if is_first || c.percent(30) { "gpu".parse().unwrap() } else { Labels::default() },
        kinds,
        is_foreign: c.percent(30),
    }
}

fn draw_task(c: &mut Chance, number: u64, at: u64, faults: &Faults) -> Planned {
    let kind = ["quick.one", "quick.one", "quick.two", "slow.one", "long.one"][c.index(5)];
    let mut some =
        |percent: u64, range: std::ops::Range<u64>| c.percent(percent).then(|| c.within(range));
    let delay_ms = some(20, 1..20_000);
    let start_within_ms = some(10, 1..20_000);
    let cancel_after_ms = some(10, 0..10_000);
    let timeout_ms = some(20, 20..4_000);
    let keep_ms = some(10, 0..5_000);
    let backoff = match c.percent(50) {
        true => Backoff::Fixed { base_ms: c.within(0..5_000) },
        false => Backoff::Exponential { base_ms: 100, cap_ms: 5_000 },
    };
    let large = if faults.loses_queues { 60_000 } else { 120_000 };
    Planned {
        at,
        facts: Facts {
            id: format!("t{number}").parse().unwrap(),
            kind: kind.parse().unwrap(),
            requires: if c.percent(10) { "gpu".parse().unwrap() } else { Labels::default() },
            slots: if c.percent(10) { 2 } else { 1 },
            priority: u8::try_from(c.within(0..10)).unwrap(),
            accepted_at: Timestamp::ZERO,
            due_at: None,
            start_by: None,
            timeout_ms,
            attempt: 0,
            failures: 0,
            losses: 0,
            max_attempts: u32::try_from(c.within(1..6)).unwrap(),
            max_losses: u32::try_from(c.within(0..6)).unwrap(),
            backoff,
            keep_ms,
            is_suspect: false,
            rounds: 0,
            bytes: if c.percent(10) { large } else { c.index(1_000) },
            reply: c.percent(30).then(|| reply_to(number)),
        },
        is_named: c.percent(95),
        delay_ms,
        start_within_ms,
        is_broken: c.percent(3),
        cancel_after_ms,
    }
}

/// The same id again, with an address of its own.
fn repeated(c: &mut Chance, tasks: &[Planned], at: u64) -> Planned {
    let mut again = tasks[c.index(tasks.len())].clone();
    again.at = at;
    again.cancel_after_ms = None;
    again.facts.reply = c.percent(70).then(|| reply_to(1_000 + at));
    again
}

fn reply_to(number: u64) -> ReplyTo {
    ReplyTo { queue: format!("reply.{number}").into(), correlation_id: None }
}

/// The id that an anonymous submission is given.
pub(crate) fn given_id(number: u64) -> TaskId {
    format!("given{number}").parse().unwrap()
}
