use crate::logbook::{Excerpt, LINE_BYTES, Logbook};
use std::sync::Arc;
use std::time::{Duration, Instant};
use taskyard_common::wire::{Report, ReportKind};
use taskyard_model::WorkerId;
use tracing::warn;

/// Bytes of lines in one message at most: results that share it are not held up.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of lines a second: twice what is kept of a whole task, and a hundredth of what would be felt
/// by a broker.
const BYTES_A_SECOND: u32 = 512 * 1024;

/// Lines on their way to the dispatcher, behind everything else.
///
/// One message under way at a time carries some; until then they wait in the log book, which is
/// bounded. A message that is not stored gives its lines back, so they may arrive twice.
#[derive(Debug, Default)]
pub(super) struct Logs {
    logbook: Arc<Logbook>,
    worker: Option<WorkerId>,
    is_under_way: bool,
    /// What was not stored.
    again: Vec<Report>,
    /// Not before: the rate is used up.
    open_at: Option<Instant>,
    is_ending: bool,
    has_warned: bool,
}

impl Logs {
    pub(super) fn new(logbook: Arc<Logbook>, worker: WorkerId) -> Self {
        Self { logbook, worker: Some(worker), ..Self::default() }
    }

    /// Time passes.
    pub(super) fn tick(&mut self, now: Instant) {
        self.open_at.take_if(|at| *at <= now);
    }

    /// Lines for a message that has room for so many reports and bytes; none while others are under
    /// way.
    pub(super) fn take(&mut self, now: Instant, reports: usize, bytes: usize) -> Vec<Report> {
        if self.is_under_way || self.open_at.is_some() {
            return Vec::new();
        }
        let taken = match self.again.is_empty() {
            true => self.fresh(reports, bytes.min(MESSAGE_BYTES_MAX)),
            // They were counted when they went for the first time.
            false if self.again.len() <= reports && bytes_of(&self.again) <= bytes => {
                std::mem::take(&mut self.again)
            }
            false => return Vec::new(),
        };
        self.is_under_way = !taken.is_empty();
        if self.is_under_way && !self.is_ending {
            self.open_at = Some(now + time_of(&taken));
        }
        taken
    }

    fn fresh(&mut self, reports: usize, bytes: usize) -> Vec<Report> {
        let lost = self.logbook.take_lost();
        if lost > 0 && !std::mem::replace(&mut self.has_warned, true) {
            warn!(lost, "handlers log more than can be kept: lines are dropped; said once");
        }
        let excerpts = self.logbook.take(reports, bytes);
        excerpts.into_iter().map(|excerpt| report(excerpt, self.worker.clone())).collect()
    }

    /// The message is stored.
    pub(super) fn confirmed(&mut self) {
        self.is_under_way = false;
    }

    /// The message was not stored, or nobody knows.
    pub(super) fn returned(&mut self, reports: Vec<Report>) {
        self.is_under_way = false;
        self.again = reports;
    }

    /// There is no session: nothing is asked for until the next.
    pub(super) fn lost(&mut self) {
        self.open_at = None;
    }

    /// When there will be some to take, where that is not when something else happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.open_at.filter(|_| !self.is_under_way && self.has_some())
    }

    /// Whether some wait to be taken.
    pub(super) fn has_some(&self) -> bool {
        !self.again.is_empty() || !self.logbook.is_empty()
    }

    /// The rate counts no more; whether all lines are sent.
    pub(super) fn end(&mut self, now: Instant) -> bool {
        if !std::mem::replace(&mut self.is_ending, true) {
            self.open_at = Some(now);
        }
        !self.is_under_way && !self.has_some()
    }
}

fn report(excerpt: Excerpt, worker: Option<WorkerId>) -> Report {
    let Excerpt { key, lines } = excerpt;
    let mut report = Report::new(ReportKind::Log, key.id, key.attempt, worker);
    report.logged_at_ms = lines.iter().map(|line| line.at.as_ms()).collect();
    let mut text = String::new();
    for line in &lines {
        text.push_str(&line.text);
        text.push('\n');
    }
    report.body = text.into();
    report
}

/// What lines take, on the way and where they are kept.
fn bytes_of(reports: &[Report]) -> usize {
    reports.iter().map(|report| report.body.len() + report.logged_at_ms.len() * LINE_BYTES).sum()
}

/// For how long these use up the rate.
fn time_of(reports: &[Report]) -> Duration {
    let bytes = u32::try_from(bytes_of(reports)).unwrap_or(u32::MAX);
    Duration::from_secs(1).saturating_mul(bytes) / BYTES_A_SECOND
}
