use crate::builder::WorkerBuilder;
use crate::driver::{Driver, DriverState, Ending};
use crate::engine::{Engine, EngineSettings};
use crate::handler::Handlers;
use crate::health::Health;
use crate::machine;
use crate::session::Sessions;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use taskyard_common::amqp::{AmqpError, AmqpSettings};
use taskyard_common::names::Names;
use taskyard_common::shutdown::Shutdown;
use taskyard_common::wire::train::CARS_MAX;
use taskyard_common::wire::{Heartbeat, WorkerState};
use taskyard_model::{Labels, PoolName, WorkerId};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Threads of the protocol. One parses trains while the other drives the engine.
const IO_THREADS: usize = 2;
/// Events between session and engine. More than the prefetch, so that deliveries never wait in the
/// AMQP library, where nobody could tell that they have come.
const EVENTS: usize = 512;
/// How long the end of the last session may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// Runs tasks with handlers in Rust.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
/// use taskyard_worker::{AmqpSettings, Context, Shutdown, TaskError, Worker};
///
/// #[derive(Deserialize)]
/// struct Resize { file: String, width: u32 }
///
/// #[derive(Serialize)]
/// struct Resized { file: String }
///
/// async fn resize(ctx: Context, task: Resize) -> Result<Resized, TaskError> {
///     ctx.progress(10, format!("reading {}", task.file));
///     let image = tokio::fs::read(&task.file).await?; // any standard error is retryable
///     if image.is_empty() {
///         return Err(TaskError::permanent("the file is empty"));
///     }
///     Ok(Resized { file: format!("{}-{}", task.width, task.file) })
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let amqp = AmqpSettings { address: "amqp://guest:guest@127.0.0.1/%2f".parse()?, tls_ca: None };
/// Worker::builder()
///     .amqp(amqp)
///     .id("resizer-1")
///     .slots(8)
///     .labels("gpu,zone=eu")
///     .handler("image.resize", resize)
///     .raw_handler("echo", |_ctx, payload| async move { Ok(payload) })
///     .build()?
///     .run(Shutdown::on_signals()?)
///     .await?;
/// # Ok(())
/// # }
/// ```
pub struct Worker {
    pub(crate) amqp: AmqpSettings,
    pub(crate) names: Names,
    pub(crate) pool: PoolName,
    pub(crate) id: WorkerId,
    pub(crate) slots: u32,
    pub(crate) weight: u32,
    pub(crate) labels: Labels,
    pub(crate) grace: Duration,
    pub(crate) held_after: Duration,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) health: Health,
}

/// Why a worker ended that was not asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The broker refuses it: user, password, vhost or permissions are wrong. Mend the settings.
    #[error("the broker refuses this worker")]
    Refused(#[source] AmqpError),
    /// Another process has the same id. Give each worker its own.
    #[error("another process has the worker id {id}: {why}")]
    Replaced {
        /// The id of both.
        id: WorkerId,
        /// What the dispatcher says about it.
        why: String,
    },
    /// The broker could not be told in time what became of some attempts. They come back to the
    /// dispatcher by themselves, and run again.
    #[error("the broker was not told in time what became of {0} attempts")]
    Unreported(usize),
    /// The threads of the protocol cannot be started.
    #[error("no threads for the protocol")]
    Threads(#[source] std::io::Error),
}

impl Worker {
    /// Begins to describe one.
    #[must_use]
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder::default()
    }

    /// Tells how the worker is while it runs.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Takes tasks until the shutdown says otherwise.
    ///
    /// Handlers run on the runtime that this is called on; the protocol has threads of its own, so
    /// that a handler that blocks its thread silences nobody. A broker that is away is waited for.
    ///
    /// At `shutdown.drain` nothing new is taken, what runs may finish within the grace, and the rest
    /// goes back. At `shutdown.now` everything is dropped; the broker gives it back.
    ///
    /// # Errors
    /// [`RunError`]: the broker refuses the worker, another process has its id, or the end took too
    /// long.
    ///
    /// # Cancel safety
    /// Dropping the future is like `shutdown.now`, except that handlers go on and nobody listens.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), RunError> {
        let io = IoRuntime::start().map_err(RunError::Threads)?;
        let id = self.id.clone();
        info!(
            worker = %self.id, pool = %self.pool, slots = self.slots, kinds = self.handlers.kinds().len(),
            "starting"
        );
        let (events_sender, events) = mpsc::channel(EVENTS);
        let (beats, beats_receiver) = watch::channel(Bytes::new());
        let draining = CancellationToken::new();
        let sessions = Sessions {
            amqp: self.amqp.clone(),
            names: self.names.clone(),
            worker: self.id.clone(),
            events: events_sender,
            beats: beats_receiver,
            drain: draining.clone(),
            health: self.health.clone(),
        };
        let beat = self.first_beat();
        let driver = Driver {
            engine: Engine::new(EngineSettings {
                worker: self.id,
                boot: beat.boot.clone(),
                slots: self.slots,
                held_after: self.held_after,
                handlers: self.handlers,
            }),
            beat,
            names: self.names,
            pool: self.pool,
            grace: self.grace,
            handlers: Handle::current(),
            words: mpsc::unbounded_channel(),
            events,
            beats,
            draining,
            shutdown,
            health: self.health,
            state: DriverState::default(),
        };
        let mut sessions = io.handle().spawn(sessions.run());
        let mut driver = io.handle().spawn(driver.run());
        let ending = tokio::select! {
            ending = &mut driver => {
                // It has let go of its session, which now says goodbye; nothing depends on that.
                let _ = tokio::time::timeout(GOODBYE, sessions).await;
                joined(ending)
            }
            outcome = &mut sessions => match joined(outcome) {
                Err(error) => return Err(RunError::Refused(error)),
                // They end well only after the driver.
                Ok(()) => joined(driver.await),
            },
        };
        info!(worker = %id, ?ending, "ended");
        match ending {
            Ending::Done => Ok(()),
            Ending::Replaced(why) => Err(RunError::Replaced { id, why }),
            Ending::Unreported(attempts) => Err(RunError::Unreported(attempts)),
        }
    }

    /// What every heartbeat says.
    fn first_beat(&self) -> Heartbeat {
        Heartbeat {
            id: self.id.clone(),
            boot: uuid::Uuid::new_v4().to_string(),
            pool: self.pool.clone(),
            kinds: self.handlers.kinds().to_vec(),
            slots: self.slots,
            labels: self.labels.clone(),
            weight: self.weight,
            state: WorkerState::Up,
            holding: Vec::new(),
            trains: u32::try_from(CARS_MAX).unwrap_or(u32::MAX),
            load: None,
            memory_free: None,
            host: machine::host(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The outcome of a task that is not cancelled; a panic goes on here.
fn joined<T>(outcome: Result<T, JoinError>) -> T {
    outcome.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => unreachable!("nobody aborts it: {error}"),
    })
}

/// The runtime of the protocol; may be dropped anywhere.
struct IoRuntime(Option<Runtime>);

impl IoRuntime {
    fn start() -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let builder = builder.worker_threads(IO_THREADS).thread_name("taskyard-io").enable_all();
        Ok(Self(Some(builder.build()?)))
    }

    fn handle(&self) -> &Handle {
        self.0.as_ref().expect("it is taken only when dropped").handle()
    }
}

impl Drop for IoRuntime {
    fn drop(&mut self) {
        // Waiting for its threads would block the caller's.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
