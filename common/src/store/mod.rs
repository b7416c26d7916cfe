//! The state of tasks in Redis.
//!
//! One script makes every change: it compares state and attempt, then sets; changes of one sort that
//! follow one another share a call of it, and the first record of a task goes a shorter way (`fresh`).
//! Calls go in pipelines over one connection ([`Store::run`]). What only people look at goes through
//! [`View`] and [`LogWriter`], off the hot path. Only a dispatcher has these; everyone else reads, with a
//! [`Reader`].
//!
//! **Invariant:** nothing outside this module names the Redis client.

mod settings;

mod keys;

mod change;
mod error;
mod record;

mod call;
mod fresh;
mod link;
mod script;

mod health;
mod inflight;
mod log;
mod reader;
mod survey;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use change::{Change, Expect, Keep, Op, PayloadOp, Value};
pub use error::StoreError;
pub use health::Problem;
pub use inflight::Inflight;
pub use keys::Keys;
pub use log::{LogLine, LogLines, LogPlace, LogWriter};
pub use reader::{Fields, Reader, TaskView, WorkerView};
pub use record::{Answer, FIELDS, Record};
pub use settings::RedisSettings;
pub use survey::{Deed, Survey};
pub use view::{View, WorkerRow, WorkerState};

use call::First;
use link::{Link, Live, Patience};

/// The records of tasks: the dispatcher's side of Redis.
///
/// Cheap to clone; clones share one connection. A connection that is lost is made anew by the next
/// call, which first waits up to 2 s after repeated failures, so that callers need no pause of
/// their own between repetitions.
#[derive(Clone)]
pub struct Store {
    link: Arc<Link>,
    keys: Arc<Keys>,
    /// `RESTORE` is forbidden here, or not understood.
    is_restore_refused: Arc<AtomicBool>,
}

impl Store {
    /// Connects, and loads the scripts.
    ///
    /// # Errors
    /// `Settings` if the address or a certificate is no good, `Refused` if Redis does not let us
    /// in, `Unreachable` if there is none.
    pub async fn connect(settings: &RedisSettings, namespace: &str) -> Result<Self, StoreError> {
        Self::open(settings, namespace, Patience::default()).await
    }

    async fn open(
        settings: &RedisSettings,
        namespace: &str,
        patience: Patience,
    ) -> Result<Self, StoreError> {
        let link = Arc::new(Link::new(settings, patience)?);
        link.live().await?;
        Ok(Self { link, keys: Arc::new(Keys::new(namespace)), is_restore_refused: Arc::default() })
    }

    /// The names of the keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Does everything in one pipeline, in this order; one answer for each op, in the same order.
    ///
    /// A first record (`Accept`, `AcceptDispatched`) of a task that has one
    /// already is decided after the rest of its call, so such an op should be the task's last one there.
    ///
    /// Ops are done one by one, each by itself: one that Redis refuses ([`Answer::Failed`]) leaves
    /// the others alone. Any number of calls may be under way at once.
    ///
    /// # Errors
    /// Of the call as a whole: `Unreachable` (nothing was done), `Unknown` (any of it may have been
    /// done; repeating all of it is right, what was done before is then refused with the record
    /// that shows it), `Misuse` (nothing was sent), and where a new connection was needed, what
    /// [`Store::connect`] says.
    ///
    /// # Cancel safety
    /// Dropping the future is like `Unknown`.
    pub async fn run(&self, ops: &[Op]) -> Result<Vec<Answer>, StoreError> {
        let mut changes = ops.iter().filter_map(|op| match op {
            Op::Change(change) => Some(change),
            Op::Read(_) | Op::Payload(_) => None,
        });
        if let Some(what) = changes.find_map(Change::mistake) {
            return Err(StoreError::Misuse { what });
        }
        let live = self.link.live().await?;
        let may_restore = !self.is_restore_refused.load(Ordering::Relaxed);
        let ops: Vec<&Op> = ops.iter().collect();
        let firsts = self.send(&live, &ops, may_restore).await?;
        self.decide(&live, &ops, firsts).await
    }

    /// Asks the script where the short way did not decide or the script was forgotten, and puts its
    /// answers in place.
    async fn decide(
        &self,
        live: &Live,
        ops: &[&Op],
        firsts: Vec<First>,
    ) -> Result<Vec<Answer>, StoreError> {
        let mut undecided = Vec::new();
        let mut stored = Vec::new();
        let mut must_reload = false;
        for (&op, first) in ops.iter().zip(&firsts) {
            let &First::Undecided { is_forgotten, is_restore_refused, has_stored, .. } = first
            else {
                continue;
            };
            must_reload |= is_forgotten;
            if is_restore_refused {
                self.is_restore_refused.store(true, Ordering::Relaxed);
            }
            undecided.push(op);
            stored.push(has_stored);
        }
        if must_reload {
            self.link.reload(live).await?;
        }
        let mut decided = Vec::new();
        if !undecided.is_empty() {
            let seconds = self.send(live, &undecided, false).await?;
            let mut undo = redis::Pipeline::new();
            for ((op, has_stored), second) in undecided.into_iter().zip(stored).zip(seconds) {
                let answer = second.answer();
                if let Op::Change(change) = op
                    && has_stored
                    && call::is_without_payload(&answer)
                {
                    undo.add_command(fresh::undo(change, &self.keys));
                }
                decided.push(answer);
            }
            self.link.call_on(live, &undo).await?;
        }
        let mut decided = decided.into_iter();
        let answers = firsts.into_iter().map(|first| match first {
            First::Undecided { error, .. } => decided.next().unwrap_or(Answer::Failed(error)),
            First::Answered(answer) => answer,
        });
        Ok(answers.collect())
    }

    async fn send(
        &self,
        live: &Live,
        ops: &[&Op],
        may_restore: bool,
    ) -> Result<Vec<First>, StoreError> {
        let calls = call::calls(ops, may_restore);
        let mut pipeline = redis::Pipeline::with_capacity(calls.len() * 2);
        for call in &calls {
            call::add(&mut pipeline, call, &live.scripts, &self.keys);
        }
        Ok(call::firsts(&calls, self.link.call_on(live, &pipeline).await?))
    }
}

#[cfg(test)]
mod tests;
