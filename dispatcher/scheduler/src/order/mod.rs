//! Which task goes next: one file a policy.

mod fcfs;
mod priority;

use crate::facts::Facts;
use crate::settings::{OrderName, Settings};

/// Where a task stands in its order; smaller goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// What the policy says.
    pub key: i64,
    /// The order of arrival decides between equals.
    pub sequence: u64,
}

/// A policy that ranks tasks.
pub trait Order: Send {
    /// The task's key, fixed when it begins to wait; smaller goes first.
    fn key(&self, task: &Facts) -> i64;

    /// The coarse rank, 0 to 9, 9 first: which lane it waits in beyond the window.
    fn lane(&self, task: &Facts) -> u8;
}

/// The policy of this name.
pub(crate) fn named(settings: &Settings) -> Box<dyn Order> {
    match settings.order {
        OrderName::Fcfs => Box::new(fcfs::Fcfs),
        OrderName::Priority => Box::new(priority::Priority::new(settings.ageing)),
    }
}

/// Milliseconds since the epoch as a signed number, so that keys can be shifted either way.
pub(crate) fn signed(at: taskyard_model::Timestamp) -> i64 {
    i64::try_from(at.as_ms()).unwrap_or(i64::MAX)
}
