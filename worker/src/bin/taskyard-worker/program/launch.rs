//! Limits of a program.
//!
//! Limits have to be set after the child is born and before its program begins. Code between fork and
//! exec is `unsafe` in Rust, for good reasons; `prlimit` from outside comes too late for what a program
//! does first; `sh -c 'ulimit …'` needs a shell on the machine, whose units and options differ. So this
//! very program is started again under another name, sets the limits in peace, and becomes the
//! program. It costs a millisecond or two, and only those handlers that have limits.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::process::Command;

/// What this program is called when it is to become another one.
const NAME: &str = "taskyard-launch";
/// The exit code of shells for a program that cannot be run; retried, as what cannot be started is.
const CANNOT_RUN: u8 = 126;

/// What a program may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Bytes of address space of each of its processes.
    pub(crate) memory_max: Option<u64>,
    /// Seconds of processor time of each of its processes.
    pub(crate) cpu_seconds_max: Option<u64>,
}

impl Limits {
    /// The command that runs a program within them.
    pub(super) fn command(self, exec: &[String]) -> Command {
        if self == Self::default() {
            let mut command = Command::new(&exec[0]);
            command.args(&exec[1..]);
            return command;
        }
        let mut command = Command::new(this_program());
        let limits = serde_json::to_string(&self).expect("two numbers can be written");
        command.arg0(NAME).arg(limits).args(exec);
        command
    }

    /// Whether a signal says that the processor time was used up.
    pub(super) fn is_over(self, signal: i32) -> bool {
        self.cpu_seconds_max.is_some() && signal == Signal::SIGXCPU as i32
    }

    fn set(self) -> nix::Result<()> {
        if let Some(bytes) = self.memory_max {
            lower(Resource::RLIMIT_AS, bytes..=bytes)?;
        }
        if let Some(seconds) = self.cpu_seconds_max {
            // SIGXCPU, and SIGKILL a second later for who ignores it.
            lower(Resource::RLIMIT_CPU, seconds..=seconds.saturating_add(1))?;
        }
        Ok(())
    }
}

/// Sets a soft and a hard limit, never above the hard one that is there already.
fn lower(resource: Resource, limits: RangeInclusive<u64>) -> nix::Result<()> {
    let (_, hardest) = getrlimit(resource)?;
    setrlimit(resource, (*limits.start()).min(hardest), (*limits.end()).min(hardest))
}

/// This program, even if its file has been replaced by another version meanwhile.
fn this_program() -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::from("/proc/self/exe");
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("taskyard-worker"))
}

/// If this process was started to become another program: becomes it. Returns where that is not so,
/// or with an exit code if it cannot.
pub(crate) fn become_program() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    if args.next()? != NAME {
        return None;
    }
    let limits = args.next().and_then(|limits| limits.into_string().ok()).unwrap_or_default();
    let Ok(limits) = serde_json::from_str::<Limits>(&limits) else {
        return Some(cannot("its limits cannot be read"));
    };
    let Some(program) = args.next() else { return Some(cannot("no program is named")) };
    if let Err(error) = limits.set() {
        return Some(cannot(&format!("its limits cannot be set: {error}")));
    }
    let error = std::process::Command::new(&program).args(args).exec();
    Some(cannot(&format!("{} cannot be run: {error}", program.display())))
}

#[expect(clippy::print_stderr, reason = "the error's text of the task")]
fn cannot(why: &str) -> ExitCode {
    eprintln!("{why}");
    CANNOT_RUN.into()
}
