//! What `taskyard-worker` can be told: flags and environment over a file.

use anyhow::Context;
use clap::builder::BoolishValueParser;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use taskyard_common::settings::{
    CommonFlags, default_amqp_url, default_namespace, default_pool, layered,
};
use taskyard_common::telemetry::LogFormat;

/// Run Taskyard tasks: a program for each, by the kinds listed in a handlers file.
#[derive(Debug, clap::Parser, Serialize)]
#[command(name = "taskyard-worker", version)]
pub(crate) struct Flags {
    #[command(flatten)]
    #[serde(flatten)]
    common: CommonFlags,
    /// Name of this worker: unique in the namespace, the same over restarts [default: the host's
    /// name]
    #[arg(long, env = "TASKYARD_WORKER_ID", value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// How many tasks to run at once [default: the number of processors]
    #[arg(long, env = "TASKYARD_SLOTS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<u32>,
    /// Share of the tasks under weighted routing [default: 1]
    #[arg(long, env = "TASKYARD_WEIGHT", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    /// What this worker offers, separated by commas (gpu,zone=eu) [default: nothing]
    #[arg(long, env = "TASKYARD_LABELS", value_name = "LABELS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<String>,
    /// Which program runs which kind (TOML)
    #[arg(long, env = "TASKYARD_HANDLERS", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    handlers: Option<PathBuf>,
    /// Add the kinds echo, sleep and fail, for trials and tests
    #[arg(
        long, env = "TASKYARD_BUILTIN", value_parser = BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    builtin: Option<bool>,
    /// How long running tasks may go on after SIGTERM, in ms [default: 25000]
    #[arg(long, env = "TASKYARD_GRACE_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_ms: Option<u64>,
    /// After how long a running task is handed over to the dispatcher's care, in ms [default:
    /// 300000]
    #[arg(long, env = "TASKYARD_HELD_AFTER_MS", value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    held_after_ms: Option<u64>,
    /// Address for /healthz and /readyz [default: none]
    #[arg(long, env = "TASKYARD_HTTP", value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<SocketAddr>,
    /// How to write the log [default: text]
    #[arg(long, env = "TASKYARD_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
    /// Print the settings as a configuration file, and exit
    #[arg(long)]
    #[serde(skip)]
    pub(crate) print_config: bool,
    /// Ask the worker that runs here with these settings (--http) whether it takes tasks; exit code
    /// 0 if so, 1 if not
    #[arg(long)]
    #[serde(skip)]
    pub(crate) probe: bool,
}

/// The values that count.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where RabbitMQ is.
    #[serde(default = "default_amqp_url")]
    pub(crate) amqp_url: String,
    /// Accepted because the programs may share a file and an environment; a worker needs no Redis.
    #[serde(default, skip_serializing)]
    #[expect(dead_code, reason = "accepted and ignored")]
    redis_url: Option<String>,
    /// Certificates to trust besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// First part of every name on the broker.
    #[serde(default = "default_namespace")]
    pub(crate) namespace: String,
    /// Whose tasks it takes.
    #[serde(default = "default_pool")]
    pub(crate) pool: String,
    /// Unique in the namespace. Two with one id: the newer one ends with an error.
    #[serde(default = "default_id")]
    pub(crate) id: String,
    /// Tasks at once. Too large: they compete for the machine; too small: it idles.
    #[serde(default = "default_slots")]
    pub(crate) slots: u32,
    /// Share under weighted routing.
    #[serde(default = "default_weight")]
    pub(crate) weight: u32,
    /// What it offers.
    #[serde(default)]
    pub(crate) labels: String,
    /// The file of programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) handlers: Option<PathBuf>,
    /// Whether to add `echo`, `sleep`, `fail`.
    #[serde(default)]
    pub(crate) builtin: bool,
    /// ms after SIGTERM for what runs. With some seconds to clean up it should fit what the
    /// supervisor allows (30 s for most); too small: work is repeated elsewhere.
    #[serde(default = "default_grace_ms")]
    pub(crate) grace_ms: u64,
    /// ms after which a running task is handed over. Above the broker's `consumer_timeout` (30
    /// minutes), long tasks break the connection; very small: a message more for each task.
    #[serde(default = "default_held_after_ms")]
    pub(crate) held_after_ms: u64,
    /// Where to say how it is; nowhere by default, since several workers may share a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) http: Option<SocketAddr>,
    /// `text` or `json`.
    #[serde(default)]
    pub(crate) log_format: LogFormat,
}

impl Settings {
    /// Lays the flags over the file.
    pub(crate) fn read(flags: &Flags) -> anyhow::Result<Self> {
        Ok(layered(flags, flags.common.config.as_deref())?)
    }

    /// The settings as a configuration file, without the password.
    pub(crate) fn print(&self) -> anyhow::Result<String> {
        let address: taskyard_worker::Address = self.amqp_url.parse()?;
        let mut table = toml::Table::try_from(self)?;
        table.insert("amqp_url".to_owned(), address.to_string().into());
        toml::to_string(&table).context("settings are plain data")
    }
}

/// The host's name, with what an id may not have replaced.
fn default_id() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
    let id = host
        .unwrap_or_default()
        .replace(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')), "-");
    if id.is_empty() { "worker".to_owned() } else { id }
}

fn default_slots() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(processors).unwrap_or(1)
}

fn default_weight() -> u32 {
    1
}

fn default_grace_ms() -> u64 {
    25_000
}

fn default_held_after_ms() -> u64 {
    300_000
}
