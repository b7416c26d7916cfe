//! Runs tasks with programs that stay: a line of JSON in for each task, lines of JSON out.

mod process;
mod protocol;
#[cfg(test)]
mod tests;

use crate::attempt::Attempt;
use crate::program::Program;
use process::{Ending, Process};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;
use taskyard_worker::{Reply, TaskError};

/// A program that stays. Each of its processes has one task at a time; there are as many of them as
/// attempts that ran here at once.
pub(crate) struct Resident {
    program: Program,
    /// How long a task may take, besides its own limit.
    timeout: Option<Duration>,
    /// Tasks of one process, until another one takes its place.
    recycle_after: Option<u64>,
    /// Processes without a task; the last one that had one first, so that what is not needed rests.
    idle: Mutex<Vec<Process>>,
    /// Fires at the first line that is not understood and can be ignored.
    warned: Once,
}

impl Resident {
    pub(crate) fn new(
        program: Program,
        timeout: Option<Duration>,
        recycle_after: Option<u64>,
    ) -> Self {
        Self { program, timeout, recycle_after, idle: Mutex::default(), warned: Once::new() }
    }

    /// Has a process run it.
    ///
    /// # Cancel safety
    /// Dropping the future kills the process that has the task, and its group.
    pub(crate) async fn run(&self, attempt: Attempt) -> Result<Reply, TaskError> {
        let mut process = match self.take_idle() {
            Some(process) => process,
            None => Process::start(self.program.command())
                .map_err(|error| self.program.cannot_run(&error))?,
        };
        match process.run(&attempt, self.timeout, &self.warned).await {
            Ending::Answered { result, is_fit } => {
                let is_used_up = self.recycle_after.is_some_and(|most| process.tasks() >= most);
                if !is_fit || is_used_up {
                    process.retire();
                } else {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(process);
                }
                result
            }
            Ending::TimedOut => {
                let ms = self.timeout.unwrap_or_default().as_millis();
                Err(TaskError::timed_out(format!("it ran longer than {ms} ms")))
            }
            Ending::Broken(why) => {
                let (_, error) = process.kill().await;
                Err(TaskError::retryable(with_error(format!("a broken answer: {why}"), &error)))
            }
            Ending::Ended => {
                let (status, error) = process.kill().await;
                let how = status.map_or_else(|| "unknown".to_owned(), |s| self.program.end(s));
                let text =
                    with_error(format!("the program ended without an answer: {how}"), &error);
                Err(TaskError::retryable(text))
            }
        }
    }

    /// A process that waits for a task. Those that have died meanwhile are let go of.
    fn take_idle(&self) -> Option<Process> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find_map(Process::waiting)
    }
}

fn with_error(text: String, error: &str) -> String {
    if error.is_empty() { text } else { format!("{text}: {error}") }
}
