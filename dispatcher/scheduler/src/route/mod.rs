//! Which worker gets a task: one file a policy.

mod least_loaded;
mod weighted;

use crate::settings::{RouteName, Settings};
use taskyard_model::WorkerId;

/// A worker that could take the task now.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate<'a> {
    /// Who.
    pub id: &'a WorkerId,
    /// Number of the worker in this process; stable while it is known.
    pub index: usize,
    /// Its share.
    pub weight: u32,
    /// Its slots.
    pub slots: u32,
    /// Slots taken by what it has been given.
    pub used: u32,
}

/// A policy that chooses among workers.
pub trait Route: Send {
    /// The position of the chosen one; `candidates` is never empty, and sorted by index.
    fn choose(&mut self, candidates: &[Candidate<'_>]) -> usize;

    /// A worker is gone: forget what is kept about it.
    fn forget(&mut self, index: usize);
}

/// The policy of this name.
pub(crate) fn named(settings: &Settings) -> Box<dyn Route> {
    match settings.route {
        RouteName::Weighted => Box::new(weighted::Weighted::default()),
        RouteName::LeastLoaded => Box::new(least_loaded::LeastLoaded::default()),
    }
}
