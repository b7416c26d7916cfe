use super::native;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use taskyard_common::amqp::Properties;
use taskyard_common::wire::train::{BYTES_MAX, CARS_MAX, REPORTS};
use taskyard_common::wire::{Report, write_reports};

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
/// and its end in here.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<Report>,
    sent: BTreeMap<u64, Vec<Report>>,
    number: u64,
    paused_until: Option<Instant>,
}

/// Size of a report without its body, by estimate: an exact one would have to write it.
const HEAD_BYTES: usize = 256;

impl Outbox {
    pub(crate) fn push(&mut self, report: Report) {
        self.waiting.push_back(report);
    }

    /// The next message to publish, if there is one and room for it.
    pub(crate) fn next_batch(&mut self, now: Instant) -> Option<Batch> {
        if self.waiting.is_empty() || self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paused_until = None;
        let cars = self.cars();
        let is_full = cars < self.waiting.len() || cars == CARS_MAX;
        if self.sent.len() >= if is_full { FULL_MAX } else { SMALL_MAX } {
            return None;
        }
        let reports: Vec<Report> = self.waiting.drain(..cars).collect();
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

    /// How many of the waiting reports fit one message.
    fn cars(&self) -> usize {
        let mut bytes = 0;
        let fits = |report: &&Report| {
            let is_first = bytes == 0;
            bytes += HEAD_BYTES + report.body.len();
            is_first || bytes < BYTES_MAX
        };
        self.waiting.iter().take(CARS_MAX).take_while(fits).count()
    }

    /// A message is confirmed: its reports.
    pub(crate) fn confirmed(&mut self, number: u64) -> Vec<Report> {
        self.sent.remove(&number).unwrap_or_default()
    }

    /// A message was not stored: its reports go out again, after a while.
    pub(crate) fn refused(&mut self, number: u64, again_at: Instant) {
        let reports = self.sent.remove(&number).unwrap_or_default();
        reports.into_iter().rev().for_each(|report| self.waiting.push_front(report));
        self.paused_until = Some(again_at);
    }

    /// The session is lost: what is not confirmed goes out again in the next one.
    pub(crate) fn lost(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        for report in sent.into_values().rev().flat_map(|reports| reports.into_iter().rev()) {
            self.waiting.push_front(report);
        }
        self.paused_until = None;
    }

    /// When to look again, where that is not when something else happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.paused_until.filter(|_| !self.waiting.is_empty())
    }
}

/// Wait before what the broker refused goes out again: an election of its queue's leader takes about
/// that long.
pub(crate) const REFUSED_WAIT: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_common::wire::{ReportKind, read_reports};

    fn report(id: usize, body_bytes: usize) -> Report {
        let id = format!("t{id}").parse().unwrap();
        let mut report = Report::new(ReportKind::Succeeded, id, 1, None);
        report.body = vec![0; body_bytes].into();
        report
    }

    fn ids(batch: &Batch) -> Vec<String> {
        let reports = read_reports(&batch.properties, &batch.body).unwrap();
        reports.into_iter().map(|report| report.id.to_string()).collect()
    }

    #[test]
    fn a_message_takes_what_is_there() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        assert!(outbox.next_batch(now).is_none());
        outbox.push(report(1, 1));
        assert_eq!(ids(&outbox.next_batch(now).unwrap()), ["t1"]);
        outbox.push(report(2, 1));
        outbox.push(report(3, 1));
        let second = outbox.next_batch(now).unwrap();
        assert_eq!(ids(&second), ["t2", "t3"]);
        outbox.push(report(4, 1));
        assert!(outbox.next_batch(now).is_none(), "two small ones are under way");
        assert_eq!(outbox.confirmed(second.number).len(), 2);
        assert_eq!(ids(&outbox.next_batch(now).unwrap()), ["t4"]);
    }

    #[test]
    fn messages_are_bounded_in_reports_and_bytes() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        (0..CARS_MAX + 1).for_each(|id| outbox.push(report(id, 1)));
        assert_eq!(ids(&outbox.next_batch(now).unwrap()).len(), CARS_MAX);
        let mut outbox = Outbox::default();
        outbox.push(report(1, 2 * BYTES_MAX));
        outbox.push(report(2, BYTES_MAX / 2));
        outbox.push(report(3, BYTES_MAX / 2));
        let sizes: Vec<_> =
            std::iter::from_fn(|| outbox.next_batch(now)).map(|batch| ids(&batch).len()).collect();
        assert_eq!(sizes, [1, 1]);
    }

    #[test]
    fn what_is_lost_goes_out_again_in_order() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        for id in 1..=2 {
            outbox.push(report(id, 1));
            outbox.next_batch(now).unwrap();
        }
        outbox.push(report(3, 1));
        outbox.lost();
        assert_eq!(ids(&outbox.next_batch(now).unwrap()), ["t1", "t2", "t3"]);
    }

    #[test]
    fn what_is_refused_waits_a_while() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        outbox.push(report(1, 1));
        let batch = outbox.next_batch(now).unwrap();
        outbox.refused(batch.number, now + REFUSED_WAIT);
        assert!(outbox.next_batch(now).is_none());
        assert_eq!(outbox.deadline(), Some(now + REFUSED_WAIT));
        assert_eq!(ids(&outbox.next_batch(now + REFUSED_WAIT).unwrap()), ["t1"]);
    }
}
