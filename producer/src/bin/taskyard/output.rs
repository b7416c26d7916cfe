use crate::exit::Failure;
use crate::table::Table;
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

/// The only way to the terminal: what was asked for goes to stdout, everything else to stderr.
///
/// Whoever reads stdout may leave at any time (`taskyard ls | head -1`): the rest is then dropped
/// without a word, and the work goes on.
pub(crate) struct Output {
    stdout: RefCell<BufWriter<Stdout>>,
    is_closed: Cell<bool>,
    has_lost: Cell<bool>,
    is_json: bool,
    is_terminal: bool,
    colours: Colours,
}

/// Whether to colour, on each of the two streams.
#[derive(Clone, Copy)]
struct Colours {
    stdout: bool,
    stderr: bool,
}

/// What a piece of text is, for those who see colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Head,
    Faint,
    Good,
    Busy,
    Odd,
    Bad,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Head => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Busy => "36",
            Tone::Odd => "33",
            Tone::Bad => "31",
        }
    }

    /// The text in this tone.
    pub(crate) fn paint(self, text: &str, is_coloured: bool) -> String {
        match is_coloured && self != Tone::Plain && !text.is_empty() {
            true => format!("\x1b[{}m{text}\x1b[0m", self.code()),
            false => text.to_owned(),
        }
    }
}

impl Output {
    pub(crate) fn new(is_json: bool) -> Self {
        let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let is_terminal = io::stdout().is_terminal();
        Self {
            stdout: RefCell::new(BufWriter::new(io::stdout())),
            is_closed: Cell::new(false),
            has_lost: Cell::new(false),
            is_json,
            is_terminal,
            colours: Colours {
                stdout: is_wanted && is_terminal,
                stderr: is_wanted && io::stderr().is_terminal(),
            },
        }
    }

    /// Whether a program reads this, not a person.
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// One JSON object in a line.
    pub(crate) fn json(&self, value: &impl Serialize) {
        let mut line = serde_json::to_vec(value).expect("what is printed is plain data");
        line.push(b'\n');
        self.bytes(&line);
    }

    /// A line of text.
    pub(crate) fn line(&self, text: &str) {
        self.bytes(format!("{text}\n").as_bytes());
    }

    /// A text in a tone, for [`line`](Self::line).
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        tone.paint(text, self.colours.stdout)
    }

    /// A table.
    pub(crate) fn table(&self, table: &Table) {
        self.bytes(table.render(self.colours.stdout).as_bytes());
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        if self.is_closed.get() {
            return;
        }
        let written = self.stdout.borrow_mut().write_all(bytes);
        self.note_end(written);
        if self.is_terminal {
            self.flush();
        }
    }

    /// Writes out what was kept back so far.
    pub(crate) fn flush(&self) {
        if !self.is_closed.get() {
            let written = self.stdout.borrow_mut().flush();
            self.note_end(written);
        }
    }

    /// Whether a person is likely to see bytes that are no text.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Whether colours are wanted on stdout.
    pub(crate) fn has_colours(&self) -> bool {
        self.colours.stdout
    }

    /// Whether something could not be written although somebody wanted it (a full disk).
    pub(crate) fn has_lost(&self) -> bool {
        self.has_lost.get()
    }

    fn note_end(&self, written: io::Result<()>) {
        let Err(error) = written else { return };
        if !self.is_closed.replace(true) && error.kind() != io::ErrorKind::BrokenPipe {
            self.has_lost.set(true);
            self.error(&format!("stdout cannot be written to: {error}"), None);
        }
    }

    /// A line for people besides what was asked for.
    pub(crate) fn note(&self, text: &str) {
        // Without a stderr there is nobody to tell.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Why something failed.
    pub(crate) fn error(&self, text: &str, hint: Option<&str>) {
        let coloured = self.colours.stderr;
        self.note(&format!("{} {text}", Tone::Bad.paint("error:", coloured)));
        if let Some(hint) = hint {
            self.hint(hint);
        }
    }

    /// What a person may want to do next.
    pub(crate) fn hint(&self, hint: &str) {
        self.note(&format!("{} {hint}", Tone::Head.paint("hint:", self.colours.stderr)));
    }

    /// Why the program ends without having done it.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.error(&failure.what, failure.hint.as_deref());
    }
}
