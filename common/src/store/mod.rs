//! The state of tasks in Redis.
//!
//! One script makes every change: it compares state and attempt, then sets; the first record of a task
//! goes a shorter way (`fresh`). Calls go in pipelines over one connection ([`Store::run`]). What only people look at goes through [`View`],
//! off the hot path. Only a dispatcher has a store; everyone else reads, with a [`Reader`].
//!
//! **Invariant:** nothing outside this module names the Redis client.

mod settings;

mod keys;

mod change;
mod error;
mod record;

mod fresh;
mod link;
mod script;

mod health;
mod inflight;
mod reader;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use change::{Change, Expect, Keep, Op, PayloadOp, Value};
pub use error::StoreError;
pub use health::Problem;
pub use inflight::Inflight;
pub use keys::Keys;
pub use reader::{Fields, Reader, TaskView, WorkerView};
pub use record::{Answer, FIELDS, Record};
pub use settings::RedisSettings;
pub use view::{View, WorkerRow, WorkerState};

use link::{Link, Live, Patience};
use script::{Call, Undecided};

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
        let calls: Vec<Call> = ops.iter().map(|op| Call::of(op, may_restore)).collect();
        let mut replies = self.send(&live, &calls).await?;
        let undecided = script::undecided(&calls, &replies);
        if !undecided.is_empty() {
            self.decide(&live, &undecided, &mut replies).await?;
        }
        let mut replies = replies.into_iter();
        Ok(calls.iter().map(|call| script::answer(call, &mut replies)).collect())
    }

    /// Asks the script where the short way did not decide or the script was forgotten, and puts its
    /// answers in place.
    async fn decide(
        &self,
        live: &Live,
        undecided: &[Undecided<'_>],
        replies: &mut [redis::Value],
    ) -> Result<(), StoreError> {
        if undecided.iter().any(|one| one.is_forgotten) {
            self.link.reload(live).await?;
        }
        if undecided.iter().any(|one| one.is_restore_refused) {
            self.is_restore_refused.store(true, Ordering::Relaxed);
        }
        let calls: Vec<Call> = undecided.iter().map(|one| Call::of(one.op, false)).collect();
        let answers = self.send(live, &calls).await?;
        let mut undo = redis::Pipeline::new();
        for (one, reply) in undecided.iter().zip(answers) {
            if let Op::Change(change) = one.op
                && one.has_stored
                && script::is_without_payload(&reply)
            {
                undo.add_command(fresh::undo(change, &self.keys));
            }
            replies[one.at] = reply;
        }
        self.link.call_on(live, &undo).await.map(drop)
    }

    async fn send(&self, live: &Live, calls: &[Call<'_>]) -> Result<Vec<redis::Value>, StoreError> {
        let mut pipeline = redis::Pipeline::with_capacity(calls.len() * 2);
        for call in calls {
            script::add(&mut pipeline, call, &live.scripts, &self.keys);
        }
        self.link.call_on(live, &pipeline).await
    }
}

#[cfg(test)]
mod tests;
