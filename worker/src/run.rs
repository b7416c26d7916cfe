use crate::context::{CancelReason, Context};
use crate::engine::{Ended, Key, Start, Word};
use crate::error::TaskError;
use futures_util::FutureExt;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;
use taskyard_model::WorkerId;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

/// What the engine and a running handler share.
#[derive(Debug, Default)]
pub(crate) struct Run {
    cancelled: CancellationToken,
    reason: OnceLock<CancelReason>,
    abort: OnceLock<AbortHandle>,
    progress: Mutex<Option<(u8, String)>>,
    /// Whether the engine has been told that there is progress to fetch.
    is_noted: AtomicBool,
}

impl Run {
    pub(crate) fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    pub(crate) fn reason(&self) -> Option<CancelReason> {
        self.reason.get().copied()
    }

    /// Asks the handler to end; the first reason stays.
    pub(crate) fn cancel(&self, reason: CancelReason) {
        self.reason.get_or_init(|| reason);
        self.cancelled.cancel();
    }

    /// Drops the handler where it next waits.
    pub(crate) fn abort(&self) {
        if let Some(abort) = self.abort.get() {
            abort.abort();
        }
    }

    /// Notes progress; whether the engine has to be told.
    pub(crate) fn note(&self, percent: u8, note: String) -> bool {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some((percent, note));
        !self.is_noted.swap(true, Ordering::AcqRel)
    }

    /// The latest progress that was not fetched yet.
    pub(crate) fn take_progress(&self) -> Option<(u8, String)> {
        self.is_noted.store(false, Ordering::Release);
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Tells the engine that a handler has ended, however it ends: by returning, by a panic, or dropped.
struct Tell {
    key: Option<Key>,
    ended: Ended,
    began: Instant,
    words: UnboundedSender<Word>,
}

impl Tell {
    fn begin(mut self) -> Self {
        self.began = Instant::now();
        self
    }

    fn end(&mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        let ended = std::mem::replace(&mut self.ended, Ended::Dropped);
        let ran_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(key) = self.key.take() {
            // The engine is gone: nobody listens any more.
            let _ = self.words.send(Word::Ended { key, ended, ran_us });
        }
    }
}

/// Runs a handler on a task of its own.
///
/// The words are unbounded, and yet bounded: an attempt that runs has at most two under way.
pub(crate) fn spawn(
    runtime: &Handle,
    start: Start,
    worker: &WorkerId,
    words: &UnboundedSender<Word>,
) {
    let Start { handler, task, run, deadline } = start;
    let key = Key::of(&task.head);
    let payload = task.payload.clone();
    let context = Context::new(task, worker.clone(), deadline, Arc::clone(&run), words.clone());
    let words = words.clone();
    let tell = Tell { key: Some(key), ended: Ended::Dropped, began: Instant::now(), words };
    let attempt = runtime.spawn(async move {
        let mut tell = tell.begin();
        // The call itself may panic too, so it happens inside.
        let call = AssertUnwindSafe(async { handler.call(context, payload).await });
        tell.end(match call.catch_unwind().await {
            Ok(Ok(reply)) => Ended::Done(reply),
            Ok(Err(error)) => Ended::Failed(error),
            Err(panic) => Ended::Failed(TaskError::retryable(panic_text(&*panic))),
        });
    });
    // It is set once: an attempt is spawned once.
    let _ = run.abort.set(attempt.abort_handle());
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text");
    format!("the handler panicked: {text}")
}
