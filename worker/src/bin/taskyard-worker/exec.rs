//! Runs a program for each task: payload to its standard input, result from its standard output.

mod pipes;
mod reports;
#[cfg(test)]
mod tests;

use crate::attempt::Attempt;
use crate::program::{Group, KILL_AFTER, LINGER, NEVER, Program, Tail};
use reports::Reports;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Once;
use std::time::Duration;
use taskyard_worker::{Bytes, Reply, TaskError};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// Exit codes that say that retrying is of no use: those of sysexits.h.
const PERMANENT: std::ops::RangeInclusive<i32> = 64..=78;
/// How long a program that has ended may leave its reports open (by something that it has started
/// and let go of): what it said itself is there already.
const REPORTS_WITHIN: Duration = Duration::from_millis(100);

/// A program that is started for each task.
pub(crate) struct Exec {
    pub(crate) program: Program,
    /// How long it may run, besides the task's own limit.
    pub(crate) timeout: Option<Duration>,
    /// Fires at the first of its reports that is not understood.
    pub(crate) warned: Once,
}

/// What a program has written.
#[derive(Debug, Default)]
struct Output {
    result: Bytes,
    /// The end of its standard error.
    error: Tail,
}

impl Exec {
    /// Runs it to its end, whatever that is.
    ///
    /// # Cancel safety
    /// Dropping the future kills the program and its group at once.
    pub(crate) async fn run(&self, attempt: Attempt) -> Result<Reply, TaskError> {
        let (child, reports) =
            self.start(&attempt).map_err(|error| self.program.cannot_run(&error))?;
        let mut reports = pin!(reports.listen(&attempt, &self.warned));
        let mut is_silent = false;
        let ended = tokio::select! {
            ended = self.attend(child, &attempt) => ended,
            never = async {
                reports.as_mut().await;
                is_silent = true;
                std::future::pending().await
            } => never,
        };
        if !is_silent {
            // What it said last may still be on its way.
            let _ = tokio::time::timeout(REPORTS_WITHIN, reports).await;
        }
        let (status, output) = ended?;
        self.outcome(status, output)
    }

    fn start(&self, attempt: &Attempt) -> std::io::Result<(Child, Reports)> {
        let mut command = self.command(attempt);
        let reports = Reports::open(&mut command)?;
        // The command keeps the program's end of the reports open, and is dropped here.
        Ok((command.spawn()?, reports))
    }

    fn command(&self, attempt: &Attempt) -> Command {
        let mut command = self.program.command();
        command
            .env("TASKYARD_ID", &attempt.id)
            .env("TASKYARD_KIND", &attempt.kind)
            .env("TASKYARD_ATTEMPT", attempt.number.to_string())
            .env("TASKYARD_FAILURES", attempt.failures.to_string())
            .env("TASKYARD_WORKER", &attempt.worker);
        let ms = attempt.deadline_within(self.timeout).map(|ms| ms.to_string());
        let known = [
            ("TASKYARD_CONTENT_TYPE", attempt.content_type.as_ref()),
            ("TASKYARD_CONTENT_ENCODING", attempt.content_encoding.as_ref()),
            ("TASKYARD_DEADLINE_MS", ms.as_ref()),
            ("TRACEPARENT", attempt.traceparent.as_ref()),
        ];
        command.envs(known.into_iter().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// Feeds it and reads it until it has ended and its output is closed.
    async fn attend(
        &self,
        mut child: Child,
        attempt: &Attempt,
    ) -> Result<(ExitStatus, Output), TaskError> {
        let mut group = Group::of(&child);
        let mut feed = pin!(pipes::feed(child.stdin.take(), attempt.payload.clone()));
        let mut read = pin!(pipes::read(child.stdout.take(), child.stderr.take()));
        let mut limit = pin!(tokio::time::sleep(self.timeout.unwrap_or(NEVER)));
        let mut kill = pin!(tokio::time::sleep(NEVER));
        let (mut is_fed, mut is_cancelled, mut lingers) = (false, false, 0);
        let (mut status, mut output) = (None, None);
        loop {
            if let Some(status) = status
                && let Some(output) = output.take()
            {
                group.leave();
                return Ok((status, output));
            }
            tokio::select! {
                () = &mut feed, if !is_fed => is_fed = true,
                ended = child.wait(), if status.is_none() => {
                    status = Some(ended?);
                    kill.as_mut().reset(Instant::now() + LINGER);
                }
                read = &mut read, if output.is_none() => output = Some(read?),
                () = attempt.cancelled.cancelled(), if !is_cancelled => {
                    is_cancelled = true;
                    group.terminate();
                    let wait = if attempt.is_overdue() { Duration::ZERO } else { KILL_AFTER };
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

    /// What the end of a program means.
    fn outcome(&self, status: ExitStatus, output: Output) -> Result<Reply, TaskError> {
        let code = status.code();
        if code == Some(0) {
            return Ok(output.result.into());
        }
        let how = self.program.end(status);
        let text = match (output.error.text(), code) {
            (error, _) if error.is_empty() => how,
            (error, Some(_)) => error,
            (error, None) => format!("{how}: {error}"),
        };
        Err(match code {
            Some(code) if PERMANENT.contains(&code) => TaskError::permanent(text),
            _ => TaskError::retryable(text),
        })
    }
}
