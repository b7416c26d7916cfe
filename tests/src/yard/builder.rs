//! What to start.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use anyhow::Context;

use super::{Clients, Dispatcher, Home, Yard};
use crate::{Place, Process, Servers, ServersBuilder, folder::Folder, ports::free_port, programs};

/// Arguments, environment, configuration file and folder of a program.
#[derive(Debug, Clone, Default)]
pub struct Program {
    args: Vec<String>,
    env: Vec<(String, String)>,
    config: Option<String>,
    dir: Option<PathBuf>,
}

impl Program {
    /// Adds arguments: `args(["--order", "edf"])`.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The configuration file's text (TOML).
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// Where it runs; in the yard's folder unless set.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    fn and(mut self, other: Self) -> Self {
        self.args.extend(other.args);
        self.env.extend(other.env);
        self.config = other.config.or(self.config);
        self.dir = other.dir.or(self.dir);
        self
    }
}

/// A worker to start.
#[derive(Debug, Clone)]
pub struct Worker {
    id: String,
    program: Program,
    handlers: Option<String>,
}

impl Default for Worker {
    fn default() -> Self {
        Self { id: "worker".to_owned(), program: Program::default(), handlers: None }
    }
}

impl Worker {
    /// Its id; `worker` unless set.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = id.to_owned();
        self
    }

    /// How many tasks it runs at once.
    #[must_use]
    pub fn slots(self, slots: u32) -> Self {
        self.option("--slots", &slots.to_string())
    }

    /// Its share among workers of its pool.
    #[must_use]
    pub fn weight(self, weight: u32) -> Self {
        self.option("--weight", &weight.to_string())
    }

    /// Its labels: `gpu,zone=eu`.
    #[must_use]
    pub fn labels(self, labels: &str) -> Self {
        self.option("--labels", labels)
    }

    /// Its pool.
    #[must_use]
    pub fn pool(self, pool: &str) -> Self {
        self.option("--pool", pool)
    }

    /// It takes the kinds `echo`, `sleep` and `fail`.
    #[must_use]
    pub fn builtin(self) -> Self {
        self.program(|program| program.args(["--builtin"]))
    }

    /// The text of its handlers file (TOML).
    #[must_use]
    pub fn handlers(mut self, toml: &str) -> Self {
        self.handlers = Some(toml.to_owned());
        self
    }

    /// Anything else about the program.
    #[must_use]
    pub fn program(mut self, describe: impl FnOnce(Program) -> Program) -> Self {
        self.program = describe(self.program);
        self
    }

    pub(super) fn id_text(&self) -> &str {
        &self.id
    }

    fn option(self, name: &str, value: &str) -> Self {
        self.program(|program| program.args([name, value]))
    }
}

/// What a [`Yard`] consists of. Without further words: one dispatcher, no worker, the servers that all
/// tests of the process share.
#[derive(Debug)]
pub struct YardBuilder {
    dispatchers: u32,
    dispatcher: Program,
    more_dispatchers: Vec<Program>,
    workers: Vec<Worker>,
    servers: Option<ServersBuilder>,
    running: Option<Servers>,
    over_tls: bool,
}

impl Default for YardBuilder {
    fn default() -> Self {
        Self {
            dispatchers: 1,
            dispatcher: Program::default(),
            more_dispatchers: Vec::new(),
            workers: Vec::new(),
            servers: None,
            running: None,
            over_tls: false,
        }
    }
}

impl YardBuilder {
    /// How many dispatchers.
    #[must_use]
    pub fn dispatchers(mut self, count: u32) -> Self {
        self.dispatchers = count;
        self
    }

    /// How each dispatcher is started: `each_dispatcher(|d| d.args(["--order", "edf"]))`.
    #[must_use]
    pub fn each_dispatcher(mut self, describe: impl FnOnce(Program) -> Program) -> Self {
        self.dispatcher = describe(self.dispatcher);
        self
    }

    /// One more dispatcher, started like each and with this besides:
    /// `dispatcher(|d| d.args(["--pool", "mail"]))`.
    #[must_use]
    pub fn dispatcher(mut self, describe: impl FnOnce(Program) -> Program) -> Self {
        self.more_dispatchers.push(describe(Program::default()));
        self
    }

    /// One more worker: `worker(|w| w.id("w1").slots(4).builtin())`.
    #[must_use]
    pub fn worker(mut self, describe: impl FnOnce(Worker) -> Worker) -> Self {
        self.workers.push(describe(Worker::default()));
        self
    }

    /// Servers for this yard alone, with options; the test may kill them.
    #[must_use]
    pub fn own_servers(mut self, servers: ServersBuilder) -> Self {
        self.servers = Some(servers);
        self
    }

    /// Servers that run already, from now on this yard's own.
    #[must_use]
    pub fn on(mut self, servers: Servers) -> Self {
        self.running = Some(servers);
        self
    }

    /// The programs connect with TLS, to servers of their own; the test itself without.
    #[must_use]
    pub fn over_tls(mut self) -> Self {
        self.over_tls = true;
        self.servers = Some(self.servers.unwrap_or_default().tls());
        self
    }

    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When a program is not built or does not come up.
    pub async fn start(self) -> anyhow::Result<Yard> {
        let yard = self.start_without_waiting().await?;
        yard.wait_ready().await?;
        Ok(yard)
    }

    /// Starts everything, for tests about what happens before it is ready.
    ///
    /// # Errors
    ///
    /// When a program is not built.
    pub async fn start_without_waiting(self) -> anyhow::Result<Yard> {
        let home = match (self.running, self.servers) {
            (Some(servers), _) => Home::Own(Box::new(servers)),
            (None, Some(builder)) => Home::Own(Box::new(builder.start().await?)),
            (None, None) => Home::Shared(Servers::shared().await?),
        };
        let servers = match &home {
            Home::Shared(servers) => servers,
            Home::Own(servers) => servers.as_ref(),
        };
        let place = servers.place().await?;
        let access =
            if self.over_tls { Access::over_tls(servers, &place)? } else { Access::plain(&place) };
        let folder = Folder::create("yard")?;
        let mut dispatchers = Vec::new();
        let alike = (0..self.dispatchers).map(|_| Program::default());
        for (number, besides) in alike.chain(self.more_dispatchers).enumerate() {
            let name = format!("dispatcher-{number}");
            let http = format!("127.0.0.1:{}", free_port());
            let program = self.dispatcher.clone().and(besides).env("TASKYARD_HTTP", &http);
            let start = Start { binary: "taskyard-dispatcher", name: &name, program: &program };
            let process = start.prepare(&access, &folder)?;
            dispatchers.push(Dispatcher { process, http });
        }
        let mut workers = Vec::new();
        for worker in &self.workers {
            workers.push((worker.id.clone(), worker_process(worker, &access, &folder)?));
        }
        let yard = Yard {
            dispatchers,
            workers,
            clients: Clients::default(),
            home,
            place,
            access,
            folder,
            expected_warnings: Mutex::default(),
            is_finished: false,
        };
        for process in yard.processes() {
            process.start()?;
        }
        Ok(yard)
    }
}

/// How the programs of a yard reach its servers.
#[derive(Debug)]
pub(super) struct Access {
    amqp_url: String,
    redis_url: String,
    ca_file: Option<String>,
}

impl Access {
    fn plain(place: &Place) -> Self {
        Self {
            amqp_url: place.amqp_url().to_owned(),
            redis_url: place.redis_url().to_owned(),
            ca_file: None,
        }
    }

    fn over_tls(servers: &Servers, place: &Place) -> anyhow::Result<Self> {
        let without = "these servers were started without TLS";
        Ok(Self {
            amqp_url: place.amqps_url().context(without)?.to_owned(),
            redis_url: place.rediss_url().context(without)?.to_owned(),
            ca_file: Some(servers.ca_file().context(without)?.display().to_string()),
        })
    }
}

pub(super) fn worker_process(
    worker: &Worker,
    access: &Access,
    folder: &Folder,
) -> anyhow::Result<Process> {
    let mut program = worker.program.clone().env("TASKYARD_WORKER_ID", &worker.id);
    if let Some(handlers) = &worker.handlers {
        let file = folder.path().join(format!("{}.handlers.toml", worker.id));
        std::fs::write(&file, handlers)?;
        program = program.args(["--handlers", &file.display().to_string()]);
    }
    let process = Start { binary: "taskyard-worker", name: &worker.id, program: &program };
    process.prepare(access, folder)
}

/// A program about to be prepared.
struct Start<'a> {
    binary: &'a str,
    name: &'a str,
    program: &'a Program,
}

impl Start<'_> {
    fn prepare(&self, access: &Access, folder: &Folder) -> anyhow::Result<Process> {
        let mut command = Command::new(programs::ours(self.binary)?);
        programs::forget_variables(&mut command, &["TASKYARD_"]);
        programs::forget_proxies(&mut command);
        command
            .current_dir(self.program.dir.as_deref().unwrap_or(folder.path()))
            .env("TASKYARD_AMQP_URL", &access.amqp_url)
            .env("RUST_BACKTRACE", "1");
        // Workers hold no credentials of Redis.
        if self.binary == "taskyard-dispatcher" {
            command.env("TASKYARD_REDIS_URL", &access.redis_url);
        }
        if let Some(file) = &access.ca_file {
            command.env("TASKYARD_TLS_CA", file);
        }
        if let Some(config) = &self.program.config {
            let file = folder.path().join(format!("{}.toml", self.name));
            std::fs::write(&file, config)?;
            command.env("TASKYARD_CONFIG", file);
        }
        command.args(&self.program.args).envs(self.program.env.iter().cloned());
        Process::new(self.name, &folder.path().join(format!("{}.log", self.name)), command)
    }
}
