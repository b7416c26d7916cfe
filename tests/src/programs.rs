//! Where the programs of other people are.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

const HOW: &str = "`make setup` installs what is missing";

/// Where Homebrew puts things, on Apple silicon, on Intel, on Linux.
const HOMEBREW: [&str; 3] = ["/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew"];

/// The folder of RabbitMQ's own scripts. The wrappers on the `PATH` of Debian insist on the user
/// `rabbitmq` and on the system's folders.
pub(crate) fn rabbitmq_scripts() -> anyhow::Result<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/rabbitmq/lib")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("sbin")))
        .collect();
    folders.sort();
    folders.reverse();
    folders.extend(HOMEBREW.map(|prefix| Path::new(prefix).join("opt/rabbitmq/sbin")));
    folders
        .into_iter()
        .find(|folder| folder.join("rabbitmq-server").exists())
        .with_context(|| format!("RabbitMQ is not installed: {HOW}"))
}

/// Erlang's port mapper, which belongs to the Erlang that RabbitMQ runs on.
pub(crate) fn epmd() -> anyhow::Result<PathBuf> {
    let erlang = HOMEBREW.map(|prefix| Path::new(prefix).join("opt/erlang/lib/erlang/bin/epmd"));
    on_path("epmd")
        .or_else(|| erlang.into_iter().find(|file| file.exists()))
        .with_context(|| format!("Erlang's epmd is not installed: {HOW}"))
}

/// `redis-server`.
pub(crate) fn redis_server() -> anyhow::Result<PathBuf> {
    on_path("redis-server").ok_or_else(|| anyhow!("Redis is not installed: {HOW}"))
}

/// A program on the `PATH`, or where daemons are that users need not have on theirs.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = HOMEBREW.map(|prefix| Path::new(prefix).join("bin"));
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/bin".into()])
        .chain(more)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
