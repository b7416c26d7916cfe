//! A child process that can be killed, frozen and started again.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::{
    wait::wait_until,
    watchdog::{MARK, Watchdog},
};

/// A program that runs in a process group of its own, its output in a file.
///
/// Nothing of it is bound to an async runtime, so one process can serve tests that have each their own.
/// Dropping it kills the group.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    command: Command,
    child: Option<Child>,
    last_exit: Option<ExitStatus>,
}

impl Process {
    /// Prepares `command`; [`Self::start`] runs it. Standard output and error are appended to `log`.
    ///
    /// # Errors
    ///
    /// When the log file cannot be opened.
    pub fn new(name: &str, log: &Path, mut command: Command) -> anyhow::Result<Self> {
        let out = File::options().create(true).append(true).open(log).context("log file")?;
        let errors = out.try_clone().context("log file")?;
        command
            .env(MARK, Watchdog::of_this_process().mark())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .process_group(0);
        let state = Mutex::new(State { command, child: None, last_exit: None });
        Ok(Self { name: name.to_owned(), log: log.to_owned(), state })
    }

    /// Starts it; does nothing while it runs.
    ///
    /// # Errors
    ///
    /// When the program cannot be run.
    pub fn start(&self) -> anyhow::Result<()> {
        let mut state = self.state();
        if state.is_running()? {
            return Ok(());
        }
        let child = state.command.spawn().with_context(|| {
            format!("{}: cannot run {:?}", self.name, state.command.get_program())
        })?;
        Watchdog::of_this_process().kill_at_end(child.id());
        state.child = Some(child);
        Ok(())
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id, also of its group, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.state().child.as_ref().map(Child::id)
    }

    /// Whether it runs (a frozen one does).
    ///
    /// # Errors
    ///
    /// When the system cannot tell.
    pub fn is_running(&self) -> anyhow::Result<bool> {
        self.state().is_running()
    }

    /// Sends a signal to the process itself, not to what it started: `SIGTERM`, `SIGSTOP`, `SIGCONT`.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(self.group()?, signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Sends a signal to the process and to what it started, as a terminal does.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn signal_group(&self, signal: Signal) -> anyhow::Result<()> {
        killpg(self.group()?, signal).with_context(|| format!("{signal} to group of {}", self.name))
    }

    /// `kill -9` to the process alone, and takes note of its end. What it started lives on, as after the
    /// out-of-memory killer.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn kill9(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.state().reap()
    }

    /// `kill -9` to the process and to what it started; does nothing when it does not run.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill9_group(&self) -> anyhow::Result<()> {
        if self.pid().is_none() {
            return Ok(());
        }
        // Its leader may have ended by itself, which is as good.
        let _ = self.signal_group(Signal::SIGKILL);
        self.state().reap()
    }

    /// Waits until it has ended by itself or by a signal.
    ///
    /// # Errors
    ///
    /// When it was never started, or still runs after `limit`.
    pub async fn wait_exit(&self, limit: Duration) -> anyhow::Result<ExitStatus> {
        wait_until(&format!("end of {}", self.name), limit, async || {
            let mut state = self.state();
            if state.is_running()? {
                bail!("still running");
            }
            state.last_exit.ok_or_else(|| anyhow!("never started"))
        })
        .await
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last `lines` lines that it has printed.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let from = log.lines().count().saturating_sub(lines);
        log.lines().skip(from).collect::<Vec<_>>().join("\n")
    }

    fn group(&self) -> anyhow::Result<Pid> {
        let pid = self.pid().ok_or_else(|| anyhow!("{} does not run", self.name))?;
        Ok(Pid::from_raw(i32::try_from(pid)?))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The watchdog tries again at the end of the process.
        let _ = self.kill9_group();
    }
}

impl State {
    fn is_running(&mut self) -> anyhow::Result<bool> {
        let Some(child) = &mut self.child else { return Ok(false) };
        let Some(status) = child.try_wait()? else { return Ok(true) };
        self.note_end(status);
        Ok(false)
    }

    fn reap(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let status = child.wait()?;
        self.note_end(status);
        Ok(())
    }

    /// Its number may be given to another process from now on.
    fn note_end(&mut self, status: ExitStatus) {
        if let Some(child) = self.child.take() {
            Watchdog::of_this_process().forget(child.id());
        }
        self.last_exit = Some(status);
    }
}
