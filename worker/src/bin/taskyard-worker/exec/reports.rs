use crate::attempt::Attempt;
use crate::lines::Lines;
use crate::said::Said;
use command_fds::{CommandFdExt, FdMapping};
use std::io;
use std::sync::Once;
use tokio::net::unix::pipe;
use tokio::process::Command;
use tracing::warn;

/// The program's descriptor: the first that no program has already.
const DESCRIPTOR: i32 = 3;
/// Longest line in bytes: people read it.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What a program says while it runs, over a descriptor of its own.
pub(super) struct Reports(Lines<pipe::Receiver>);

impl Reports {
    /// Gives the program its end, and says in its environment where that is.
    pub(super) fn open(command: &mut Command) -> io::Result<Self> {
        let (end, ours) = pipe::pipe()?;
        let mapping = FdMapping { parent_fd: end.into_blocking_fd()?, child_fd: DESCRIPTOR };
        command.as_std_mut().fd_mappings(vec![mapping]).map_err(io::Error::other)?;
        command.env("TASKYARD_REPORT_FD", DESCRIPTOR.to_string());
        Ok(Self(Lines::new(ours, LINE_BYTES_MAX)))
    }

    /// Passes on what is said until nobody is left who could. What is not understood is no reason to
    /// fail a task that may be doing well.
    pub(super) async fn listen(mut self, attempt: &Attempt, warned: &Once) {
        // A pipe that cannot be read any more is as good as closed.
        while let Ok(Some(line)) = self.0.next().await {
            match line.ok().and_then(|line| Said::read(&line)) {
                Some(said) => (attempt.say)(said),
                None => warned.call_once(|| {
                    let (id, kind) = (&attempt.id, &attempt.kind);
                    warn!(id, kind, "a line of reports is not understood; such lines are ignored");
                }),
            }
        }
    }
}
