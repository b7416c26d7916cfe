//! Runs a program for a task: payload to its standard input, result from its standard output.

mod group;
mod pipes;
#[cfg(test)]
mod tests;

use group::Group;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use taskyard_worker::{Bytes, CancelReason, Context, TaskError};
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between SIGTERM and SIGKILL.
const KILL_AFTER: Duration = Duration::from_secs(2);
/// How long a program that has ended may leave its output open (by something that it has started),
/// before all of its group is killed; and again, before the output is given up.
const LINGER: Duration = Duration::from_secs(2);
/// Exit codes that say that retrying is of no use: those of sysexits.h.
const PERMANENT: std::ops::RangeInclusive<i32> = 64..=78;
/// What the worker's environment has and no program needs: credentials.
const SECRETS: [&str; 2] = ["TASKYARD_AMQP_URL", "TASKYARD_REDIS_URL"];
/// Stands for "never" where a timer needs an instant.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// A program that runs tasks.
#[derive(Debug)]
pub(crate) struct Program {
    /// The program and its arguments; not empty.
    pub(crate) exec: Vec<String>,
    /// How long it may run, besides the task's own limit.
    pub(crate) timeout: Option<Duration>,
    /// Where it runs.
    pub(crate) dir: Option<PathBuf>,
    /// What is added to its environment.
    pub(crate) env: BTreeMap<String, String>,
}

/// An attempt, as a program sees it.
pub(crate) struct Attempt {
    payload: Bytes,
    env: Vec<(&'static str, String)>,
    deadline_ms: Option<u64>,
    cancelled: CancellationToken,
    /// Why it was cancelled; asked when it was.
    reason: Box<dyn Fn() -> Option<CancelReason> + Send>,
}

impl Attempt {
    pub(crate) fn new(ctx: &Context, payload: Bytes) -> Self {
        let mut env = vec![
            ("TASKYARD_ID", ctx.id().to_string()),
            ("TASKYARD_KIND", ctx.kind().to_string()),
            ("TASKYARD_ATTEMPT", ctx.attempt().to_string()),
            ("TASKYARD_FAILURES", ctx.failures().to_string()),
            ("TASKYARD_WORKER", ctx.worker().to_string()),
        ];
        if let Some(content_type) = ctx.content_type() {
            env.push(("TASKYARD_CONTENT_TYPE", content_type.to_owned()));
        }
        let asked = ctx.clone();
        Self {
            payload,
            env,
            deadline_ms: ctx.deadline().map(|at| at.as_ms()),
            cancelled: ctx.cancelled().clone(),
            reason: Box::new(move || asked.cancel_reason()),
        }
    }
}

impl Program {
    /// Runs it to its end, whatever that is.
    ///
    /// # Cancel safety
    /// Dropping the future kills the program and its group at once.
    pub(crate) async fn run(&self, attempt: Attempt) -> Result<Bytes, TaskError> {
        let mut child = self.command(&attempt).spawn().map_err(|error| {
            TaskError::retryable(format!("{} cannot be run: {error}", self.exec[0]))
        })?;
        let mut group = Group::of(&child);
        let mut feed = pin!(pipes::feed(child.stdin.take(), attempt.payload.clone()));
        let mut output = pin!(pipes::read(child.stdout.take(), child.stderr.take()));
        let mut limit = pin!(tokio::time::sleep(self.timeout.unwrap_or(NEVER)));
        let mut kill = pin!(tokio::time::sleep(NEVER));
        let (mut is_fed, mut is_cancelled, mut lingers) = (false, false, 0);
        let (mut status, mut said) = (None, None);
        loop {
            if let Some(status) = status
                && let Some(said) = said.take()
            {
                group.leave();
                return outcome(status, said);
            }
            tokio::select! {
                () = &mut feed, if !is_fed => is_fed = true,
                ended = child.wait(), if status.is_none() => {
                    status = Some(ended?);
                    kill.as_mut().reset(Instant::now() + LINGER);
                }
                read = &mut output, if said.is_none() => said = Some(read?),
                () = attempt.cancelled.cancelled(), if !is_cancelled => {
                    is_cancelled = true;
                    let is_urgent = (attempt.reason)() == Some(CancelReason::Timeout);
                    group.terminate();
                    let wait = if is_urgent { Duration::ZERO } else { KILL_AFTER };
                    kill.as_mut().reset(Instant::now() + wait);
                }
                () = &mut limit => {
                    let ms = self.timeout.unwrap_or_default().as_millis();
                    return Err(TaskError::timed_out(format!("it ran longer than {ms} ms")));
                }
                () = &mut kill => {
                    if status.is_some() && lingers > 0 {
                        let text = "the program left its output open to another one";
                        return Err(TaskError::retryable(text));
                    }
                    lingers += i32::from(status.is_some());
                    group.kill();
                    kill.as_mut().reset(Instant::now() + LINGER);
                }
            }
        }
    }

    fn command(&self, attempt: &Attempt) -> Command {
        let mut command = Command::new(&self.exec[0]);
        command.args(&self.exec[1..]).envs(&self.env).envs(attempt.env.iter().cloned());
        for name in SECRETS {
            command.env_remove(name);
        }
        let own = self.timeout.map(|limit| (taskyard_common::now() + limit).as_ms());
        if let Some(deadline_ms) = attempt.deadline_ms.into_iter().chain(own).min() {
            command.env("TASKYARD_DEADLINE_MS", deadline_ms.to_string());
        }
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        command
    }
}

/// What a program has written.
#[derive(Debug, Default)]
struct Said {
    result: Bytes,
    /// The end of its standard error.
    error: String,
}

/// What the end of a program means.
fn outcome(status: ExitStatus, said: Said) -> Result<Bytes, TaskError> {
    let code = status.code();
    if code == Some(0) {
        return Ok(said.result);
    }
    let how = match (code, status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "it ended in an unknown way".to_owned(),
    };
    let text = match (said.error.trim(), code) {
        ("", _) => how,
        (error, Some(_)) => error.to_owned(),
        (error, None) => format!("{how}: {error}"),
    };
    Err(match code {
        Some(code) if PERMANENT.contains(&code) => TaskError::permanent(text),
        _ => TaskError::retryable(text),
    })
}
