use super::protocol::{self, Answer};
use crate::attempt::Attempt;
use crate::lines::Lines;
use crate::program::{Group, KILL_AFTER, LINGER, NEVER, Tail};
use futures_util::FutureExt;
use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;
use taskyard_worker::{Reply, TaskError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

/// Longest answer in bytes: the largest result in base64, and room for the rest.
const LINE_BYTES_MAX: usize = taskyard_model::PAYLOAD_BYTES_MAX / 3 * 4 + 1024 * 1024;
/// Bytes of standard error that are read at once.
const CHUNK_BYTES: usize = 4 * 1024;

/// A process of a resident program; killed with its group when dropped.
pub(super) struct Process {
    // Dropped first: while nobody has waited for the child, its number is its own.
    group: Group,
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Lines<ChildStdout>,
    errors: Arc<Mutex<Tail>>,
    errors_end: JoinHandle<()>,
    tasks: u64,
}

/// How a task's stay with a process ended.
pub(super) enum Ending {
    /// It has answered.
    Answered {
        /// The task's result.
        result: Result<Reply, TaskError>,
        /// Whether the process may have another task.
        is_fit: bool,
    },
    /// It took too long.
    TimedOut,
    /// It said something that is no answer: whatever it says from now on may be about anything.
    Broken(String),
    /// It is gone, or says that it will say nothing more.
    Ended,
}

impl Process {
    /// Starts one.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let group = Group::of(&child);
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(io::Error::other("its output is not piped"));
        };
        let errors = Arc::default();
        let errors_end = tokio::spawn(gather(stderr, Arc::clone(&errors)));
        let answers = Lines::new(stdout, LINE_BYTES_MAX);
        Ok(Self { group, child, stdin, answers, errors, errors_end, tasks: 0 })
    }

    /// How many tasks it has had.
    pub(super) fn tasks(&self) -> u64 {
        self.tasks
    }

    /// It, if it still waits for a task. What it has said without having one is nobody's.
    pub(super) fn waiting(mut self) -> Option<Self> {
        loop {
            match self.answers.next().now_or_never() {
                None => return Some(self),
                Some(Ok(Some(_))) => {}
                Some(Ok(None) | Err(_)) => return None,
            }
        }
    }

    /// Gives it a task and listens until that is over.
    pub(super) async fn run(
        &mut self,
        attempt: &Attempt,
        timeout: Option<Duration>,
        warned: &Once,
    ) -> Ending {
        self.tasks += 1;
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let request = protocol::write(attempt, timeout);
        let Self { group, stdin, answers, .. } = self;
        let mut feed = pin!(feed(stdin.as_mut(), &request));
        let mut limit = pin!(tokio::time::sleep(timeout.unwrap_or(NEVER)));
        let mut kill = pin!(tokio::time::sleep(NEVER));
        let (mut is_fed, mut is_cancelled) = (false, false);
        loop {
            tokio::select! {
                () = &mut feed, if !is_fed => is_fed = true,
                line = answers.next() => {
                    let Ok(Some(line)) = line else { return Ending::Ended };
                    let Ok(line) = line else {
                        return Ending::Broken(format!("it has more than {LINE_BYTES_MAX} bytes"));
                    };
                    match protocol::read(&line, &attempt.id) {
                        Ok(Answer::Said(said)) => (attempt.say)(said),
                        Ok(Answer::Unknown) => warned.call_once(|| {
                            let (id, kind) = (&attempt.id, &attempt.kind);
                            warn!(id, kind, "a line is not understood; such lines are ignored");
                        }),
                        // Who answers before the whole task was read will take the rest for the next.
                        Ok(Answer::Done(result)) => {
                            return Ending::Answered { result, is_fit: is_fed && !is_cancelled };
                        }
                        Err(why) => return Ending::Broken(why),
                    }
                }
                () = attempt.cancelled.cancelled(), if !is_cancelled => {
                    is_cancelled = true;
                    group.terminate();
                    let wait = if attempt.is_overdue() { Duration::ZERO } else { KILL_AFTER };
                    kill.as_mut().reset(Instant::now() + wait);
                }
                () = &mut limit => return Ending::TimedOut,
                () = &mut kill => {
                    group.kill();
                    kill.as_mut().reset(Instant::now() + NEVER);
                }
            }
        }
    }

    /// Kills all of it: how it ended, and the end of what it wrote to standard error since it had its
    /// task. Who was ending anyway keeps its own exit code.
    pub(super) async fn kill(mut self) -> (Option<ExitStatus>, String) {
        self.group.kill();
        let status = self.child.wait().await.ok();
        self.group.leave();
        // Somebody who has left the group may still have it open.
        let _ = tokio::time::timeout(LINGER, &mut self.errors_end).await;
        let text = self.errors.lock().unwrap_or_else(PoisonError::into_inner).text();
        (status, text)
    }

    /// Lets it end by itself, which it should do when its input ends; kills it where it does not.
    pub(super) fn retire(mut self) {
        self.stdin = None;
        tokio::spawn(async move {
            let ended = async { while let Ok(Some(_)) = self.answers.next().await {} };
            let _ = tokio::time::timeout(LINGER, ended).await;
            self.kill().await;
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.errors_end.abort();
    }
}

async fn feed(stdin: Option<&mut ChildStdin>, request: &[u8]) {
    if let Some(stdin) = stdin {
        // Who does not read its input does not answer either, or has ended.
        let _ = stdin.write_all(request).await;
    }
}

/// Keeps the end of what it writes to standard error, and its pipe empty.
async fn gather(mut stderr: ChildStderr, tail: Arc<Mutex<Tail>>) {
    let mut chunk = [0; CHUNK_BYTES];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(&chunk[..read]);
    }
}
