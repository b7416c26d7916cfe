use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use taskyard_model::State;
use taskyard_scheduler::{Gauges, Note};
use tracing::{debug, error, info, warn};

/// A turn that began longer ago than this means that the engine hangs.
const ALIVE_MS: u64 = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name(&'static str);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0)
    }
}

/// Everything that is counted, and whether this process is alive and of use.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    accepted: Counter,
    repeated: Counter,
    refused: Counter,
    dispatched: Counter,
    finished: Family<ByState, Counter>,
    retries: Counter,
    losses: Counter,
    came_back: Counter,
    late_reports: Counter,
    replies_dropped: Counter,
    rebuilt: Counter,
    vanished: Counter,
    spilled: Counter,
    parked: Counter,
    bad_beats: Counter,
    log_reports_dropped: Counter,
    waiting: Gauge,
    waiting_bytes: Gauge,
    held: Gauge,
    in_flight: Gauge,
    workers: Gauge,
    slots: Gauge,
    used: Gauge,
    leading: Gauge,
    blocked: Gauge,
    turn_inputs: Histogram,
    has_session: AtomicBool,
    turned_at: AtomicU64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("taskyard")),
            accepted: Counter::default(),
            repeated: Counter::default(),
            refused: Counter::default(),
            dispatched: Counter::default(),
            finished: Family::default(),
            retries: Counter::default(),
            losses: Counter::default(),
            came_back: Counter::default(),
            late_reports: Counter::default(),
            replies_dropped: Counter::default(),
            rebuilt: Counter::default(),
            vanished: Counter::default(),
            spilled: Counter::default(),
            parked: Counter::default(),
            bad_beats: Counter::default(),
            log_reports_dropped: Counter::default(),
            waiting: Gauge::default(),
            waiting_bytes: Gauge::default(),
            held: Gauge::default(),
            in_flight: Gauge::default(),
            workers: Gauge::default(),
            slots: Gauge::default(),
            used: Gauge::default(),
            leading: Gauge::default(),
            blocked: Gauge::default(),
            turn_inputs: Histogram::new(exponential_buckets(1.0, 4.0, 7)),
            has_session: AtomicBool::new(false),
            turned_at: AtomicU64::new(taskyard_common::now().as_ms()),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.lock().expect("nobody panics with it");
        let counters = [
            ("tasks_accepted", "Tasks taken in", &self.accepted),
            ("tasks_repeated", "Submissions of an id that was known", &self.repeated),
            ("tasks_refused", "Submissions that broke a rule", &self.refused),
            ("tasks_dispatched", "Attempts given to workers", &self.dispatched),
            ("tasks_retried", "Attempts that failed and are tried again", &self.retries),
            ("tasks_lost", "Attempts whose worker was lost while they ran", &self.losses),
            ("tasks_came_back", "Attempts that came back without having run", &self.came_back),
            ("reports_late", "Reports that came too late to count", &self.late_reports),
            ("replies_dropped", "Replies whose queue was gone", &self.replies_dropped),
            ("records_rebuilt", "Records that Redis had lost", &self.rebuilt),
            (
                "attempts_vanished",
                "Attempts issued again: somebody deleted or purged a queue",
                &self.vanished,
            ),
            ("tasks_spilled", "Tasks moved from the window to a lane", &self.spilled),
            ("tasks_parked", "Tasks moved aside since no worker takes them", &self.parked),
            ("heartbeats_refused", "Heartbeats that could not be understood", &self.bad_beats),
            (
                "log_reports_dropped",
                "Reports with lines of logs that could not be kept",
                &self.log_reports_dropped,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("tasks_finished", "Tasks that ended, by state", self.finished.clone());
        let gauges = [
            ("window_tasks", "Tasks in the window", &self.waiting),
            ("held_bytes", "Bytes of payloads held", &self.waiting_bytes),
            ("held_tasks", "Copies held unacked", &self.held),
            ("in_flight", "Attempts that workers have", &self.in_flight),
            ("workers", "Workers that take tasks", &self.workers),
            ("slots", "Slots of those workers", &self.slots),
            ("slots_used", "Slots given tasks", &self.used),
            ("leading", "Whether this process leads", &self.leading),
            ("broker_blocked", "Whether RabbitMQ blocks publishing", &self.blocked),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        registry.register("turn_inputs", "Inputs handled in one turn", self.turn_inputs.clone());
    }

    /// Counts what the scheduler notes, and logs what a person should see.
    pub(crate) fn note(&self, note: &Note) {
        match note {
            Note::Accepted(_) => drop(self.accepted.inc()),
            Note::Refused(id) => {
                self.refused.inc();
                debug!(?id, "submission refused");
            }
            Note::Repeated(_) => drop(self.repeated.inc()),
            Note::Dispatched(_) => drop(self.dispatched.inc()),
            Note::Finished { id, state, .. } => {
                self.finished.get_or_create(&ByState { state: Name(state.as_str()) }).inc();
                if *state == State::Failed {
                    info!(%id, "task failed");
                }
            }
            Note::Retrying(_) => drop(self.retries.inc()),
            Note::Lost(id, worker) => {
                self.losses.inc();
                warn!(%id, ?worker, "a worker was lost while it ran a task");
            }
            Note::CameBack(_) => drop(self.came_back.inc()),
            Note::LateReport(_) => drop(self.late_reports.inc()),
            Note::ReplyDropped(id) => {
                self.replies_dropped.inc();
                debug!(%id, "the queue of its reply is gone");
            }
            Note::Rebuilt(id) => {
                self.rebuilt.inc();
                debug!(%id, "record rebuilt from a copy");
            }
            Note::Vanished(id, worker) => {
                self.vanished.inc();
                error!(%id, %worker, "an attempt is nowhere and is issued again: was a queue deleted or purged, or its worker frozen or cut off?");
            }
            Note::Spilled(_) => drop(self.spilled.inc()),
            Note::Parked(_) => drop(self.parked.inc()),
            Note::WorkerUp(worker) => info!(%worker, "worker up"),
            Note::WorkerSuspect(worker) => info!(%worker, "worker silent: it gets nothing new"),
            Note::WorkerLost(worker) => warn!(%worker, "worker lost"),
            Note::TwoWorkers(worker) => {
                error!(%worker, "two processes have this worker id: give each its own")
            }
        }
    }

    pub(crate) fn bad_beat(&self) {
        self.bad_beats.inc();
    }

    pub(crate) fn log_reports_dropped(&self, reports: u64) {
        self.log_reports_dropped.inc_by(reports);
    }

    pub(crate) fn observe(&self, gauges: Gauges, is_blocked: bool) {
        let set = |gauge: &Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.waiting, gauges.waiting);
        set(&self.waiting_bytes, gauges.bytes);
        set(&self.held, gauges.held);
        set(&self.in_flight, gauges.in_flight);
        set(&self.workers, gauges.workers);
        self.slots.set(i64::try_from(gauges.slots).unwrap_or(i64::MAX));
        self.used.set(i64::try_from(gauges.used).unwrap_or(i64::MAX));
        self.blocked.set(is_blocked.into());
    }

    #[expect(clippy::cast_precision_loss, reason = "a turn has few inputs")]
    pub(crate) fn turn(&self, inputs: usize) {
        self.turned_at.store(taskyard_common::now().as_ms(), Ordering::Relaxed);
        if inputs > 0 {
            self.turn_inputs.observe(inputs as f64);
        }
    }

    /// What this process is to its pool: connected and of use, leading.
    pub(crate) fn set_role(&self, has_session: bool, is_leading: bool) {
        self.has_session.store(has_session, Ordering::Relaxed);
        self.leading.set(is_leading.into());
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.has_session.load(Ordering::Relaxed) && self.is_alive()
    }

    pub(crate) fn is_leading(&self) -> bool {
        self.leading.get() == 1
    }

    pub(crate) fn is_alive(&self) -> bool {
        let turned = self.turned_at.load(Ordering::Relaxed);
        taskyard_common::now().as_ms().saturating_sub(turned) < ALIVE_MS
    }

    /// Marks the engine alive while it waits for a connection.
    pub(crate) fn alive(&self) {
        self.turned_at.store(taskyard_common::now().as_ms(), Ordering::Relaxed);
    }

    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().expect("nobody panics with it");
        encode(&mut text, &registry).expect("a text takes everything");
        text
    }
}
