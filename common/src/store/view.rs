use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use redis::{Pipeline, Value as Reply};
use taskyard_model::{PoolName, State, TaskId, Timestamp, WorkerId};

use super::{Store, StoreError};

/// Ids kept in each list of recent tasks: what a person pages through, 1.4 MB a list.
const RECENT_MAX: i64 = 10_000;
/// Ids written into one list at a flush; at high rates nobody could read the others anyway.
const RECENT_A_FLUSH_MAX: usize = 1_000;
/// How long a worker that is gone is remembered.
const WORKER_KEPT: Duration = Duration::from_secs(7 * 86_400);

/// What people look at: lists of recent tasks, counts, workers.
///
/// Collects and writes now and then, so that it costs the hot path nothing. It may lag, and after a
/// failure counts may be a little off: nothing is decided by it.
pub struct View {
    store: Store,
    recent: BTreeMap<State, VecDeque<(Timestamp, TaskId)>>,
    counts: BTreeMap<PoolName, BTreeMap<&'static str, i64>>,
    gauges: BTreeMap<PoolName, BTreeMap<&'static str, u64>>,
    workers: BTreeMap<WorkerId, WorkerRow>,
}

/// What people see of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRow {
    /// Its id.
    pub id: WorkerId,
    /// How it is.
    pub state: WorkerState,
    /// The pool that it serves.
    pub pool: PoolName,
    /// The patterns of kinds that it takes, separated by commas.
    pub kinds: String,
    /// Tasks that it can run at once.
    pub slots: u32,
    /// Slots that are taken.
    pub busy: u32,
    /// Its share against other workers.
    pub weight: u32,
    /// Its labels, separated by commas.
    pub labels: String,
    /// The machine that it runs on.
    pub host: String,
    /// Its program's version.
    pub version: String,
    /// Its last heartbeat.
    pub seen_at: Timestamp,
}

/// How a worker is, as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It takes tasks.
    Up,
    /// It finishes what it has.
    Draining,
    /// It has been silent for longer than it should.
    Suspect,
    /// It is gone.
    Lost,
}

impl WorkerState {
    /// The name that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            WorkerState::Up => "up",
            WorkerState::Draining => "draining",
            WorkerState::Suspect => "suspect",
            WorkerState::Lost => "lost",
        }
    }
}

impl View {
    /// With nothing to write yet.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            recent: BTreeMap::new(),
            counts: BTreeMap::new(),
            gauges: BTreeMap::new(),
            workers: BTreeMap::new(),
        }
    }

    /// A task reached a state that has a list of its own: the final ones, usually.
    pub fn finished(&mut self, state: State, id: &TaskId, at: Timestamp) {
        let list = self.recent.entry(state).or_default();
        if list.len() == RECENT_A_FLUSH_MAX {
            list.pop_front();
        }
        list.push_back((at, id.clone()));
    }

    /// So many more tasks of a pool reached a state.
    pub fn moved(&mut self, pool: &PoolName, state: State, by: i64) {
        self.counted(pool, state.as_str(), by);
    }

    /// So many more of something else that is counted from the beginning. Names are apart from those of
    /// states and gauges.
    pub fn counted(&mut self, pool: &PoolName, name: &'static str, by: i64) {
        *entry(&mut self.counts, pool).entry(name).or_default() += by;
    }

    /// A pool's number of something, as it is now. Names are apart from those of final states.
    pub fn gauge(&mut self, pool: &PoolName, name: &'static str, value: u64) {
        entry(&mut self.gauges, pool).insert(name, value);
    }

    /// A worker as it is now.
    pub fn worker(&mut self, row: WorkerRow) {
        self.workers.insert(row.id.clone(), row);
    }

    /// Writes everything in one pipeline, and forgets workers that nobody has seen for 7 days.
    ///
    /// # Errors
    /// As [`Store::run`], and the first refusal. What was collected is kept for the next flush only
    /// if nothing was sent.
    ///
    /// # Cancel safety
    /// Dropping the future may write it twice.
    pub async fn flush(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let pipeline = self.pipeline(now);
        let result = self.store.link.call(&pipeline).await;
        if !matches!(result, Err(StoreError::Unreachable(_))) {
            self.recent.clear();
            self.counts.clear();
            self.gauges.clear();
            self.workers.clear();
        }
        let refusal = result?.into_iter().find_map(|reply| match reply {
            Reply::ServerError(error) => Some(StoreError::from_server(&error)),
            _ => None,
        });
        refusal.map_or(Ok(()), Err)
    }

    fn pipeline(&self, now: Timestamp) -> Pipeline {
        let mut pipeline = redis::pipe();
        self.write_recent(&mut pipeline);
        self.write_stats(&mut pipeline);
        self.write_workers(&mut pipeline);
        let long_ago = now - WORKER_KEPT;
        pipeline.cmd("ZREMRANGEBYSCORE").arg(self.store.keys.workers());
        pipeline.arg("-inf").arg(long_ago.as_ms());
        pipeline
    }

    fn write_recent(&self, pipeline: &mut Pipeline) {
        for (&state, list) in &self.recent {
            let key = self.store.keys.recent(state);
            pipeline.cmd("ZADD").arg(&key);
            for (at, id) in list {
                pipeline.arg(at.as_ms()).arg(id.as_str());
            }
            pipeline.cmd("ZREMRANGEBYRANK").arg(&key).arg(0).arg(-RECENT_MAX - 1);
        }
    }

    fn write_stats(&self, pipeline: &mut Pipeline) {
        for (pool, counts) in &self.counts {
            let key = self.store.keys.stats(pool);
            for (name, by) in counts {
                pipeline.cmd("HINCRBY").arg(&key).arg(*name).arg(*by);
            }
        }
        for (pool, gauges) in &self.gauges {
            pipeline.cmd("HSET").arg(self.store.keys.stats(pool));
            for (name, value) in gauges {
                pipeline.arg(*name).arg(*value);
            }
        }
        let pools: Vec<&str> =
            self.counts.keys().chain(self.gauges.keys()).map(PoolName::as_str).collect();
        if !pools.is_empty() {
            pipeline.cmd("SADD").arg(self.store.keys.pools()).arg(pools);
        }
    }

    fn write_workers(&self, pipeline: &mut Pipeline) {
        for (id, row) in &self.workers {
            let key = self.store.keys.worker(id);
            let seen_at = row.seen_at.as_ms();
            pipeline.cmd("ZADD").arg(self.store.keys.workers()).arg(seen_at).arg(id.as_str());
            pipeline.cmd("HSET").arg(&key);
            pipeline.arg("state").arg(row.state.as_str()).arg("pool").arg(row.pool.as_str());
            pipeline.arg("kinds").arg(&row.kinds).arg("slots").arg(row.slots);
            pipeline.arg("busy").arg(row.busy).arg("weight").arg(row.weight);
            pipeline.arg("labels").arg(&row.labels).arg("host").arg(&row.host);
            pipeline.arg("version").arg(&row.version).arg("seen_at").arg(seen_at);
            pipeline.cmd("PEXPIREAT").arg(&key).arg((row.seen_at + WORKER_KEPT).as_ms());
        }
    }
}

/// The entry of a pool, without a copy of its name where there is one.
fn entry<'a, V: Default>(map: &'a mut BTreeMap<PoolName, V>, pool: &PoolName) -> &'a mut V {
    if !map.contains_key(pool) {
        map.insert(pool.clone(), V::default());
    }
    map.get_mut(pool).expect("it was inserted if it was missing")
}
