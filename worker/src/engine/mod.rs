//! What a worker holds, and what becomes of it: all rules, no I/O.
//!
//! One task owns the [`Engine`], tells it what has happened, and does what it asks for: handlers to
//! start, messages to publish, deliveries to settle.
//!
//! **Invariant:** a delivery is settled only after a confirm: of its success, of a report that
//! carries the task along, or of `held`. (What cannot be read is dead-lettered by the broker.)

mod attempt;
mod deliveries;
mod logs;
mod memory;
mod native;
mod outbox;

mod finish;
mod intake;
mod timers;

#[cfg(test)]
mod tests;

pub(crate) use attempt::Key;
pub(crate) use deliveries::Settle;
pub(crate) use outbox::{Batch, REFUSED_WAIT};

use crate::context::CancelReason;
use crate::error::TaskError;
use crate::handler::{Handler, Handlers, Reply};
use crate::logbook::Logbook;
use crate::run::Run;
use attempt::{Attempt, Phase, Running};
use deliveries::Deliveries;
use logs::Logs;
use memory::{Fate, Memory};
use outbox::Outbox;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use taskyard_common::wire::{Control, Errand, Holding, Report, ReportKind, Task};
use taskyard_model::{Timestamp, WorkerId};

/// Attempts that are over and still known: several times what can come again (see [`Memory`]).
const MEMORY: usize = 100_000;

/// The present: one clock for durations, one for instants that others have named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    pub(crate) at: Timestamp,
}

/// A delivery as it comes from the session.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) tag: u64,
    pub(crate) is_redelivered: bool,
    /// Its tasks; why it cannot be read.
    pub(crate) tasks: Result<Vec<Task>, String>,
}

/// A handler to start.
pub(crate) struct Start {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) task: Arc<Task>,
    pub(crate) run: Arc<Run>,
    pub(crate) logbook: Arc<Logbook>,
    pub(crate) deadline: Option<Timestamp>,
}

/// What a running attempt tells the engine.
#[derive(Debug)]
pub(crate) enum Word {
    /// It is over.
    Ended { key: Key, ended: Ended, ran_us: u64 },
    /// It has progress to fetch.
    Noted(Key),
    /// There are lines in the log book, in which there were none.
    Logged,
}

/// How a handler ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// With a result.
    Done(Reply),
    /// With an error, or a panic.
    Failed(TaskError),
    /// It was dropped.
    Dropped,
}

/// What the engine has to know.
pub(crate) struct EngineSettings {
    pub(crate) worker: WorkerId,
    pub(crate) boot: String,
    pub(crate) slots: u32,
    pub(crate) held_after: Duration,
    pub(crate) handlers: Arc<Handlers>,
}

/// See the module.
pub(crate) struct Engine {
    settings: EngineSettings,
    attempts: HashMap<Key, Attempt>,
    /// Attempts in the order received; entries of what no longer waits are skipped.
    waiting: VecDeque<Key>,
    /// Attempts that began less than 20 ms ago, in that order; entries of what is over are skipped.
    /// (A queue, because the delay is the same for all: most tasks are over before and never enter
    /// the sorted `alarms`.)
    young: VecDeque<(Instant, Key)>,
    /// When to look at which running attempt again.
    alarms: BTreeSet<(Instant, Key)>,
    free_slots: u32,
    /// Attempts that were given up and still block their threads, and their slots.
    stuck: HashMap<Key, u32>,
    memory: Memory,
    deliveries: Deliveries,
    outbox: Outbox,
    logbook: Arc<Logbook>,
    starts: Vec<Start>,
    /// Whether it takes nothing new.
    is_ending: bool,
}

/// What a control message comes to, beyond the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing more.
    Nothing,
    /// Drain and exit.
    Drain,
    /// Exit: another process has this id.
    Stop(String),
}

impl Engine {
    pub(crate) fn new(settings: EngineSettings) -> Self {
        let logbook = Arc::new(Logbook::default());
        Self {
            attempts: HashMap::new(),
            waiting: VecDeque::new(),
            young: VecDeque::new(),
            alarms: BTreeSet::new(),
            free_slots: settings.slots,
            stuck: HashMap::new(),
            memory: Memory::new(MEMORY),
            deliveries: Deliveries::default(),
            outbox: Outbox::new(Logs::new(Arc::clone(&logbook), settings.worker.clone())),
            logbook,
            starts: Vec::new(),
            is_ending: false,
            settings,
        }
    }

    /// The session is lost: no tag means anything any more.
    ///
    /// What runs goes on. What had not begun is forgotten, because the broker has it back; if it
    /// comes here again, it is as good as new.
    pub(crate) fn disconnected(&mut self) {
        self.deliveries = Deliveries::default();
        self.outbox.lost();
        self.waiting.clear();
        let memory = &mut self.memory;
        self.attempts.retain(|key, attempt| {
            attempt.tag = None;
            attempt.more_tags.clear();
            let has_begun = !matches!(attempt.phase, Phase::Waiting(_));
            if !has_begun {
                memory.remember(key.clone(), Fate::Unstarted);
            }
            has_begun
        });
    }

    /// A message over the control exchange.
    pub(crate) fn control(&mut self, now: Now, control: Control) -> Order {
        match control.errand {
            Errand::Cancel => {
                let is_meant = |key: &Key| {
                    Some(&key.id) == control.id.as_ref()
                        && control.attempt.is_none_or(|attempt| attempt == key.attempt)
                };
                let meant: Vec<_> = self.attempts.keys().filter(|k| is_meant(k)).cloned().collect();
                meant.into_iter().for_each(|key| self.cancel(now, &key));
                Order::Nothing
            }
            Errand::Drain => Order::Drain,
            Errand::Stop if control.boot.as_deref() == Some(&self.settings.boot) => {
                Order::Stop(control.why.unwrap_or_default())
            }
            // No handler can let go of an attempt with a checkpoint yet; the session consumes anew.
            Errand::Stop | Errand::Yield | Errand::Consume => Order::Nothing,
        }
    }

    fn cancel(&mut self, now: Now, key: &Key) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        match &mut attempt.phase {
            Phase::Running(running) => {
                running.cancel(CancelReason::Command, now.instant);
                self.set_alarm(key);
            }
            Phase::Waiting(_) | Phase::Announced(_) => {
                self.fail(key, &TaskError::cancelled(), None);
            }
            Phase::Reported => {}
        }
        self.start_waiting(now);
    }

    /// Takes nothing new from now on; gives back what has not begun.
    pub(crate) fn drain(&mut self) {
        self.is_ending = true;
        self.give_back_unstarted();
    }

    /// The grace is over: asks all that runs to end, and gives back what does not finish.
    pub(crate) fn cancel_all(&mut self, now: Now) {
        self.drain();
        let mut running = Vec::new();
        for (key, attempt) in &mut self.attempts {
            if let Phase::Running(run) = &mut attempt.phase {
                run.cancel(CancelReason::Shutdown, now.instant);
                running.push(key.clone());
            }
        }
        running.iter().for_each(|key| self.set_alarm(key));
    }

    /// Drops all that runs, without a report.
    pub(crate) fn abort_all(&self) {
        for attempt in self.attempts.values() {
            if let Phase::Running(running) = &attempt.phase {
                running.run.abort();
            }
        }
    }

    fn give_back_unstarted(&mut self) {
        let is_unstarted = |phase: &Phase| matches!(phase, Phase::Waiting(_) | Phase::Announced(_));
        let all = self.attempts.iter().filter(|(_, attempt)| is_unstarted(&attempt.phase));
        let mut unstarted: Vec<_> = all.map(|(key, _)| key.clone()).collect();
        // The order must not depend on a hash.
        unstarted.sort();
        unstarted.iter().for_each(|key| self.give_back(key, false));
    }

    /// Whether nothing is held any more.
    pub(crate) fn is_idle(&self) -> bool {
        self.attempts.is_empty()
    }

    /// How many attempts are held.
    pub(crate) fn held(&self) -> usize {
        self.attempts.len()
    }

    /// Whether it takes nothing new, or could not run it.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_ending || self.slots() == 0
    }

    /// Slots, without those of threads that are blocked for good.
    pub(crate) fn slots(&self) -> u32 {
        self.settings.slots - self.stuck.values().sum::<u32>()
    }

    /// What was received and is not settled.
    pub(crate) fn holding(&self) -> Vec<Holding> {
        let holding = |key: &Key| Holding { id: key.id.clone(), attempt: key.attempt };
        self.attempts.keys().map(holding).collect()
    }

    /// Handlers to start.
    pub(crate) fn take_starts(&mut self) -> Vec<Start> {
        std::mem::take(&mut self.starts)
    }

    /// What to tell the broker about deliveries.
    pub(crate) fn take_settles(&mut self) -> Vec<Settle> {
        self.deliveries.take()
    }

    /// The next message to publish, if there is room for it.
    pub(crate) fn next_batch(&mut self, now: Now) -> Option<Batch> {
        self.outbox.next_batch(now.instant)
    }

    /// Takes no more lines; whether all that there were are sent.
    pub(crate) fn end_logs(&mut self, now: Now) -> bool {
        self.logbook.close();
        self.outbox.end_logs(now.instant)
    }

    fn report(&self, kind: ReportKind, key: &Key) -> Report {
        Report::new(kind, key.id.clone(), key.attempt, Some(self.settings.worker.clone()))
    }
}
