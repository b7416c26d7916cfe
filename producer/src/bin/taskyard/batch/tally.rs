use crate::json;
use crate::output::Output;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};
use taskyard_model::TaskId;

/// Redraws a second: more would cost what the eye cannot see.
const REDRAWS_HZ: u8 = 10;

/// What became of a line.
pub(super) enum Fate {
    Accepted,
    /// It will never be accepted as it is.
    Wrong(String),
    /// It was not accepted for a reason of RabbitMQ's.
    Refused(String),
    /// Nobody knows.
    Unknown(String),
}

/// Counts and reports lines, and shows how far they are.
pub(super) struct Tally<'a> {
    output: &'a Output,
    bar: ProgressBar,
    begun: Instant,
    last_line: u64,
    /// The first line that would be worth another try.
    first_open: Option<u64>,
    accepted: u64,
    not_accepted: u64,
    unknown: u64,
}

impl<'a> Tally<'a> {
    /// The bar is drawn only where stderr is a terminal.
    pub(super) fn new(bytes: Option<u64>, output: &'a Output) -> Self {
        let (bar, template) = match bytes {
            Some(bytes) => (
                ProgressBar::new(bytes),
                "{bar:30} {percent:>3}%  {msg}  {elapsed_precise}, {eta} to go",
            ),
            None => (ProgressBar::no_length(), "{spinner}  {msg}  {elapsed_precise}"),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS_HZ));
        bar.set_style(
            ProgressStyle::with_template(template)
                .expect("the template is a constant")
                .progress_chars("━╸ "),
        );
        Self {
            output,
            bar,
            begun: Instant::now(),
            last_line: 0,
            first_open: None,
            accepted: 0,
            not_accepted: 0,
            unknown: 0,
        }
    }

    /// A line was read.
    pub(super) fn read(&mut self, number: u64, bytes: u64) {
        self.last_line = number;
        self.bar.inc(bytes);
    }

    /// The number of the last line that was read.
    pub(super) fn last_line(&self) -> u64 {
        self.last_line
    }

    /// Lines up to this one need no other try: they are accepted, or will never be.
    pub(super) fn done_up_to(&self) -> u64 {
        self.first_open.map_or(self.last_line, |first| first.saturating_sub(1))
    }

    /// A line has its outcome.
    pub(super) fn settled(&mut self, number: u64, id: Option<&TaskId>, fate: &Fate) {
        let (error, is_unknown) = match fate {
            Fate::Accepted => (None, false),
            Fate::Wrong(error) | Fate::Refused(error) => (Some(error.as_str()), false),
            Fate::Unknown(error) => (Some(error.as_str()), true),
        };
        match fate {
            Fate::Accepted => self.accepted += 1,
            Fate::Wrong(_) | Fate::Refused(_) => self.not_accepted += 1,
            Fate::Unknown(_) => self.unknown += 1,
        }
        if matches!(fate, Fate::Refused(_) | Fate::Unknown(_)) {
            self.first_open = Some(self.first_open.map_or(number, |first| first.min(number)));
        }
        if self.output.is_json() {
            let (id, ok) = (id.map(TaskId::as_str), error.is_none());
            self.output.json(&json::Line { line: number, id, ok, error, unknown: is_unknown });
        } else if let Some(error) = error {
            self.bar.suspend(|| self.output.error(&format!("line {number}: {error}"), None));
        }
    }

    /// Shows the counts as they are now.
    pub(super) fn show(&self) {
        if self.bar.is_hidden() {
            return;
        }
        let mut text = format!("{} confirmed", grouped(self.accepted));
        if self.not_accepted > 0 {
            text += &format!(", {} refused", grouped(self.not_accepted));
        }
        if self.unknown > 0 {
            text += &format!(", {} unknown", grouped(self.unknown));
        }
        let rate = rate(self.accepted, self.begun.elapsed());
        self.bar.set_message(format!("{text}, {}/s", grouped(rate)));
    }

    /// Whether every line that had something in it was accepted.
    pub(super) fn is_complete(&self) -> bool {
        self.not_accepted == 0 && self.unknown == 0
    }

    /// Says in the end how it went; `is_read`: whether the file was read to its end.
    pub(super) fn sum_up(&self, is_read: bool) {
        self.bar.finish_and_clear();
        let Self { accepted, not_accepted, unknown, .. } = *self;
        let lines = accepted + not_accepted + unknown;
        let elapsed = self.begun.elapsed();
        if self.output.is_json() {
            let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let (skip, complete) = (self.done_up_to(), is_read);
            let summary =
                json::Summary { lines, accepted, not_accepted, unknown, skip, complete, ms };
            return self.output.json(&json::Done { summary });
        }
        let mut text = format!("{accepted} of {lines} tasks accepted");
        if not_accepted > 0 {
            text += &format!(", {not_accepted} not accepted");
        }
        if unknown > 0 {
            text += &format!(", {unknown} of which nobody knows");
        }
        let (took, rate) = (crate::when::rough(elapsed), rate(accepted, elapsed));
        self.output.line(&format!("{text}, in {took} ({rate}/s)"));
    }
}

/// Tasks a second.
fn rate(tasks: u64, elapsed: Duration) -> u64 {
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    tasks.saturating_mul(1_000) / ms
}

/// A number that can be read at a glance: `1,234,567`.
fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}
