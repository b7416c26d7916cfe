use super::logs::Logs;
use super::native;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use taskyard_common::amqp::Properties;
use taskyard_common::wire::train::{BYTES_MAX, CARS_MAX, REPORTS};
use taskyard_common::wire::{Report, ReportKind, write_reports};

/// Messages under way that may be small: with two the next report never waits for a whole confirm,
/// and more would only make messages smaller.
const SMALL_MAX: usize = 2;
/// Messages under way if they are full: what carries 64 reports each reaches any rate.
const FULL_MAX: usize = 8;

/// A message of reports to publish.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) properties: Properties,
    pub(crate) body: Bytes,
}

/// Reports on their way to the dispatcher, in order.
///
/// A message takes what is there when there is room for it and never waits to fill. What fails goes
/// out again, in front, until it is confirmed.
///
/// Bounded by the attempts that are held: each has at most its `started`, its progress, its `held`
/// and its end in here. Lines of logs use the room that these leave in a message, or one of their
/// own when nothing else waits, which then is in nobody's way.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<Report>,
    logs: Logs,
    sent: BTreeMap<u64, Vec<Report>>,
    number: u64,
    paused_until: Option<Instant>,
}

/// Size of a report without its body, by estimate: an exact one would have to write it.
const HEAD_BYTES: usize = 256;

impl Outbox {
    pub(super) fn new(logs: Logs) -> Self {
        Self { logs, ..Self::default() }
    }

    pub(crate) fn push(&mut self, report: Report) {
        self.waiting.push_back(report);
    }

    /// The next message to publish, if there is one and room for it.
    pub(crate) fn next_batch(&mut self, now: Instant) -> Option<Batch> {
        self.logs.tick(now);
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paused_until = None;
        let cars = self.cars();
        let is_full = cars < self.waiting.len() || cars == CARS_MAX;
        if cars > 0 && self.under_way() >= if is_full { FULL_MAX } else { SMALL_MAX } {
            return None;
        }
        let mut reports: Vec<Report> = self.waiting.drain(..cars).collect();
        let bytes: usize = reports.iter().map(size).sum();
        let room = BYTES_MAX.saturating_sub(bytes);
        reports.extend(self.logs.take(now, CARS_MAX - cars, room));
        if reports.is_empty() {
            return None;
        }
        self.number += 1;
        let (properties, body) = match &reports[..] {
            [report] if native::is_needed(report) => native::write(report),
            reports => {
                (Properties::default().with_content_type(REPORTS.into()), write_reports(reports))
            }
        };
        self.sent.insert(self.number, reports);
        Some(Batch { number: self.number, properties, body })
    }

    /// Messages under way, without one that carries nothing but lines of logs.
    fn under_way(&self) -> usize {
        let counts = |reports: &&Vec<Report>| reports.iter().any(|report| !is_log(report));
        self.sent.values().filter(counts).count()
    }

    /// How many of the waiting reports fit one message.
    fn cars(&self) -> usize {
        let mut bytes = 0;
        let fits = |report: &&Report| {
            let is_first = bytes == 0;
            bytes += size(report);
            is_first || bytes < BYTES_MAX
        };
        self.waiting.iter().take(CARS_MAX).take_while(fits).count()
    }

    /// A message is confirmed: its reports.
    pub(crate) fn confirmed(&mut self, number: u64) -> Vec<Report> {
        let reports = self.sent.remove(&number).unwrap_or_default();
        if reports.iter().any(is_log) {
            self.logs.confirmed();
        }
        reports
    }

    /// A message was not stored: its reports go out again, after a while.
    pub(crate) fn refused(&mut self, number: u64, again_at: Instant) {
        let reports = self.sent.remove(&number).unwrap_or_default();
        self.take_back(reports);
        self.paused_until = Some(again_at);
    }

    /// The session is lost: what is not confirmed goes out again in the next one.
    pub(crate) fn lost(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        sent.into_values().rev().for_each(|reports| self.take_back(reports));
        self.logs.lost();
        self.paused_until = None;
    }

    fn take_back(&mut self, reports: Vec<Report>) {
        let (logs, others): (Vec<_>, Vec<_>) = reports.into_iter().partition(is_log);
        others.into_iter().rev().for_each(|report| self.waiting.push_front(report));
        if !logs.is_empty() {
            self.logs.returned(logs);
        }
    }

    /// When to look again, where that is not when something else happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.paused_until {
            Some(until) => Some(until).filter(|_| !self.waiting.is_empty() || self.logs.has_some()),
            None => self.logs.deadline(),
        }
    }

    /// Whether all lines of logs are sent; their rate counts no more.
    pub(super) fn end_logs(&mut self, now: Instant) -> bool {
        self.logs.end(now)
    }
}

/// Size of a report in a message, roughly.
fn size(report: &Report) -> usize {
    HEAD_BYTES + report.body.len()
}

fn is_log(report: &Report) -> bool {
    report.kind == ReportKind::Log
}

/// Wait before what the broker refused goes out again: an election of its queue's leader takes about
/// that long.
pub(crate) const REFUSED_WAIT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
