use crate::facts::{CarId, Facts};
use crate::order::Rank;
use crate::scheduler::Hasher;
use indexmap::IndexMap;
use std::collections::BTreeSet;
use taskyard_model::{Kind, Labels};

/// Number of a class in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClassId(pub(crate) u32);

/// What decides which workers can take a task: tasks of one class are interchangeable for routing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClassKey {
    pub(crate) kind: Kind,
    pub(crate) requires: Labels,
    pub(crate) slots: u32,
    /// Wants a worker for itself alone.
    pub(crate) is_suspect: bool,
}

impl ClassKey {
    pub(crate) fn of(task: &Facts) -> Self {
        Self {
            kind: task.kind.clone(),
            requires: task.requires.clone(),
            slots: task.slots,
            is_suspect: task.is_suspect,
        }
    }
}

/// The waiting tasks of a class and the workers that can take them.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) key: ClassKey,
    waiting: BTreeSet<(Rank, CarId)>,
    /// Numbers of the workers that take the class, credit or not; sorted.
    pub(crate) workers: Vec<usize>,
    /// Whether one of them may have credit.
    is_open: bool,
}

/// All classes, and the first task of each that could go now.
///
/// A pick looks at one head, not at all tasks: O(log n) in the tasks that wait.
#[derive(Debug)]
pub(crate) struct Classes {
    by_key: IndexMap<ClassKey, ClassId, Hasher>,
    by_id: IndexMap<ClassId, Class, Hasher>,
    heads: BTreeSet<(Rank, ClassId)>,
    closed: BTreeSet<ClassId>,
    next: u32,
    waiting: usize,
    waiting_bytes: usize,
}

impl Classes {
    pub(crate) fn new(hasher: Hasher) -> Self {
        Self {
            by_key: IndexMap::with_hasher(hasher),
            by_id: IndexMap::with_hasher(hasher),
            heads: BTreeSet::new(),
            closed: BTreeSet::new(),
            next: 0,
            waiting: 0,
            waiting_bytes: 0,
        }
    }

    /// The class of a task; `workers` finds who takes it if it is new.
    pub(crate) fn id_of(
        &mut self,
        key: ClassKey,
        workers: impl FnOnce(&ClassKey) -> Vec<usize>,
    ) -> ClassId {
        if let Some(&id) = self.by_key.get(&key) {
            return id;
        }
        let id = ClassId(self.next);
        self.next += 1;
        let workers = workers(&key);
        self.by_key.insert(key.clone(), id);
        self.by_id.insert(id, Class { key, waiting: BTreeSet::new(), workers, is_open: true });
        id
    }

    pub(crate) fn get(&self, id: ClassId) -> &Class {
        &self.by_id[&id]
    }

    /// How many tasks of the class wait.
    pub(crate) fn waiting_in(&self, id: ClassId) -> usize {
        self.by_id[&id].waiting.len()
    }

    /// How many tasks wait in all.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes of the payloads that wait.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    pub(crate) fn insert(&mut self, id: ClassId, rank: Rank, car: CarId, bytes: usize) {
        let before = self.head(id);
        self.by_id[&id].waiting.insert((rank, car));
        self.waiting += 1;
        self.waiting_bytes += bytes;
        self.head_moved(id, before);
    }

    pub(crate) fn remove(&mut self, id: ClassId, rank: Rank, car: CarId, bytes: usize) {
        let before = self.head(id);
        if self.by_id[&id].waiting.remove(&(rank, car)) {
            self.waiting -= 1;
            self.waiting_bytes -= bytes;
        }
        self.head_moved(id, before);
    }

    /// The task that goes next among all classes that may have a worker.
    pub(crate) fn first(&self) -> Option<(ClassId, CarId)> {
        let &(_, class) = self.heads.first()?;
        let &(_, car) = self.by_id[&class].waiting.first()?;
        Some((class, car))
    }

    /// The task that ranks lowest of all that wait.
    pub(crate) fn last(&self) -> Option<CarId> {
        let lasts = self.by_id.values().filter_map(|class| class.waiting.last());
        lasts.max().map(|&(_, car)| car)
    }

    /// No worker of the class has credit: skip it until one does.
    pub(crate) fn close(&mut self, id: ClassId) {
        let before = self.head(id);
        self.by_id[&id].is_open = false;
        self.closed.insert(id);
        self.head_moved(id, before);
    }

    /// A worker has credit again: look at its classes.
    pub(crate) fn open_for(&mut self, worker: usize) {
        let takes = |id: &&ClassId| self.by_id[*id].workers.binary_search(&worker).is_ok();
        let closed: Vec<ClassId> = self.closed.iter().filter(takes).copied().collect();
        for id in closed {
            let before = self.head(id);
            self.by_id[&id].is_open = true;
            self.closed.remove(&id);
            self.head_moved(id, before);
        }
    }

    /// The workers have changed: find out anew who takes what.
    pub(crate) fn reroute(&mut self, workers: impl Fn(&ClassKey) -> Vec<usize>) {
        let ids: Vec<ClassId> = self.by_id.keys().copied().collect();
        for id in ids {
            let before = self.head(id);
            let class = &mut self.by_id[&id];
            class.workers = workers(&class.key);
            class.is_open = true;
            self.closed.remove(&id);
            self.head_moved(id, before);
        }
    }

    /// Forgets classes in which nothing waits, so that endless kinds cost no memory.
    pub(crate) fn forget_empty(&mut self) {
        self.by_id.retain(|_, class| !class.waiting.is_empty());
        let by_id = &self.by_id;
        self.closed.retain(|id| by_id.contains_key(id));
        self.by_key.retain(|_, id| by_id.contains_key(id));
    }

    /// Whether suspect tasks wait that the worker takes.
    pub(crate) fn has_suspects_for(&self, worker: usize) -> bool {
        self.by_id.values().any(|class| {
            class.key.is_suspect
                && !class.waiting.is_empty()
                && class.workers.binary_search(&worker).is_ok()
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn clear(&mut self) {
        self.by_id.clear();
        self.by_key.clear();
        self.heads.clear();
        self.closed.clear();
        self.waiting = 0;
        self.waiting_bytes = 0;
    }

    /// Where the class stands among the heads: nowhere if it is closed or empty.
    fn head(&self, id: ClassId) -> Option<(Rank, ClassId)> {
        let class = &self.by_id[&id];
        let &(rank, _) = class.waiting.first().filter(|_| class.is_open)?;
        Some((rank, id))
    }

    fn head_moved(&mut self, id: ClassId, before: Option<(Rank, ClassId)>) {
        let after = self.head(id);
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.heads.remove(&before);
        }
        if let Some(after) = after {
            self.heads.insert(after);
        }
    }
}
