//! A running system: servers, dispatchers and workers, as real programs.

mod builder;
mod clients;
mod hash;
mod log;
mod outside;
mod submission;

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use nix::sys::signal::Signal;

use self::clients::Clients;
pub use self::{
    builder::{Program, Worker, YardBuilder},
    hash::TaskHash,
    outside::Ran,
    submission::Submission,
};
use crate::{EVENTUALLY, Place, Process, Servers, folder::Folder, wait::wait_until};

/// How long programs may take to end after SIGTERM in [`Yard::shut_down`].
const GRACE: Duration = Duration::from_secs(45);

/// Lines of each log that are printed when a test fails.
const LOG_LINES: usize = 100;

/// Dispatchers and workers on servers of one test, and the clients to speak to them.
///
/// A test ends with [`Yard::finish`], which fails it when a program logged a warning or an error that
/// nobody expected. A yard that is dropped without it takes that for a failure and prints the logs.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use taskyard_tests::{EVENTUALLY, Submission, Yard};
///
/// let yard = Yard::builder()
///     .dispatchers(2)
///     .worker(|w| w.id("w1").slots(4).weight(3).builtin())
///     .start()
///     .await?;
/// let id = yard.submit(&Submission::of("echo", "hi").priority(9)).await?;
/// let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
/// assert_eq!(task.bytes("result"), b"hi");
///
/// yard.worker("w1").kill9()?;
/// yard.worker("w1").start()?;
/// yard.wait_worker("w1", "up").await?;
/// yard.expect_warnings("worker lost");
/// yard.finish()
/// # }
/// ```
#[derive(Debug)]
pub struct Yard {
    // Dropped in this order: programs, then servers, then files.
    dispatchers: Vec<Dispatcher>,
    workers: Vec<(String, Process)>,
    clients: Clients,
    home: Home,
    place: Place,
    access: builder::Access,
    folder: Folder,
    expected_warnings: Mutex<Vec<String>>,
    is_finished: bool,
}

/// Whose servers a yard stands on.
#[derive(Debug)]
enum Home {
    Shared(&'static Servers),
    Own(Box<Servers>),
}

#[derive(Debug)]
struct Dispatcher {
    process: Process,
    http: String,
}

impl Yard {
    /// What to start.
    pub fn builder() -> YardBuilder {
        YardBuilder::default()
    }

    /// The servers; those of [`YardBuilder::own_servers`] may be killed.
    pub fn servers(&self) -> &Servers {
        match &self.home {
            Home::Shared(servers) => servers,
            Home::Own(servers) => servers,
        }
    }

    /// The virtual host and the database of this yard.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A folder for files of the test, with the logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The dispatcher of that number, from 0. Which one leads is its own business.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    #[track_caller]
    pub fn dispatcher(&self, number: usize) -> &Process {
        &self.dispatchers[number].process
    }

    /// The HTTP address of a dispatcher, `127.0.0.1:12345`.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    #[track_caller]
    pub fn http(&self, number: usize) -> &str {
        &self.dispatchers[number].http
    }

    /// How many dispatchers were started.
    pub fn dispatcher_count(&self) -> usize {
        self.dispatchers.len()
    }

    /// The worker with that id.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[track_caller]
    pub fn worker(&self, id: &str) -> &Process {
        let mut workers = self.workers.iter();
        let found = workers.find(|(name, _)| name == id);
        &found.unwrap_or_else(|| panic!("no worker {id} was started")).1
    }

    /// All programs of this yard.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        let dispatchers = self.dispatchers.iter().map(|dispatcher| &dispatcher.process);
        dispatchers.chain(self.workers.iter().map(|(_, process)| process))
    }

    /// Starts one more worker and waits until it is known.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub async fn add_worker(
        &mut self,
        describe: impl FnOnce(Worker) -> Worker,
    ) -> anyhow::Result<()> {
        let worker = describe(Worker::default());
        let id = worker.id_text().to_owned();
        let process = builder::worker_process(&worker, &self.access, &self.folder)?;
        process.start()?;
        self.workers.push((id.clone(), process));
        self.wait_worker(&id, "up").await
    }

    /// Waits until some dispatcher says it is ready, the others answer, and every worker is known.
    ///
    /// # Errors
    ///
    /// When that does not happen; the error holds the end of the log of who is missing.
    pub async fn wait_ready(&self) -> anyhow::Result<()> {
        wait_until("a ready dispatcher", EVENTUALLY, async || self.readiness().await).await??;
        for (id, _) in &self.workers {
            self.wait_worker(id, "up").await?;
        }
        Ok(())
    }

    /// The outer error says "not yet", the inner one "never".
    async fn readiness(&self) -> anyhow::Result<anyhow::Result<()>> {
        let mut ready = self.dispatchers.is_empty();
        for dispatcher in &self.dispatchers {
            if let Err(ended) = must_run(&dispatcher.process) {
                return Ok(Err(ended));
            }
            let (status, _) =
                clients::http_get(&dispatcher.http, "/readyz").await.with_context(|| {
                    let (name, tail) = (dispatcher.process.name(), dispatcher.process.log_tail(20));
                    format!("{name} does not answer:\n{tail}")
                })?;
            ready |= status == 200;
        }
        ensure!(ready, "none is ready");
        Ok(Ok(()))
    }

    /// Waits until the dispatchers hold the worker for `up`, `draining`, `suspect` or `lost`.
    ///
    /// # Errors
    ///
    /// When that does not happen; the error holds the end of the worker's log.
    pub async fn wait_worker(&self, id: &str, state: &str) -> anyhow::Result<()> {
        wait_until(&format!("worker {id} {state}"), EVENTUALLY, async || {
            let process = self.worker(id);
            if state == "up"
                && let Err(ended) = must_run(process)
            {
                return Ok(Err(ended));
            }
            let now = self.worker_field(id, "state").await?;
            ensure!(now == state, "{now:?}; its log ends with:\n{}", process.log_tail(20));
            Ok(Ok(()))
        })
        .await?
    }

    /// A field of `taskyard:worker:<id>`, empty where there is none.
    ///
    /// # Errors
    ///
    /// When Redis does not answer.
    pub async fn worker_field(&self, id: &str, field: &str) -> anyhow::Result<String> {
        let key = format!("taskyard:worker:{id}");
        let value: Option<String> = self.redis(redis::cmd("HGET").arg(key).arg(field)).await?;
        Ok(value.unwrap_or_default())
    }

    /// `GET` from a dispatcher: status and body.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn http_get(&self, dispatcher: usize, path: &str) -> anyhow::Result<(u16, String)> {
        clients::http_get(self.http(dispatcher), path).await
    }

    /// From now on, and for what was logged before, lines at WARN or ERROR that contain `text` are fine.
    pub fn expect_warnings(&self, text: &str) {
        let mut expected = self.expected_warnings.lock().unwrap_or_else(PoisonError::into_inner);
        expected.push(text.to_owned());
    }

    /// Lines at WARN or ERROR, and panics, that nobody expected, each with its program's name.
    pub fn unexpected_warnings(&self) -> Vec<String> {
        let expected = self.expected_warnings.lock().unwrap_or_else(PoisonError::into_inner);
        self.processes().flat_map(|process| log::unexpected(process, &expected)).collect()
    }

    /// Ends the test: fails it when something unexpected was logged, then kills everything. A test that
    /// is about ending well calls [`Self::shut_down`].
    ///
    /// # Errors
    ///
    /// When there were unexpected warnings.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let warnings = self.unexpected_warnings();
        if !warnings.is_empty() {
            bail!("unexpected in the logs:\n{}", warnings.join("\n"));
        }
        self.is_finished = true;
        Ok(())
    }

    /// Kills everything without a look at the logs.
    pub fn discard(mut self) {
        self.is_finished = true;
    }

    /// SIGTERM to the workers, then to the dispatchers; all must end with 0 in time. Then as
    /// [`Self::finish`].
    ///
    /// # Errors
    ///
    /// When a program does not end, ends with another code, or warned.
    pub async fn shut_down(self) -> anyhow::Result<()> {
        let workers: Vec<&Process> = self.workers.iter().map(|(_, process)| process).collect();
        end(&workers).await?;
        let dispatchers: Vec<&Process> =
            self.dispatchers.iter().map(|dispatcher| &dispatcher.process).collect();
        end(&dispatchers).await?;
        self.finish()
    }
}

fn must_run(process: &Process) -> anyhow::Result<()> {
    let (name, tail) = (process.name(), process.log_tail(20));
    ensure!(process.is_running()?, "{name} has ended:\n{tail}");
    Ok(())
}

async fn end(processes: &[&Process]) -> anyhow::Result<()> {
    for process in processes {
        if process.is_running()? {
            process.signal(Signal::SIGTERM)?;
        }
    }
    for process in processes {
        let status = process.wait_exit(GRACE).await?;
        ensure!(
            status.success(),
            "{} ended with {status}:\n{}",
            process.name(),
            process.log_tail(20)
        );
    }
    Ok(())
}

impl Drop for Yard {
    fn drop(&mut self) {
        if !self.is_finished {
            log::print(self.processes(), LOG_LINES);
            log::print_complaints(self.servers().rabbitmq());
        }
    }
}

/// The error for a task that got into a final state other than the awaited one.
fn elsewhere(id: &str, awaited: &str, task: &TaskHash) -> anyhow::Error {
    anyhow!("task {id} will never be {awaited}: {task:?}")
}
