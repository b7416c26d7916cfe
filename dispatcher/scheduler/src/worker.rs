use crate::class::ClassKey;
use crate::event::BeatFacts;
use crate::scheduler::Hasher;
use indexmap::{IndexMap, IndexSet};
use std::sync::Arc;
use std::time::Duration;
use taskyard_model::{Kind, Labels, Pattern, TaskId, Timestamp, WorkerId};

/// A worker as its heartbeats show it, and what it has been given.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) boot: Arc<str>,
    /// The life before; if it beats again, two processes have the id.
    pub(crate) previous_boot: Option<Arc<str>>,
    pub(crate) kinds: Vec<Pattern>,
    pub(crate) slots: u32,
    pub(crate) labels: Labels,
    pub(crate) weight: u32,
    pub(crate) is_draining: bool,
    pub(crate) takes_trains: bool,
    pub(crate) last_beat: Timestamp,
    /// When it was last asked to consume anew.
    pub(crate) consumes_since: Timestamp,
    pub(crate) is_suspect: bool,
    pub(crate) is_lost: bool,
    /// Slots taken by what it was given and has not reported ended.
    pub(crate) used: u32,
    /// Of them, those taken by tasks that are not known to be short.
    pub(crate) long_used: u32,
    /// Tasks that it was given.
    pub(crate) flights: IndexSet<TaskId, Hasher>,
    /// What its last heartbeat listed.
    pub(crate) holding: IndexSet<(TaskId, u32), Hasher>,
    /// Of them, what the books did not know then.
    pub(crate) unknown: IndexSet<(TaskId, u32), Hasher>,
    /// The life that was told to stop, since the one before it still speaks.
    pub(crate) stopped_boot: Option<Arc<str>>,
    /// It takes nothing new until it is idle, for a suspect task.
    pub(crate) is_clearing: bool,
    /// A suspect task that it has for itself alone.
    pub(crate) exclusive: Option<TaskId>,
    /// Slots beyond its own that are expected to be free within a round trip.
    pub(crate) look_ahead: u32,
    /// Moving average of what its short tasks take, in microseconds.
    pub(crate) mean_us: Option<f64>,
}

impl Worker {
    pub(crate) fn new(beat: &BeatFacts, now: Timestamp, hasher: Hasher) -> Self {
        Self {
            id: beat.id.clone(),
            boot: beat.boot.clone(),
            previous_boot: None,
            stopped_boot: None,
            is_clearing: false,
            kinds: beat.kinds.clone(),
            slots: beat.slots,
            labels: beat.labels.clone(),
            weight: beat.weight,
            is_draining: beat.is_draining,
            takes_trains: beat.takes_trains,
            last_beat: now,
            consumes_since: Timestamp::ZERO,
            is_suspect: false,
            is_lost: false,
            used: 0,
            long_used: 0,
            flights: IndexSet::with_hasher(hasher),
            holding: IndexSet::with_hasher(hasher),
            unknown: IndexSet::with_hasher(hasher),
            exclusive: None,
            look_ahead: 0,
            mean_us: None,
        }
    }

    /// Whether it takes tasks of the class at all, credit or not.
    pub(crate) fn takes(&self, class: &ClassKey) -> bool {
        class.slots <= self.slots
            && self.labels.contains_all(&class.requires)
            && self.takes_kind(&class.kind)
    }

    /// Whether it takes anything of the kind.
    pub(crate) fn takes_kind(&self, kind: &Kind) -> bool {
        !self.is_draining && !self.is_lost && self.kinds.iter().any(|pattern| pattern.matches(kind))
    }

    /// Whether it may be given a task of the class now.
    pub(crate) fn has_credit(&self, class: &ClassKey, is_short: bool) -> bool {
        if self.is_suspect || self.exclusive.is_some() {
            return false;
        }
        if class.is_suspect {
            return self.used == 0;
        }
        if self.is_clearing {
            return false;
        }
        let ahead = if is_short && self.long_used < self.slots { self.look_ahead } else { 0 };
        self.used + class.slots <= self.slots + ahead
    }

    /// How long it has been silent.
    pub(crate) fn silent_for(&self, now: Timestamp) -> Duration {
        now.since(self.last_beat)
    }

    /// Whether its last heartbeat listed the attempt.
    pub(crate) fn lists(&self, id: &TaskId, attempt: u32) -> bool {
        self.holding.contains(&(id.clone(), attempt))
    }
}

/// All workers that have been seen.
#[derive(Debug)]
pub(crate) struct Workers {
    slab: Vec<Option<Worker>>,
    by_id: IndexMap<WorkerId, usize, Hasher>,
}

impl Workers {
    pub(crate) fn new(hasher: Hasher) -> Self {
        Self { slab: Vec::new(), by_id: IndexMap::with_hasher(hasher) }
    }

    pub(crate) fn number(&self, id: &WorkerId) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Worker> {
        self.slab.get(number)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut Worker> {
        self.slab.get_mut(number)?.as_mut()
    }

    pub(crate) fn insert(&mut self, worker: Worker) -> usize {
        let free = self.slab.iter().position(Option::is_none);
        let number = free.unwrap_or(self.slab.len());
        self.by_id.insert(worker.id.clone(), number);
        match free {
            Some(number) => self.slab[number] = Some(worker),
            None => self.slab.push(Some(worker)),
        }
        number
    }

    pub(crate) fn remove(&mut self, number: usize) -> Option<Worker> {
        let worker = self.slab.get_mut(number)?.take()?;
        self.by_id.swap_remove(&worker.id);
        Some(worker)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Worker)> {
        self.slab.iter().enumerate().filter_map(|(number, worker)| Some((number, worker.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Worker)> {
        self.slab
            .iter_mut()
            .enumerate()
            .filter_map(|(number, worker)| Some((number, worker.as_mut()?)))
    }

    /// The numbers of those who take a class, sorted.
    pub(crate) fn who_take(&self, class: &ClassKey) -> Vec<usize> {
        self.iter().filter(|(_, worker)| worker.takes(class)).map(|(number, _)| number).collect()
    }
}
