//! Running the program of a peer.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use redis::aio::MultiplexedConnection;
use taskyard_tests::{Place, Process, Yard};

use super::report::Report;
use crate::{load::Sizes, results::Measure};

/// A program gives lost tasks up by itself after five minutes; one that takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(1_200);

/// Another task queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// Python, on RabbitMQ
    Celery,
    /// Python, on RabbitMQ
    Dramatiq,
    /// Python, on RabbitMQ
    Taskiq,
    /// Node.js, on Redis
    Bullmq,
}

impl Peer {
    pub(crate) const ALL: [Self; 4] = [Self::Celery, Self::Dramatiq, Self::Taskiq, Self::Bullmq];

    /// Its name in the summary.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Celery => "celery",
            Self::Dramatiq => "dramatiq",
            Self::Taskiq => "taskiq",
            Self::Bullmq => "bullmq",
        }
    }

    /// What it can do.
    pub(crate) fn measures(self) -> &'static [Measure] {
        match self {
            Self::Bullmq => &[Measure::Single, Measure::Bulk, Measure::Drain, Measure::IdleResult],
            _ => &[Measure::Single, Measure::Drain, Measure::IdleResult],
        }
    }

    /// The interpreter and the program.
    fn command(self) -> Command {
        let (interpreter, program) = match self {
            Self::Bullmq => (PathBuf::from("node"), "bullmq/bench.mjs".to_owned()),
            _ => (python(), format!("{}_bench.py", self.name())),
        };
        let mut command = Command::new(interpreter);
        command.arg(programs().join(program));
        command
    }
}

/// Fails when `.ci/setup peers` has not run for some of them.
pub(crate) fn must_be_installed(mut peers: impl Iterator<Item = Peer>) -> anyhow::Result<()> {
    let place = |peer| match peer {
        Peer::Bullmq => modules().join("node_modules"),
        _ => python(),
    };
    let missing = peers.find(|peer| !place(*peer).exists()).map(Peer::name);
    ensure!(
        missing.is_none(),
        "{} is not installed: `.ci/setup peers` puts all of them into target/peers",
        missing.unwrap_or_default()
    );
    Ok(())
}

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

fn installed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers")
}

fn python() -> PathBuf {
    installed().join("venv/bin/python")
}

fn modules() -> PathBuf {
    installed().join("bullmq")
}

/// Where peers are measured: the servers of Taskyard, in a virtual host and a database apart.
pub(crate) struct Stand {
    place: Place,
    redis: MultiplexedConnection,
    folder: PathBuf,
    sizes: Sizes,
}

impl Stand {
    pub(crate) async fn new(yard: &Yard, sizes: Sizes) -> anyhow::Result<Self> {
        let place = yard.servers().place().await?;
        let client = redis::Client::open(place.redis_url())?;
        let redis = client.get_multiplexed_async_connection().await?;
        Ok(Self { place, redis, folder: yard.folder().to_owned(), sizes })
    }

    /// Runs the peer's program once, on an empty database and queues of its own.
    pub(crate) async fn measure(&self, peer: Peer, measure: Measure) -> anyhow::Result<Report> {
        let () = redis::cmd("FLUSHDB").query_async(&mut self.redis.clone()).await?;
        let (argument, count) = match measure {
            Measure::Bulk => ("bulk", self.sizes.bulk),
            Measure::Drain => ("drain", self.sizes.drain),
            Measure::IdleResult => ("idle", self.sizes.idle),
            _ => ("single", self.sizes.single),
        };
        let run = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
        let name = format!("{}-{argument}-{run}", peer.name());
        let report = self.folder.join(format!("{name}.json"));
        let mut command = peer.command();
        command
            .args([argument, &count.to_string()])
            // Celery's address, for one, could come from the developer's shell.
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("BENCH_AMQP_URL", self.place.amqp_url())
            .env("BENCH_REDIS_URL", self.place.redis_url())
            .env("BENCH_NAME", &name)
            .env("BENCH_REPORT", &report)
            .env("BENCH_MODULES", modules());
        let log = self.folder.join(format!("{name}.log"));
        let process = Process::new(&name, &log, command)?;
        process.start()?;
        let status = process.wait_exit(LIMIT).await?;
        ensure!(status.success(), "{name} ended with {status}:\n{}", process.log_tail(30));
        let text = std::fs::read_to_string(&report).with_context(|| format!("report of {name}"))?;
        Report::parse(&text).with_context(|| format!("report of {name}"))
    }
}
