use crate::counts::{self, Rates};
use serde::Serialize;
use taskyard_model::{PoolName, State, Timestamp};

/// A pool's counts: `stats`.
#[derive(Serialize)]
pub(crate) struct Counts<'a> {
    pool: &'a str,
    accepted: Option<u64>,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
    expired: u64,
    rejected: u64,
    waiting: Option<u64>,
    in_flight: Option<u64>,
    workers: Option<u64>,
    slots: Option<u64>,
    busy: Option<u64>,
}

impl<'a> Counts<'a> {
    pub(crate) fn new(pool: &'a PoolName, counts: &counts::Counts) -> Self {
        Self {
            pool: pool.as_str(),
            accepted: counts.accepted(),
            succeeded: counts.ended(State::Succeeded),
            failed: counts.ended(State::Failed),
            cancelled: counts.ended(State::Cancelled),
            expired: counts.ended(State::Expired),
            rejected: counts.ended(State::Rejected),
            waiting: counts.named("waiting"),
            in_flight: counts.named("in_flight"),
            workers: counts.named("workers"),
            slots: counts.named("slots"),
            busy: counts.named("busy"),
        }
    }
}

/// A pool's counts at an instant, and how fast they grow: `watch`.
#[derive(Serialize)]
pub(crate) struct Pulse<'a> {
    at: u64,
    #[serde(flatten)]
    counts: Counts<'a>,
    accepted_per_s: Option<f64>,
    finished_per_s: Option<f64>,
    succeeded_per_s: Option<f64>,
    failed_per_s: Option<f64>,
}

impl<'a> Pulse<'a> {
    pub(crate) fn new(
        at: Timestamp,
        pool: &'a PoolName,
        counts: &counts::Counts,
        rates: &Rates,
    ) -> Self {
        // A tenth is what can be told apart over some seconds.
        let rounded = |rate: Option<f64>| rate.map(|rate| (rate * 10.0).round() / 10.0);
        Self {
            at: at.as_ms(),
            counts: Counts::new(pool, counts),
            accepted_per_s: rounded(rates.accepted),
            finished_per_s: rounded(rates.finished),
            succeeded_per_s: rounded(rates.succeeded),
            failed_per_s: rounded(rates.failed),
        }
    }
}
