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
/// The words are unbounded, and yet bounded: an attempt that runs has at most two under way, and one
/// says that there are lines.
pub(crate) fn spawn(
    runtime: &Handle,
    start: Start,
    worker: &WorkerId,
    words: &UnboundedSender<Word>,
) {
    let Start { handler, task, run, logbook, deadline } = start;
    let key = Key::of(&task.head);
    let payload = task.payload.clone();
    let shared = Arc::clone(&run);
    let context = Context::new(task, worker.clone(), deadline, shared, logbook, words.clone());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::{Handler, Json, Raw};
    use bytes::Bytes;
    use taskyard_common::wire::{Head, Task};
    use taskyard_model::ErrorKind;
    use tokio::sync::mpsc;

    fn begin(
        handler: Arc<dyn Handler>,
        payload: &str,
    ) -> (Arc<Run>, mpsc::UnboundedReceiver<Word>) {
        let head = Head::new("t".parse().unwrap(), "x".parse().unwrap());
        let task =
            Arc::new(Task { head: Box::new(head), payload: Bytes::from(payload.to_owned()) });
        let run = Arc::new(Run::default());
        let logbook = Arc::default();
        let start = Start { handler, task, run: Arc::clone(&run), logbook, deadline: None };
        let (sender, words) = mpsc::unbounded_channel();
        spawn(&Handle::current(), start, &"w".parse().unwrap(), &sender);
        (run, words)
    }

    async fn ended(words: &mut mpsc::UnboundedReceiver<Word>) -> Ended {
        match words.recv().await {
            Some(Word::Ended { ended, .. }) => ended,
            other => panic!("{other:?}"),
        }
    }

    async fn double(_: Context, n: u32) -> Result<u32, TaskError> {
        Ok(n * 2)
    }

    #[tokio::test]
    async fn a_typed_handler_reads_and_writes_json() {
        let (_, mut words) = begin(Arc::new(Json::new(double)), "21");
        let Ended::Done(reply) = ended(&mut words).await else { panic!() };
        assert_eq!(
            (reply.body(), reply.content_type.as_deref()),
            (&Bytes::from("42"), Some("application/json"))
        );
    }

    #[tokio::test]
    async fn a_payload_that_cannot_be_read_is_a_permanent_failure() {
        let (_, mut words) = begin(Arc::new(Json::new(double)), "many");
        let Ended::Failed(error) = ended(&mut words).await else { panic!() };
        assert_eq!((error.is_permanent(), error.kind()), (true, ErrorKind::Failed));
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_with_its_text() {
        let inside = Raw(|_, _: Bytes| async { if true { panic!("no {}", 1) } else { Ok("") } });
        let outside =
            Raw(|_, _: Bytes| -> std::future::Ready<Result<&str, TaskError>> { panic!("no 1") });
        let handlers: [Arc<dyn Handler>; 2] = [Arc::new(inside), Arc::new(outside)];
        for handler in handlers {
            let (_, mut words) = begin(handler, "");
            let Ended::Failed(error) = ended(&mut words).await else { panic!() };
            assert_eq!((error.text(), error.is_permanent()), ("the handler panicked: no 1", false));
        }
    }

    #[tokio::test]
    async fn an_aborted_handler_says_that_it_was_dropped() {
        let endless = Raw(|_, _: Bytes| std::future::pending::<Result<Bytes, TaskError>>());
        let (run, mut words) = begin(Arc::new(endless), "");
        run.abort();
        assert!(matches!(ended(&mut words).await, Ended::Dropped));
    }

    #[tokio::test]
    async fn progress_is_told_once_until_it_is_fetched() {
        let busy = Raw(|ctx: Context, _: Bytes| async move {
            ctx.progress(200, "too far");
            ctx.progress(50, "half");
            ctx.cancelled().cancelled().await;
            Err::<Bytes, _>(TaskError::retryable(format!("{:?}", ctx.cancel_reason())))
        });
        let (run, mut words) = begin(Arc::new(busy), "");
        assert!(matches!(words.recv().await, Some(Word::Noted(_))));
        run.cancel(CancelReason::Command);
        run.cancel(CancelReason::Shutdown);
        let Ended::Failed(error) = ended(&mut words).await else { panic!() };
        assert_eq!(error.text(), "Some(Command)");
        assert_eq!(run.take_progress(), Some((50, "half".to_owned())));
    }

    #[tokio::test]
    async fn lines_are_told_once_until_they_are_taken() {
        let wordy = Raw(|ctx: Context, _: Bytes| async move {
            ctx.log("one");
            ctx.log("two");
            Ok::<_, TaskError>("")
        });
        let (_, mut words) = begin(Arc::new(wordy), "");
        assert!(matches!(words.recv().await, Some(Word::Logged)));
        assert!(matches!(ended(&mut words).await, Ended::Done(_)));
    }
}
