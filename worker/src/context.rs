use crate::engine::{Key, Word};
use crate::logbook::Logbook;
use crate::run::Run;
use std::fmt;
use std::sync::Arc;
use taskyard_common::amqp::{Headers, Value};
use taskyard_common::wire::{Head, Task};
use taskyard_model::{Kind, TaskId, Timestamp, WorkerId};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

/// Why a handler was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// Somebody cancelled the task. An error now counts as cancelled, a success as a success. The
    /// handler is dropped after 5 s.
    Command,
    /// The attempt has exceeded its run-time limit and has failed, whatever it returns. The handler
    /// is dropped after 1 s.
    Timeout,
    /// The worker ends, and the grace is over. An error now charges nothing: somebody else gets the
    /// task. The handler is dropped after 3 s.
    Shutdown,
}

/// What a handler knows of its task, and what it can say while it runs.
///
/// Cheap to clone; may outlive the handler, but nobody listens then.
#[derive(Clone)]
pub struct Context {
    task: Arc<Task>,
    worker: WorkerId,
    deadline: Option<Timestamp>,
    run: Arc<Run>,
    logbook: Arc<Logbook>,
    words: UnboundedSender<Word>,
}

impl Context {
    pub(crate) fn new(
        task: Arc<Task>,
        worker: WorkerId,
        deadline: Option<Timestamp>,
        run: Arc<Run>,
        logbook: Arc<Logbook>,
        words: UnboundedSender<Word>,
    ) -> Self {
        Self { task, worker, deadline, run, logbook, words }
    }

    fn head(&self) -> &Head {
        &self.task.head
    }

    /// The task.
    #[must_use]
    pub fn id(&self) -> &TaskId {
        &self.head().id
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &Kind {
        &self.head().kind
    }

    /// Number of this attempt, from 1. Lost and returned attempts count too.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.head().attempt
    }

    /// How many attempts have failed before.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.head().failures
    }

    /// The worker that runs it.
    #[must_use]
    pub fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// By when it should have ended: the end of its run-time limit (`x-task-timeout`) or its
    /// deadline (`x-task-deadline`), whichever comes first. Only the first is enforced.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// The headers as submitted.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.head().headers
    }

    /// A header that is a text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.headers().inner().get(name)? {
            Value::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
            Value::ShortString(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The payload's content type as submitted.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.head().content_type.as_deref()
    }

    /// The payload's content encoding as submitted.
    #[must_use]
    pub fn content_encoding(&self) -> Option<&str> {
        self.head().content_encoding.as_deref()
    }

    /// Fires when the handler should end; [`Context::cancel_reason`] says why.
    ///
    /// ```no_run
    /// # use taskyard_worker::{Context, TaskError};
    /// async fn watch(ctx: Context) -> Result<(), TaskError> {
    ///     tokio::select! {
    ///         () = ctx.cancelled().cancelled() => Err(TaskError::retryable("asked to end")),
    ///         () = tokio::time::sleep(std::time::Duration::from_secs(60)) => Ok(()),
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        self.run.cancelled()
    }

    /// Why the handler should end; `None` while it may go on.
    #[must_use]
    pub fn cancel_reason(&self) -> Option<CancelReason> {
        self.run.reason()
    }

    /// Says how far it is: 0 to 100 percent, and a line for people. May be called as often as one
    /// likes: the latest is sent, at most twice a second.
    pub fn progress(&self, percent: u8, note: impl Into<String>) {
        if self.run.note(percent.min(100), note.into()) {
            let key = Key::of(self.head());
            // The engine is gone: nobody listens any more.
            let _ = self.words.send(Word::Noted(key));
        }
    }

    /// Writes into the task's log, which people read with `taskyard logs ID`: each line with the
    /// time, the attempt and the worker. A text with line breaks is several lines, one of more than
    /// 4 KiB is cut.
    ///
    /// Cheap, and never waits. In return it is best effort: lines travel behind results, at most
    /// 512 KiB a second from one worker, and where a task writes faster its oldest lines are dropped
    /// and a line says how many. Of each task the last 1,000 lines are kept, up to 256 KiB.
    ///
    /// ```no_run
    /// # use taskyard_worker::{Bytes, Context, TaskError};
    /// async fn import(ctx: Context, payload: Bytes) -> Result<Bytes, TaskError> {
    ///     ctx.log(format!("{} bytes to import", payload.len()));
    ///     Ok(payload)
    /// }
    /// ```
    pub fn log(&self, text: impl AsRef<str>) {
        let key = Key::of(self.head());
        if self.logbook.write(&key, taskyard_common::now(), text.as_ref()) {
            // The engine is gone: nobody listens any more.
            let _ = self.words.send(Word::Logged);
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", self.id())
            .field("kind", self.kind())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
