//! What tasks log: written off the hot path, as far as Redis keeps up.

use crate::metrics::Metrics;
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use taskyard_common::store::{LogLines, LogWriter, StoreError};
use taskyard_common::wire::{Report, log_lines};
use taskyard_model::{TaskId, Timestamp, WorkerId};
use taskyard_scheduler::Note;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

/// Bytes that may wait for Redis: what half a minute of its absence costs in memory. Beyond it reports
/// are dropped and counted.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a report takes besides its text, roughly.
const REPORT_BYTES: usize = 256;
/// Of one report at most so much is read, from its end; a worker of ours never sends more.
const TEXT_BYTES_MAX: usize = 128 * 1024;
/// Lines of one report at most, the last ones: of a whole task no more are kept.
const LINES_MAX: usize = 1_000;
/// What a line costs Redis besides its text: as much as 200 bytes more of it. Measured: 14 us, and 30 us
/// where the text has 4,000 bytes.
const LINE_BYTES: usize = 200;
/// Bytes in one call, of which one at a time is under way: between them Redis does what is urgent.
const CALL_BYTES: usize = 64 * 1024;
/// Bytes a second: Redis needs at most a seventh of its time for it, the rest is for states.
const BYTES_A_SECOND: u32 = 2 * 1024 * 1024;
/// Tasks with a log whose end is waited for. A log that is forgotten here is kept for 7 days after its
/// last line, whatever becomes of its task.
const OPEN_MAX: usize = 100_000;

/// Takes lines from the engine, which never waits for them.
pub(crate) struct Logs {
    to_write: mpsc::UnboundedSender<Entry>,
    /// Bytes that were handed over and are not written.
    waiting: Arc<AtomicUsize>,
    /// Tasks that have a log and, as far as this process knows, have not ended.
    open: HashSet<TaskId>,
    metrics: Arc<Metrics>,
}

/// Lines of one report as they came; without text, the end of a task.
struct Entry {
    id: TaskId,
    attempt: u32,
    worker: Option<WorkerId>,
    text: Bytes,
    logged_at_ms: Vec<u64>,
    seen_at: Timestamp,
}

impl Logs {
    pub(crate) fn new(writer: LogWriter, metrics: Arc<Metrics>) -> Self {
        let (to_write, entries) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        tokio::spawn(write(writer, entries, waiting.clone(), metrics.clone()));
        Self { to_write, waiting, open: HashSet::new(), metrics }
    }

    /// Takes the lines of a report, if there is room.
    pub(crate) fn take(&mut self, report: &Report, now: Timestamp) {
        let text = tail(&report.body);
        let entry = Entry {
            id: report.id.clone(),
            attempt: report.attempt,
            worker: report.worker.clone(),
            // A copy: the text alone is kept, not the message that it came in.
            text: Bytes::copy_from_slice(text),
            logged_at_ms: match text.len() == report.body.len() {
                true => report.logged_at_ms.clone(),
                false => Vec::new(),
            },
            seen_at: now,
        };
        if !self.hand_over(entry) {
            return self.metrics.log_reports_dropped(1);
        }
        if self.open.len() >= OPEN_MAX {
            self.open.clear();
        }
        self.open.insert(report.id.clone());
    }

    /// The log of a task that has ended is kept as long as its record.
    pub(crate) fn note(&mut self, note: &Note) {
        if let Note::Finished { id, .. } = note
            && !self.open.is_empty()
            && self.open.remove(id)
        {
            self.hand_over(Entry {
                id: id.clone(),
                attempt: 0,
                worker: None,
                text: Bytes::new(),
                logged_at_ms: Vec::new(),
                seen_at: Timestamp::default(),
            });
        }
    }

    /// Whether there was room.
    fn hand_over(&self, entry: Entry) -> bool {
        let bytes = entry.bytes();
        if self.waiting.load(Ordering::Relaxed) + bytes > WAITING_BYTES_MAX {
            return false;
        }
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        // Its task ends only with this process.
        let _ = self.to_write.send(entry);
        true
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        REPORT_BYTES + self.text.len() + self.logged_at_ms.len() * size_of::<u64>()
    }

    fn read(self) -> LogLines {
        let text = String::from_utf8_lossy(&self.text);
        let count = log_lines(&text).count();
        let passed_over = count.saturating_sub(LINES_MAX);
        let lines = log_lines(&text).enumerate().skip(passed_over).map(|(n, line)| {
            let at = self.logged_at_ms.get(n).copied().map(Timestamp::from_ms);
            (at.unwrap_or(self.seen_at), line.into_owned())
        });
        let lines = lines.collect();
        LogLines { id: self.id, attempt: self.attempt, worker: self.worker, lines }
    }
}

/// The end of a text that is too long, from a line's beginning where there is one.
fn tail(text: &[u8]) -> &[u8] {
    let Some(surplus) = text.len().checked_sub(TEXT_BYTES_MAX).filter(|&n| n > 0) else {
        return text;
    };
    let kept = &text[surplus..];
    let line_at = kept.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    &kept[line_at..]
}

/// Writes what comes until the engine is gone.
async fn write(
    writer: LogWriter,
    mut entries: mpsc::UnboundedReceiver<Entry>,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
) {
    while let Some(first) = entries.recv().await {
        let begun = Instant::now();
        let (mut held, mut cost) = (0, 0);
        let mut logs = Vec::new();
        let mut next = Some(first);
        while let Some(entry) = next {
            held += entry.bytes();
            let lines = entry.read();
            cost += cost_of(&lines);
            logs.push(lines);
            next = if cost < CALL_BYTES { entries.try_recv().ok() } else { None };
        }
        let written = until_sent(&writer, &logs).await;
        waiting.fetch_sub(held, Ordering::Relaxed);
        if let Err(error) = written {
            debug!(%error, reports = logs.len(), "lines of logs could not be written");
            metrics.log_reports_dropped(logs.len() as u64);
        }
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        sleep_until(begun + Duration::from_secs(1).saturating_mul(cost) / BYTES_A_SECOND).await;
    }
}

/// What lines cost Redis, in bytes of text.
fn cost_of(log: &LogLines) -> usize {
    LINE_BYTES + log.lines.iter().map(|(_, text)| LINE_BYTES + text.len()).sum::<usize>()
}

/// Waits for a Redis that is away: [`LogWriter::write`] itself does between two tries. What may have
/// been written is not repeated.
async fn until_sent(writer: &LogWriter, logs: &[LogLines]) -> Result<(), StoreError> {
    loop {
        match writer.write(logs).await {
            Err(StoreError::Unreachable(_)) => {}
            sent => return sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &[u8], logged_at_ms: Vec<u64>) -> Entry {
        Entry {
            id: "a".parse().unwrap(),
            attempt: 1,
            worker: None,
            text: Bytes::copy_from_slice(text),
            logged_at_ms,
            seen_at: Timestamp::from_ms(9),
        }
    }

    #[test]
    fn lines_have_their_own_times_or_that_of_their_arrival() {
        let lines = entry(b"one\ntwo\nthr\xff\n", vec![1, 2]).read().lines;
        let at = Timestamp::from_ms;
        let expected = [(at(1), "one"), (at(2), "two"), (at(9), "thr\u{fffd}")];
        assert_eq!(lines, expected.map(|(at, text)| (at, text.to_owned())));
    }

    #[test]
    fn of_many_lines_the_last_are_kept() {
        let text: String = (0..5_000).map(|n| format!("{n}\n")).collect();
        let lines = entry(text.as_bytes(), (0..5_000).collect()).read().lines;
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(lines[0], (Timestamp::from_ms(4_000), "4000".to_owned()));
    }

    #[test]
    fn of_a_long_text_the_last_whole_lines_are_kept() {
        assert_eq!(tail(b"short"), b"short");
        let long = vec![b'x'; TEXT_BYTES_MAX + 1];
        assert_eq!(tail(&long).len(), TEXT_BYTES_MAX, "a single line");
        let text = [&long[..], b"\nlast\nlines"].concat();
        assert_eq!(tail(&text), b"last\nlines");
    }
}
