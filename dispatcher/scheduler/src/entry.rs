use crate::class::ClassId;
use crate::facts::{CarId, Facts};
use crate::order::Rank;
use indexmap::IndexMap;
use taskyard_model::{CopyFacts, TaskId, Timestamp};

use crate::scheduler::Hasher;

/// What a held copy is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The store is being asked or told about it.
    Checking,
    /// In the window, ready to go.
    Waiting { class: ClassId, rank: Rank },
    /// In memory until this instant.
    Holding { until: Timestamp },
    /// Being given to a worker.
    Dispatching,
    /// Being published elsewhere.
    Leaving,
}

/// A copy that this process holds unacked.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) facts: Box<Facts>,
    pub(crate) copy: CopyFacts,
    pub(crate) phase: Phase,
    /// The attempt that this delivery stands for: its own, or the one being sent.
    pub(crate) live: u32,
    /// The lane that it was read from, if it was.
    pub(crate) lane: Option<u8>,
    /// Nothing has been written about it yet.
    pub(crate) is_new: bool,
    /// This process has recorded it as waiting, without a time or a reason.
    pub(crate) is_plain: bool,
    /// It has been judged to be the durable copy, and stays until a newer one is stored.
    pub(crate) is_kept: bool,
    pub(crate) held_since: Timestamp,
}

impl Entry {
    pub(crate) fn new(facts: Box<Facts>, copy: CopyFacts, now: Timestamp) -> Self {
        let live = facts.attempt;
        Self {
            facts,
            copy,
            phase: Phase::Checking,
            live,
            lane: None,
            is_new: false,
            is_plain: false,
            is_kept: false,
            held_since: now,
        }
    }
}

/// The copies of one task; nearly always one.
#[derive(Clone, Debug)]
struct Holders {
    first: CarId,
    others: Vec<CarId>,
}

/// All copies that this process holds, by delivery and by task.
#[derive(Debug)]
pub(crate) struct Entries {
    by_car: IndexMap<CarId, Entry, Hasher>,
    by_id: IndexMap<TaskId, Holders, Hasher>,
    bytes: usize,
}

impl Entries {
    pub(crate) fn new(hasher: Hasher) -> Self {
        Self {
            by_car: IndexMap::with_hasher(hasher),
            by_id: IndexMap::with_hasher(hasher),
            bytes: 0,
        }
    }

    pub(crate) fn insert(&mut self, car: CarId, entry: Entry) {
        self.bytes += entry.facts.bytes;
        match self.by_id.get_mut(&entry.facts.id) {
            Some(holders) => holders.others.push(car),
            None => {
                let holders = Holders { first: car, others: Vec::new() };
                self.by_id.insert(entry.facts.id.clone(), holders);
            }
        }
        self.by_car.insert(car, entry);
    }

    pub(crate) fn remove(&mut self, car: CarId) -> Option<Entry> {
        let entry = self.by_car.swap_remove(&car)?;
        self.bytes -= entry.facts.bytes;
        if let Some(holders) = self.by_id.get_mut(&entry.facts.id) {
            holders.others.retain(|&other| other != car);
            if holders.first == car {
                match holders.others.pop() {
                    Some(other) => holders.first = other,
                    None => drop(self.by_id.swap_remove(&entry.facts.id)),
                }
            }
        }
        Some(entry)
    }

    pub(crate) fn get(&self, car: CarId) -> Option<&Entry> {
        self.by_car.get(&car)
    }

    pub(crate) fn get_mut(&mut self, car: CarId) -> Option<&mut Entry> {
        self.by_car.get_mut(&car)
    }

    /// The copies held of a task.
    pub(crate) fn of(&self, id: &TaskId) -> impl Iterator<Item = (CarId, &Entry)> {
        let holders = self.by_id.get(id);
        let cars = holders
            .into_iter()
            .flat_map(|h| std::iter::once(h.first).chain(h.others.iter().copied()));
        cars.filter_map(|car| self.by_car.get(&car).map(|entry| (car, entry)))
    }

    /// Whether another delivery is held that stands for the same attempt or a later one, and is
    /// known to stay: one that is still being judged may turn out to be a second submission, and
    /// then neither would be left.
    pub(crate) fn holds_another(&self, car: CarId) -> bool {
        let Some(entry) = self.by_car.get(&car) else { return false };
        self.of(&entry.facts.id).any(|(other, held)| {
            // Of two equal copies the one delivered first stays.
            let is_first = other < car || !entry.is_kept;
            // One that is being handed over is let go of at the confirm, and the copy in question
            // may be the very one that it was handed over as.
            let is_staying = !matches!(held.phase, Phase::Dispatching | Phase::Leaving);
            let is_as_good = held.live == entry.facts.attempt && is_first && is_staying;
            other != car && held.is_kept && (held.live > entry.facts.attempt || is_as_good)
        })
    }

    /// Copies that have waited since before this instant.
    pub(crate) fn waiting_since(&self, before: Timestamp) -> Vec<CarId> {
        let is_old = |entry: &Entry| {
            entry.held_since < before && matches!(entry.phase, Phase::Waiting { .. })
        };
        self.by_car.iter().filter(|(_, entry)| is_old(entry)).map(|(&car, _)| car).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_car.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.by_car.clear();
        self.by_id.clear();
        self.bytes = 0;
    }
}
