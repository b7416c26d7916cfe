//! Where programs are: ours, and other people's.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, anyhow, ensure};

/// What to do when one is missing.
pub(crate) const HOW: &str = "`make setup` installs what is missing";

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

/// Takes the variables with these beginnings away from a program: what the developer's shell holds is not
/// meant for private servers and systems under test.
pub(crate) fn forget_variables(command: &mut Command, beginnings: &[&str]) {
    for (name, _) in std::env::vars_os() {
        let bytes = name.as_bytes();
        if beginnings.iter().any(|beginning| bytes.starts_with(beginning.as_bytes())) {
            command.env_remove(&name);
        }
    }
}

/// Takes away what says that requests go to a proxy: endpoints of tests are on this machine.
pub(crate) fn forget_proxies(command: &mut Command) {
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
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

/// A Python that has the AMQP client pika, in the order in which `.ci/setup` looks.
pub(crate) fn python() -> anyhow::Result<PathBuf> {
    let target = folder_of_ours()?.parent().map(Path::to_owned).unwrap_or_default();
    let candidates = [target.join("venv/bin/python"), "/usr/bin/python3".into(), "python3".into()];
    candidates
        .into_iter()
        .find(|python| {
            let mut import = Command::new(python);
            import.args(["-c", "import pika"]).stdout(Stdio::null()).stderr(Stdio::null());
            import.status().is_ok_and(|status| status.success())
        })
        .with_context(|| format!("no Python with the package pika: {HOW}"))
}

/// A program of this workspace, beside the one that runs.
pub fn ours(name: &str) -> anyhow::Result<PathBuf> {
    let file = folder_of_ours()?.join(name);
    ensure!(
        file.is_file(),
        "{} is not built: run `make build` (or `cargo build --release --workspace --bins`)",
        file.display()
    );
    Ok(file)
}

/// `target/release`: test programs are one folder deeper.
pub(crate) fn folder_of_ours() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("TASKYARD_BIN_DIR") {
        return Ok(folder.into());
    }
    let mut folder = std::env::current_exe().context("where this program is")?;
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    Ok(folder)
}
