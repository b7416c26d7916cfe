//! What people look at: written off the hot path, now and then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use taskyard_common::store::{Store, View, WorkerRow, WorkerState};
use taskyard_common::wire::Heartbeat;
use taskyard_model::{PoolName, State, TaskId, Timestamp, WorkerId};
use taskyard_scheduler::{Note, Scheduler};
use tokio::sync::mpsc;
use tracing::debug;

/// How often the view is written.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Turns of news that may wait for Redis; beyond it news is dropped, never kept without bound.
const NEWS_MAX: usize = 64;

enum News {
    Finished(State, TaskId),
    Accepted(i64),
    Gauge(&'static str, u64),
    Worker(Box<WorkerRow>),
}

/// Gathers news and hands them to the task that writes them.
pub(crate) struct Board {
    news: Vec<News>,
    /// Tasks taken in since the last news.
    accepted: i64,
    to_write: mpsc::Sender<Vec<News>>,
    workers: BTreeMap<WorkerId, WorkerRow>,
    flushed: Instant,
}

impl Board {
    pub(crate) fn new(store: &Store, pool: PoolName) -> Self {
        let (to_write, received) = mpsc::channel(NEWS_MAX);
        tokio::spawn(write(View::new(store), pool, received));
        Self {
            news: Vec::new(),
            accepted: 0,
            to_write,
            workers: BTreeMap::new(),
            flushed: Instant::now(),
        }
    }

    pub(crate) fn note(&mut self, note: &Note, _pool: &PoolName) {
        match note {
            Note::Accepted(_) => self.accepted += 1,
            Note::Finished { id, state, .. } => {
                self.news.push(News::Finished(*state, id.clone()));
            }
            _ => {}
        }
    }

    pub(crate) fn beat(&mut self, beat: &Heartbeat, now: Timestamp) {
        let kinds: Vec<&str> = beat.kinds.iter().map(taskyard_model::Pattern::as_str).collect();
        let row = WorkerRow {
            id: beat.id.clone(),
            state: WorkerState::Up,
            pool: beat.pool.clone(),
            kinds: kinds.join(","),
            slots: beat.slots,
            busy: u32::try_from(beat.holding.len()).unwrap_or(u32::MAX),
            weight: beat.weight,
            labels: beat.labels.to_string(),
            host: beat.host.clone().unwrap_or_default(),
            version: beat.version.clone().unwrap_or_default(),
            seen_at: now,
        };
        self.workers.insert(beat.id.clone(), row);
    }

    /// Hands over what has been gathered, once a second.
    pub(crate) fn tick(&mut self, scheduler: &Scheduler, is_leading: bool, _now: Timestamp) {
        if self.flushed.elapsed() < FLUSH_INTERVAL {
            return;
        }
        self.flushed = Instant::now();
        if !is_leading {
            self.news.clear();
            self.accepted = 0;
            return;
        }
        for (id, state, _) in scheduler.workers() {
            let Some(row) = self.workers.get_mut(id) else { continue };
            row.state = match state {
                "lost" => WorkerState::Lost,
                "suspect" => WorkerState::Suspect,
                "draining" => WorkerState::Draining,
                _ => WorkerState::Up,
            };
            self.news.push(News::Worker(Box::new(row.clone())));
        }
        self.news.push(News::Accepted(std::mem::take(&mut self.accepted)));
        let gauges = scheduler.gauges();
        let counts = [
            ("waiting", gauges.waiting),
            ("in_flight", gauges.in_flight),
            ("workers", gauges.workers),
        ];
        for (name, count) in counts {
            self.news.push(News::Gauge(name, count as u64));
        }
        self.news.push(News::Gauge("slots", gauges.slots));
        self.news.push(News::Gauge("busy", gauges.used));
        // A full channel means that Redis is slow: people can do without this second's news.
        let _ = self.to_write.try_send(std::mem::take(&mut self.news));
    }
}

async fn write(mut view: View, pool: PoolName, mut received: mpsc::Receiver<Vec<News>>) {
    while let Some(news) = received.recv().await {
        let now = taskyard_common::now();
        for one in news {
            match one {
                News::Finished(state, id) => {
                    view.finished(state, &id, now);
                    view.moved(&pool, state, 1);
                }
                News::Accepted(tasks) => view.counted(&pool, "accepted", tasks),
                News::Gauge(name, value) => view.gauge(&pool, name, value),
                News::Worker(row) => view.worker(*row),
            }
        }
        if let Err(error) = view.flush(now).await {
            debug!(%error, "the view could not be written");
        }
    }
}
