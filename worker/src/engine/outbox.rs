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
mod tests {
    use super::super::Key;
    use super::*;
    use crate::logbook::Logbook;
    use std::sync::Arc;
    use taskyard_common::wire::read_reports;
    use taskyard_model::Timestamp;

    const MINUTE: Duration = Duration::from_secs(60);

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

    /// An outbox, and the book of its lines.
    fn with_logbook() -> (Outbox, Arc<Logbook>) {
        let logbook = Arc::new(Logbook::default());
        (Outbox::new(Logs::new(Arc::clone(&logbook), "w".parse().unwrap())), logbook)
    }

    fn log(logbook: &Logbook, id: &str, text: &str) {
        let key = Key { id: id.parse().unwrap(), attempt: 1 };
        logbook.write(&key, Timestamp::from_ms(7), text);
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

    #[test]
    fn lines_share_a_message_with_what_is_there() {
        let now = Instant::now();
        let (mut outbox, logbook) = with_logbook();
        log(&logbook, "a", "one\ntwo");
        log(&logbook, "b", "three");
        outbox.push(report(1, 1));
        let batch = outbox.next_batch(now).unwrap();
        let reports = read_reports(&batch.properties, &batch.body).unwrap();
        assert_eq!(ids(&batch), ["t1", "a", "b"]);
        assert_eq!((reports[1].kind, &reports[1].body[..]), (ReportKind::Log, &b"one\ntwo\n"[..]));
        assert_eq!(reports[1].logged_at_ms, [7, 7]);
        assert_eq!(reports[1].worker, Some("w".parse().unwrap()));
    }

    #[test]
    fn lines_are_in_nobodys_way() {
        let now = Instant::now();
        let (mut outbox, logbook) = with_logbook();
        log(&logbook, "a", "alone");
        let lines = outbox.next_batch(now).unwrap();
        for id in 1..=SMALL_MAX {
            log(&logbook, "a", "later");
            outbox.push(report(id, 1));
            assert_eq!(ids(&outbox.next_batch(now).unwrap()).len(), 1, "others are under way");
        }
        outbox.confirmed(lines.number);
        outbox.push(report(3, 1));
        assert!(outbox.next_batch(now + MINUTE).is_none(), "they wait for what is before them");
    }

    #[test]
    fn lines_keep_to_their_rate() {
        let begun = Instant::now();
        let mut now = begun;
        let (mut outbox, logbook) = with_logbook();
        let mut lines = 0;
        while now < begun + MINUTE {
            log(&logbook, "a", &"x\n".repeat(2_000));
            let batch = outbox.next_batch(now).unwrap();
            let reports = read_reports(&batch.properties, &batch.body).unwrap();
            lines += reports.iter().map(|report| report.logged_at_ms.len()).sum::<usize>();
            outbox.confirmed(batch.number);
            assert!(outbox.next_batch(now).is_none());
            now = outbox.deadline().expect("more of it waits");
        }
        // 512 KiB a second, of which each line takes about 100 bytes.
        assert!((290_000..=320_000).contains(&lines), "{lines} lines a minute");
    }

    #[test]
    fn at_the_end_lines_wait_for_no_rate() {
        let now = Instant::now();
        let (mut outbox, logbook) = with_logbook();
        log(&logbook, "a", &"x\n".repeat(1_000));
        let first = outbox.next_batch(now).unwrap();
        outbox.confirmed(first.number);
        assert!(outbox.next_batch(now).is_none());
        assert!(!outbox.end_logs(now));
        assert_eq!(outbox.deadline(), Some(now));
        let second = outbox.next_batch(now).unwrap();
        outbox.confirmed(second.number);
        assert!(outbox.end_logs(now));
    }

    #[test]
    fn lines_that_were_not_stored_go_out_again_behind_the_rest() {
        let now = Instant::now();
        let (mut outbox, logbook) = with_logbook();
        log(&logbook, "a", "one");
        outbox.push(report(1, 1));
        outbox.next_batch(now).unwrap();
        outbox.lost();
        outbox.push(report(2, 1));
        log(&logbook, "a", "two");
        let batch = outbox.next_batch(now + MINUTE).unwrap();
        assert_eq!(ids(&batch), ["t1", "t2", "a"]);
        outbox.confirmed(batch.number);
        let batch = outbox.next_batch(now + 2 * MINUTE).unwrap();
        let reports = read_reports(&batch.properties, &batch.body).unwrap();
        assert_eq!(&reports[0].body[..], b"two\n");
        assert!(!outbox.end_logs(now), "it is not confirmed");
        outbox.confirmed(batch.number);
        assert!(outbox.end_logs(now));
    }
}
