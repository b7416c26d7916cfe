//! How far the job is: a bar per state on a terminal, a line now and then elsewhere.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// States in the order of a task's life. The first two are ours: not yet known to Redis, and waiting.
const ROWS: [&str; 6] = ["submitting", "waiting", "running", "retrying", "succeeded", "failed"];
/// How often a line is printed where there is no terminal, at most while something moves, and while
/// nothing does.
const LINE_EVERY: Duration = Duration::from_secs(2);
const SAME_LINE_EVERY: Duration = Duration::from_secs(15);

/// Shows counts per state.
#[derive(Debug)]
pub(crate) struct Progress {
    total: usize,
    begun: Instant,
    bars: Option<(MultiProgress, Vec<ProgressBar>, ProgressBar)>,
    last_line: Option<(Instant, String)>,
}

impl Progress {
    /// Begins to show; the clock of the rate starts.
    pub(crate) fn begin(total: usize) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| bars(total));
        Self { total, begun: Instant::now(), bars, last_line: None }
    }

    /// Shows these counts, keys as [`row`] gives them.
    pub(crate) fn show(&mut self, counts: &BTreeMap<&'static str, usize>) {
        let count = |row: &str| counts.get(row).copied().unwrap_or_default();
        let summary = self.summary(count("succeeded") + count("failed"));
        if let Some((_, bars, last)) = &self.bars {
            for (row, bar) in ROWS.iter().zip(bars) {
                bar.set_position(count(row) as u64);
            }
            last.set_message(summary);
        } else {
            let shown = ROWS.iter().filter(|row| count(row) > 0);
            let states: Vec<String> = shown.map(|row| format!("{row} {}", count(row))).collect();
            self.show_line(&summary, states.join(", "));
        }
    }

    fn show_line(&mut self, summary: &str, states: String) {
        let is_due = self.last_line.as_ref().is_none_or(|(at, last)| {
            let pause = if *last == states { SAME_LINE_EVERY } else { LINE_EVERY };
            at.elapsed() >= pause
        });
        if is_due {
            println!("  {summary}: {states}");
            self.last_line = Some((Instant::now(), states));
        }
    }

    /// Ends the display, leaving the last picture; returns how long it took.
    pub(crate) fn end(self) -> Duration {
        if let Some((_, bars, last)) = self.bars {
            for bar in bars.iter().chain([&last]) {
                bar.abandon();
            }
        }
        self.begun.elapsed()
    }

    fn summary(&self, done: usize) -> String {
        let seconds = self.begun.elapsed().as_secs_f64();
        let rate = done as f64 / seconds.max(0.001);
        let left = match done {
            0 => "?".to_owned(),
            done => format!("{:.0}", (self.total - done) as f64 / rate),
        };
        format!("{done} of {} done, {rate:.0}/s, {left} s left", self.total)
    }
}

/// The row that counts a task in this state.
pub(crate) fn row(state: &str) -> &'static str {
    match state {
        "" => "submitting",
        "running" => "running",
        "retrying" => "retrying",
        "succeeded" => "succeeded",
        "failed" | "cancelled" | "expired" | "rejected" => "failed",
        _ => "waiting",
    }
}

fn bars(total: usize) -> (MultiProgress, Vec<ProgressBar>, ProgressBar) {
    let all = MultiProgress::new();
    let style = ProgressStyle::with_template("  {prefix:>10} {bar:40} {pos}")
        .expect("the template is valid");
    let bars = ROWS.map(|row| {
        let bar = all.add(ProgressBar::new(total as u64));
        bar.with_style(style.clone()).with_prefix(row)
    });
    let last = all.add(ProgressBar::no_length());
    last.set_style(ProgressStyle::with_template("  {msg}").expect("the template is valid"));
    (all, bars.to_vec(), last)
}
