use crate::output::Output;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::time::{Duration, Instant};
use taskyard_model::TaskId;

/// Redraws a second: more would cost what the eye cannot see.
const REDRAWS_HZ: u8 = 10;

/// What became of a line.
pub(super) enum Fate {
    Accepted,
    NotAccepted(String),
    /// Nobody knows.
    Unknown(String),
}

/// Counts and reports lines, and shows how far they are.
pub(super) struct Tally<'a> {
    output: &'a Output,
    bar: ProgressBar,
    begun: Instant,
    last_line: u64,
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
        let begun = Instant::now();
        Self { output, bar, begun, last_line: 0, accepted: 0, not_accepted: 0, unknown: 0 }
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

    /// A line has its outcome.
    pub(super) fn settled(&mut self, number: u64, id: Option<&TaskId>, fate: &Fate) {
        let id = id.map(TaskId::as_str);
        let (error, is_unknown) = match fate {
            Fate::Accepted => {
                self.accepted += 1;
                if self.output.is_json() {
                    self.output.json(&json!({ "line": number, "id": id, "ok": true }));
                }
                return self.show();
            }
            Fate::NotAccepted(error) => {
                self.not_accepted += 1;
                (error, false)
            }
            Fate::Unknown(error) => {
                self.unknown += 1;
                (error, true)
            }
        };
        match self.output.is_json() {
            true => self.output.json(&json!({
                "line": number, "id": id, "ok": false, "error": error, "unknown": is_unknown,
            })),
            false => {
                self.bar.suspend(|| self.output.error(&format!("line {number}: {error}"), None))
            }
        }
        self.show();
    }

    fn show(&self) {
        if !self.bar.is_hidden() {
            let rate = rate(self.accepted, self.begun.elapsed());
            self.bar.set_message(format!("{} accepted, {rate}/s", self.accepted));
        }
    }

    /// Whether every line that had something in it was accepted.
    pub(super) fn is_complete(&self) -> bool {
        self.not_accepted == 0 && self.unknown == 0
    }

    /// Says in the end how it went.
    pub(super) fn sum_up(&self) {
        self.bar.finish_and_clear();
        let Self { accepted, not_accepted, unknown, .. } = *self;
        let lines = accepted + not_accepted + unknown;
        let elapsed = self.begun.elapsed();
        if self.output.is_json() {
            let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            return self.output.json(&json!({ "summary": {
                "lines": lines, "accepted": accepted, "not_accepted": not_accepted,
                "unknown": unknown, "ms": ms,
            }}));
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
