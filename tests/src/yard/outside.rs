//! Other people's programs, as a user would call them, and our command line.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use tokio::{process::Command, time::timeout};

use super::Yard;
use crate::watchdog::{MARK, Watchdog};
use crate::{Process, programs};

/// How long such a program may run.
const RUN: Duration = Duration::from_secs(120);

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it printed on standard output.
    pub stdout: String,
    /// What it printed on standard error.
    pub stderr: String,
}

impl Ran {
    /// Its standard output, if it ended with 0.
    ///
    /// # Errors
    ///
    /// When it ended otherwise; the error holds what it said.
    pub fn ok(self) -> anyhow::Result<String> {
        ensure!(self.code == Some(0), "ended with {:?}: {}{}", self.code, self.stdout, self.stderr);
        Ok(self.stdout)
    }
}

impl Yard {
    /// `amqp-publish` of `amqp-tools`, connected to this yard's virtual host.
    ///
    /// # Errors
    ///
    /// When it cannot be run.
    pub async fn amqp_publish(&self, args: &[&str]) -> anyhow::Result<Ran> {
        let mut command = Command::new("amqp-publish");
        command.args(["-u", self.place.amqp_url()]).args(args);
        run(command).await
    }

    /// `redis-cli`, connected to this yard's database.
    ///
    /// # Errors
    ///
    /// When it cannot be run.
    pub async fn redis_cli(&self, args: &[&str]) -> anyhow::Result<Ran> {
        let mut command = Command::new("redis-cli");
        command.args(["-u", self.place.redis_url()]).args(args);
        run(command).await
    }

    /// A Python script with pika at hand; `TASKYARD_AMQP_URL` and `TASKYARD_REDIS_URL` are in its environment.
    ///
    /// # Errors
    ///
    /// When no Python with pika is found, or it cannot be run.
    pub async fn python(&self, script: &str, args: &[&str]) -> anyhow::Result<Ran> {
        let mut command = Command::new(programs::python()?);
        command.args(["-c", script]).args(args);
        command
            .env("TASKYARD_AMQP_URL", self.place.amqp_url())
            .env("TASKYARD_REDIS_URL", self.place.redis_url());
        run(command).await
    }

    /// A Python program with pika at hand that runs on, in the environment of [`Self::python`]; start it
    /// with [`Process::start`].
    ///
    /// # Errors
    ///
    /// When no Python with pika is found.
    pub fn python_process(&self, name: &str, script: &Path) -> anyhow::Result<Process> {
        let mut command = std::process::Command::new(programs::python()?);
        command.arg(script);
        command
            .env("TASKYARD_AMQP_URL", self.place.amqp_url())
            .env("TASKYARD_REDIS_URL", self.place.redis_url());
        command.env("WORKER_ID", name);
        Process::new(name, &self.folder.path().join(format!("{name}.log")), command)
    }

    /// A script for `bash`, as a user would type it: the addresses in
    /// its environment, our programs and a `python3` with pika on its `PATH`, `folder`
    /// around it.
    ///
    /// # Errors
    ///
    /// When it cannot be run.
    pub async fn shell(&self, script: &str, folder: &Path) -> anyhow::Result<Ran> {
        let mut command = std::process::Command::new("bash");
        programs::forget_variables(&mut command, &["TASKYARD_"]);
        let python = programs::python()?;
        let before = [Some(programs::folder_of_ours()?), python.parent().map(Path::to_owned)];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = before.into_iter().flatten().chain(std::env::split_paths(&path));
        command
            .env("PATH", std::env::join_paths(path)?)
            .env("TASKYARD_AMQP_URL", self.place.amqp_url())
            .env("TASKYARD_REDIS_URL", self.place.redis_url())
            .env(MARK, Watchdog::of_this_process().mark())
            .args(["-c", script])
            .current_dir(folder);
        run(Command::from(command)).await
    }

    /// Our command line, `taskyard`, set up for this yard by environment.
    ///
    /// # Errors
    ///
    /// When it cannot be run.
    pub async fn taskyard(&self, args: &[&str]) -> anyhow::Result<Ran> {
        let mut command = std::process::Command::new(programs::ours("taskyard")?);
        programs::forget_variables(&mut command, &["TASKYARD_"]);
        let mut command = Command::from(command);
        command.args(args);
        command.env("TASKYARD_AMQP_URL", self.place.amqp_url());
        command.env("TASKYARD_REDIS_URL", self.place.redis_url());
        run(command).await
    }
}

async fn run(mut command: Command) -> anyhow::Result<Ran> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(RUN, output)
        .await
        .with_context(|| format!("{name} ran longer than {RUN:?}"))?
        .with_context(|| format!("cannot run {name}: {}", programs::HOW))?;
    Ok(Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
