//! A user's program: how it is started, and how all of it is ended.

mod group;
mod launch;
mod tail;

pub(crate) use group::Group;
pub(crate) use launch::{Limits, become_program};
pub(crate) use tail::Tail;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use taskyard_worker::TaskError;
use tokio::process::Command;

/// Between SIGTERM and SIGKILL.
pub(crate) const KILL_AFTER: Duration = Duration::from_secs(2);
/// How long a program that has ended may leave its output open (by something that it has started),
/// before all of its group is killed; and again, before the output is given up.
pub(crate) const LINGER: Duration = Duration::from_secs(2);
/// Stands for "never" where a timer needs an instant.
pub(crate) const NEVER: Duration = Duration::from_secs(86_400 * 365);
/// What the worker's environment has and no program needs: credentials.
const SECRETS: [&str; 2] = ["TASKYARD_AMQP_URL", "TASKYARD_REDIS_URL"];

/// A program that runs tasks. It shows no environment: there may be secrets in it.
pub(crate) struct Program {
    /// The program and its arguments; not empty.
    pub(crate) exec: Vec<String>,
    /// Where it runs.
    pub(crate) dir: Option<PathBuf>,
    /// What is added to its environment.
    pub(crate) env: BTreeMap<String, String>,
    /// What is taken out of it: variables that were given to other handlers.
    pub(crate) hidden: BTreeSet<String>,
    /// As whom it runs, where not as the worker.
    pub(crate) account: Option<Account>,
    /// What it may use.
    pub(crate) limits: Limits,
}

/// Another user of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Name and home, where it was found by its name.
    pub(crate) name: Option<(String, PathBuf)>,
}

impl Program {
    /// How to start it: in a process group of its own, its three streams piped, killed when dropped.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.limits.command(&self.exec);
        for name in SECRETS.into_iter().chain(self.hidden.iter().map(String::as_str)) {
            command.env_remove(name);
        }
        if let Some(account) = &self.account {
            // The standard library also drops the worker's supplementary groups.
            command.uid(account.uid).gid(account.gid);
            if let Some((name, home)) = &account.name {
                command.env("USER", name).env("LOGNAME", name).env("HOME", home);
            }
        }
        command.envs(&self.env);
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        command
    }

    /// It could not be started; the machine may be short of something.
    pub(crate) fn cannot_run(&self, error: &std::io::Error) -> TaskError {
        TaskError::retryable(format!("{} cannot be run: {error}", self.exec[0]))
    }

    /// How it ended, in words.
    pub(crate) fn end(&self, status: ExitStatus) -> String {
        match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) if self.limits.is_over(signal) => {
                let seconds = self.limits.cpu_seconds_max.unwrap_or_default();
                format!("it used more than {seconds} s of processor time")
            }
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "it ended in an unknown way".to_owned(),
        }
    }
}
