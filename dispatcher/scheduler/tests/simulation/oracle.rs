use crate::broker::Broker;
use crate::message::{Body, Queue};
use crate::plan::{Plan, Planned};
use crate::store::{Made, Store};
use std::collections::{BTreeMap, BTreeSet};
use taskyard_model::{State, TaskId, Transition};
use taskyard_scheduler::Record;

/// What the promise says about the tasks of a run.
///
/// Watches every change as it is made; a breach is a text that says what was promised.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    accepted: BTreeSet<TaskId>,
    ended: BTreeMap<TaskId, State>,
    ran: BTreeSet<TaskId>,
    ran_well: BTreeSet<TaskId>,
    may_be_cancelled: BTreeSet<TaskId>,
    /// Redis has lost something: records may be older than what was seen.
    has_forgotten: bool,
    was_nacked: BTreeSet<TaskId>,
}

impl Oracle {
    pub(crate) fn accepted(&mut self, id: &TaskId) {
        self.accepted.insert(id.clone());
    }

    pub(crate) fn cancel_asked(&mut self, id: &TaskId) {
        self.may_be_cancelled.insert(id.clone());
    }

    pub(crate) fn ran(&mut self, id: &TaskId) {
        self.ran.insert(id.clone());
    }

    pub(crate) fn ran_well(&mut self, id: &TaskId) {
        self.ran_well.insert(id.clone());
    }

    pub(crate) fn nacked(&mut self, id: &TaskId) {
        self.was_nacked.insert(id.clone());
    }

    pub(crate) fn store_forgot(&mut self) {
        self.has_forgotten = true;
    }

    /// A change of a record: is it one that may be?
    pub(crate) fn made(&mut self, made: &Made, plan: &Plan) -> Result<(), String> {
        let Made { id, transition, before, after } = made;
        let was = before.as_ref().map(|record| record.state);
        if was.is_some_and(|s| s.is_final() && s != State::Rejected && s != after.state) {
            return Err(format!("{id}: a final state changed: {before:?} to {after:?}"));
        }
        let ended = self.ended.get(id);
        if !self.has_forgotten && ended.is_some_and(|&s| s != after.state) {
            return Err(format!("{id} had ended {ended:?} and is {after:?}"));
        }
        if !self.has_forgotten && before.as_ref().is_some_and(|b| b.attempt > after.attempt) {
            return Err(format!("{id}: an attempt went back: {before:?} to {after:?}"));
        }
        if after.failures > after.max_attempts || after.losses > after.max_losses + 1 {
            return Err(format!("{id}: more failures or losses than allowed: {after:?}"));
        }
        if after.state.is_final() && *transition != Transition::Settle {
            self.may_end(id, after, plan)?;
            if after.state != State::Rejected {
                self.ended.insert(id.clone(), after.state);
            }
        }
        Ok(())
    }

    fn may_end(&self, id: &TaskId, after: &Record, plan: &Plan) -> Result<(), String> {
        let state = after.state;
        let planned = || plan.tasks.iter().filter(|task| task.facts.id == *id);
        let is_right = match state {
            State::Succeeded => self.ran_well.contains(id),
            // A suspect task that nobody saw start is charged with the death of its worker too.
            // One that its worker does not end, or never began, fails at its limit.
            // The nacked delivery and the report before it may be read by two dispatchers.
            State::Failed => {
                self.ran.contains(id)
                    || self.was_nacked.contains(id)
                    || after.losses > after.max_losses
                    || planned().any(|task| task.facts.timeout_ms.is_some())
                    || is_given(id)
            }
            // What timed out is asked to end; where that was forgotten, its worker's word counts.
            State::Cancelled => self.may_be_cancelled.contains(id) || self.has_forgotten,
            State::Expired => {
                planned().next().is_none() || planned().any(|t| t.start_within_ms.is_some())
            }
            _ => true,
        };
        is_right.then_some(()).ok_or_else(|| format!("{id} ended {state} without a reason"))
    }

    /// Somebody must hold every task that has not ended.
    pub(crate) fn is_held(&self, id: &TaskId, broker: &Broker, store: &Store) -> bool {
        !self.accepted.contains(id)
            || self.ended.contains_key(id)
            || broker.is_held(id)
            || store.payload(id).is_some()
    }

    /// Accepted tasks that have not ended yet.
    pub(crate) fn unfinished<'a>(&'a self, store: &'a Store) -> impl Iterator<Item = &'a TaskId> {
        self.accepted.iter().filter(|id| {
            let is_final = store.record(id).is_some_and(|record| record.state.is_final());
            // What ended may have been forgotten since, in time or with Redis.
            let has_ended = self.ended.contains_key(*id);
            !is_final && !(has_ended && (store.record(id).is_none() || self.has_forgotten))
        })
    }

    /// At the end: replies told, dead letters buried.
    pub(crate) fn settled(
        &self,
        broker: &Broker,
        store: &Store,
        plan: &Plan,
    ) -> Result<(), String> {
        if self.has_forgotten {
            return Ok(());
        }
        let mut told = BTreeSet::new();
        for body in broker.resting(Queue::Replies) {
            let Body::Reply { id, state, .. } = body else { continue };
            told.insert(id.clone());
            let ended = self.ended.get(id).copied();
            if state.is_some() && *state != ended {
                return Err(format!("{id} ended {ended:?} and {state:?} was told"));
            }
        }
        for task in plan.tasks.iter().filter(|task| task.is_named && !task.is_broken) {
            let (id, wanted) = (&task.facts.id, task.facts.reply.is_some());
            // One of two leaders may end the task while the other takes note of a second submission.
            let is_only = plan.tasks.iter().filter(|other| other.facts.id == *id).count() == 1;
            if plan.faults.two_leaders && !is_only {
                continue;
            }
            let is_told = told.contains(id);
            if wanted && self.ended.contains_key(id) && !is_told {
                return Err(format!("nobody was told that {id} ended"));
            }
        }
        let mut buried = BTreeSet::new();
        for body in broker.resting(Queue::Dead) {
            buried.extend(body.holds());
        }
        for (id, &state) in &self.ended {
            // Above 64 KiB no payload is kept: what timed out and then succeeded after all has none.
            let is_large = |task: &Planned| {
                let may_be = if task.is_named { task.facts.id == *id } else { is_given(id) };
                may_be && task.facts.bytes > 64 * 1024
            };
            if state == State::Failed && !buried.contains(id) && !plan.tasks.iter().any(is_large) {
                return Err(format!("{id} failed and is not among the dead letters"));
            }
            let owes = store.record(id).is_some_and(|record| record.owes_dead_letter);
            if owes && !plan.tasks.iter().any(is_large) {
                return Err(format!("{id} still owes its dead letter"));
            }
        }
        Ok(())
    }
}

/// Whether the submission had no id of its own: which one it was, the id does not tell.
fn is_given(id: &TaskId) -> bool {
    id.as_str().starts_with("given")
}
