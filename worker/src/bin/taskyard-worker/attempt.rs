//! An attempt, as it is told to programs and endpoints.

use crate::said::Said;
use std::time::Duration;
use taskyard_worker::{Bytes, CancelReason, Context};
use tokio_util::sync::CancellationToken;

/// An attempt on its way out of this process: what is told of it, and what is heard from it.
pub(crate) struct Attempt {
    pub(crate) id: String,
    pub(crate) kind: String,
    /// Number of this attempt, from 1.
    pub(crate) number: u32,
    pub(crate) failures: u32,
    pub(crate) worker: String,
    pub(crate) content_type: Option<String>,
    pub(crate) content_encoding: Option<String>,
    pub(crate) traceparent: Option<String>,
    pub(crate) payload: Bytes,
    /// By when the task has to be done, in ms since 1970.
    pub(crate) deadline_ms: Option<u64>,
    /// Fires when it should end.
    pub(crate) cancelled: CancellationToken,
    /// Why it should end; asked when it should.
    pub(crate) reason: Box<dyn Fn() -> Option<CancelReason> + Send + Sync>,
    /// Takes what is said of it while it runs.
    pub(crate) say: Box<dyn Fn(Said) + Send + Sync>,
}

impl Attempt {
    pub(crate) fn new(ctx: &Context, payload: Bytes) -> Self {
        let (asked, told) = (ctx.clone(), ctx.clone());
        Self {
            id: ctx.id().to_string(),
            kind: ctx.kind().to_string(),
            number: ctx.attempt(),
            failures: ctx.failures(),
            worker: ctx.worker().to_string(),
            content_type: ctx.content_type().map(ToOwned::to_owned),
            content_encoding: ctx.content_encoding().map(ToOwned::to_owned),
            traceparent: ctx.header("traceparent").map(ToOwned::to_owned),
            payload,
            deadline_ms: ctx.deadline().map(|at| at.as_ms()),
            cancelled: ctx.cancelled().clone(),
            reason: Box::new(move || asked.cancel_reason()),
            say: Box::new(move |said| said.pass_on(&told)),
        }
    }

    /// By when it has to be done, in ms since 1970, where the handler has a limit of its own that
    /// begins now.
    pub(crate) fn deadline_within(&self, own: Option<Duration>) -> Option<u64> {
        let own = own.map(|limit| (taskyard_common::now() + limit).as_ms());
        self.deadline_ms.into_iter().chain(own).min()
    }

    /// Whether it is to end without delay: its time is over already.
    pub(crate) fn is_overdue(&self) -> bool {
        (self.reason)() == Some(CancelReason::Timeout)
    }
}

#[cfg(test)]
impl Attempt {
    /// One of a task `t1`, whose words nobody hears.
    pub(crate) fn of(payload: impl Into<Bytes>) -> Self {
        Self {
            id: "t1".to_owned(),
            kind: "test.kind".to_owned(),
            number: 3,
            failures: 2,
            worker: "w1".to_owned(),
            content_type: None,
            content_encoding: None,
            traceparent: None,
            payload: payload.into(),
            deadline_ms: None,
            cancelled: CancellationToken::new(),
            reason: Box::new(|| Some(CancelReason::Command)),
            say: Box::new(|_| {}),
        }
    }

    /// The same, and what is said of it while it runs.
    pub(crate) fn heard(mut self) -> (Self, std::sync::mpsc::Receiver<Said>) {
        let (say, heard) = std::sync::mpsc::channel();
        self.say = Box::new(move |said| drop(say.send(said)));
        (self, heard)
    }
}
