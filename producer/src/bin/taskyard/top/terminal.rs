use crossterm::cursor::Show;
use crossterm::execute;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};
use std::io::{self, Stdout};

/// The terminal while it is ours: keys come unechoed, and what was on the screen comes back.
///
/// **Invariant:** whichever way the program ends, short of SIGKILL, the terminal is as it was: when this
/// is dropped, and before the message of a panic, which would be lost with the screen.
pub(super) struct FullScreen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl FullScreen {
    pub(super) fn enter() -> io::Result<Self> {
        before_a_panic_is_said(restore);
        enable_raw_mode()?;
        // From here on dropping it undoes what was done.
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
        let screen = terminal.map(|terminal| Self { terminal }).inspect_err(|_| restore())?;
        // Not the clear of `terminal`: it asks where the cursor is, and not every terminal answers.
        execute!(io::stdout(), EnterAlternateScreen, Clear(ClearType::All))?;
        Ok(screen)
    }

    /// Draws what is new, at whatever size the terminal has by now.
    pub(super) fn draw(&mut self, render: impl FnOnce(&mut Frame)) -> io::Result<()> {
        self.terminal.draw(render).map(drop)
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back. Harmless to repeat.
fn restore() {
    // A terminal that is gone needs no restoring.
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Does this before what is done about panics so far.
fn before_a_panic_is_said(act: fn()) {
    let so_far = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        act();
        so_far(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    static SAID: Mutex<Vec<&str>> = Mutex::new(Vec::new());

    fn note(what: &'static str) {
        // Other tests of this process may panic at the same time.
        if std::thread::current().name() == Some("panics") {
            SAID.lock().unwrap().push(what);
        }
    }

    #[test]
    fn the_terminal_is_given_back_before_a_panic_is_said() {
        let of_the_tests = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| note("said")));
        before_a_panic_is_said(|| note("restored"));
        let thread = std::thread::Builder::new().name("panics".to_owned());
        let ended = thread.spawn(|| panic!("on purpose")).unwrap().join();
        std::panic::set_hook(of_the_tests);
        assert!(ended.is_err());
        assert_eq!(*SAID.lock().unwrap(), ["restored", "said"]);
    }
}
