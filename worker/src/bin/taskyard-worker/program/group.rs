use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;

/// The process group of a program, with everything that it has started; killed when dropped.
///
/// A group's number is not given to another one while a process is in it, and the program itself is
/// in it until it has been waited for. After that, signals are sent only where its output is still
/// open, which is to say that somebody is left.
#[derive(Debug)]
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// The group of a program that leads its own and was not waited for.
    pub(crate) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    /// Asks all of it to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends all of it.
    pub(crate) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Lets it be: what a program has left behind on purpose, and without a hold on its output, is
    /// none of our business.
    pub(crate) fn leave(&mut self) {
        self.0 = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It may have ended by itself, which is as good.
            let _ = killpg(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
