use crate::engine::Key;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use taskyard_common::wire::log_lines;
use taskyard_model::Timestamp;

/// Lines of one attempt that wait at most; Redis keeps no more of a whole task.
const LINES_MAX: usize = 1_000;
/// What the lines of one attempt may take while they wait: some hundred usual lines of a burst.
const PAGE_BYTES_MAX: usize = 128 * 1024;
/// What all lines of this process may take; reached by a hundred attempts that write all the time.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// What a line takes besides its text, roughly; also what it costs those who carry and keep it.
pub(crate) const LINE_BYTES: usize = 100;
/// What an attempt takes besides its lines, roughly.
const ATTEMPT_BYTES: usize = 400;
/// What one attempt gives before it is another's turn.
const TURN_BYTES: usize = 16 * 1024;

/// What handlers log, until a message has room for it.
///
/// Writing never waits for anybody: where there is no room the attempt's own oldest lines give way,
/// and a line says how many. The newest stay because they are nearest to what went wrong.
#[derive(Debug, Default)]
pub(crate) struct Logbook(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    pages: HashMap<Key, Page>,
    /// Attempts that have lines, in the order in which they are asked for them.
    order: VecDeque<Key>,
    bytes: usize,
    /// Lines that were dropped without a trace: there was not even room for a page that says so.
    lost: u64,
    is_closed: bool,
}

/// The lines of one attempt.
#[derive(Debug, Default)]
struct Page {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Lines that gave way, all older than those above, and when the last of them was written.
    dropped: u64,
    dropped_at: Timestamp,
}

/// A line and when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) at: Timestamp,
    pub(crate) text: String,
}

impl Line {
    pub(crate) fn bytes(&self) -> usize {
        LINE_BYTES + self.text.len()
    }
}

/// Some lines of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    pub(crate) key: Key,
    pub(crate) lines: Vec<Line>,
}

impl Logbook {
    /// Writes the lines of a text; whether there were none before, so that somebody has to be told.
    pub(crate) fn write(&self, key: &Key, at: Timestamp, text: &str) -> bool {
        let mut pages = self.pages();
        let was_empty = pages.order.is_empty();
        for line in log_lines(text) {
            pages.write(key, Line { at, text: line.into_owned() });
        }
        was_empty && !pages.order.is_empty()
    }

    /// Takes lines of up to so many attempts and about so many bytes (a line of 4 KiB more at most).
    /// An attempt with many more than others waits for its next turn.
    pub(crate) fn take(&self, attempts: usize, bytes: usize) -> Vec<Excerpt> {
        let mut pages = self.pages();
        let mut left = bytes;
        let mut excerpts = Vec::new();
        while excerpts.len() < attempts
            && left > 0
            && let Some(excerpt) = pages.take(left.min(TURN_BYTES))
        {
            left = left.saturating_sub(excerpt.lines.iter().map(Line::bytes).sum());
            excerpts.push(excerpt);
        }
        excerpts
    }

    /// How many lines were dropped without a trace since this was last asked.
    pub(crate) fn take_lost(&self) -> u64 {
        std::mem::take(&mut self.pages().lost)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pages().order.is_empty()
    }

    /// Takes no more lines: nobody will carry them.
    pub(crate) fn close(&self) {
        self.pages().is_closed = true;
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn write(&mut self, key: &Key, line: Line) {
        if self.is_closed {
            return;
        }
        if !self.pages.contains_key(key) {
            if self.bytes + ATTEMPT_BYTES > BYTES_MAX {
                self.lost += 1;
                return;
            }
            self.bytes += ATTEMPT_BYTES;
            self.pages.insert(key.clone(), Page::default());
            self.order.push_back(key.clone());
        }
        let page = self.pages.get_mut(key).expect("it was inserted if it was missing");
        let others = self.bytes - page.bytes;
        page.push(line, PAGE_BYTES_MAX.min(BYTES_MAX.saturating_sub(others)));
        self.bytes = others + page.bytes;
    }

    /// Lines of the attempt whose turn it is.
    fn take(&mut self, bytes: usize) -> Option<Excerpt> {
        let key = self.order.pop_front()?;
        let page = self.pages.get_mut(&key)?;
        let before = page.bytes;
        let lines = page.take(bytes);
        self.bytes -= before - page.bytes;
        if page.lines.is_empty() {
            self.pages.remove(&key);
            self.bytes -= ATTEMPT_BYTES;
        } else {
            self.order.push_back(key.clone());
        }
        Some(Excerpt { key, lines })
    }
}

impl Page {
    /// Writes a line; the oldest give way where it would take more bytes than this.
    fn push(&mut self, line: Line, bytes_max: usize) {
        self.bytes += line.bytes();
        self.lines.push_back(line);
        while self.lines.len() > LINES_MAX || self.bytes > bytes_max {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes -= oldest.bytes();
            self.dropped += 1;
            self.dropped_at = oldest.at;
        }
    }

    /// The oldest lines, after one that says how many are missing before them.
    fn take(&mut self, bytes: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        if let dropped @ 1.. = std::mem::take(&mut self.dropped) {
            let text = format!(
                "(lines dropped here: {dropped}, written faster than they are carried away)"
            );
            lines.push(Line { at: self.dropped_at, text });
        }
        let mut taken = 0;
        while taken < bytes
            && let Some(line) = self.lines.pop_front()
        {
            taken += line.bytes();
            lines.push(line);
        }
        self.bytes -= taken;
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_000);

    fn key(id: &str) -> Key {
        Key { id: id.parse().unwrap(), attempt: 1 }
    }

    /// All lines, as `id text`.
    fn all(book: &Logbook) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let excerpts = book.take(64, BYTES_MAX);
            if excerpts.is_empty() {
                return all;
            }
            for Excerpt { key, lines } in excerpts {
                all.extend(lines.iter().map(|line| format!("{} {}", key.id, line.text)));
            }
        }
    }

    #[test]
    fn lines_come_out_as_they_were_written() {
        let book = Logbook::default();
        assert!(book.write(&key("a"), NOW, "one\ntwo\n"), "somebody has to be told");
        assert!(!book.write(&key("b"), NOW, "other"), "somebody has been");
        assert!(!book.write(&key("a"), NOW, "three"));
        assert_eq!(all(&book), ["a one", "a two", "a three", "b other"]);
        assert!(book.is_empty());
        assert!(!book.write(&key("a"), NOW, ""), "nothing was written");
        assert!(book.write(&key("a"), NOW, "four"));
    }

    #[test]
    fn the_oldest_lines_give_way_and_are_counted() {
        let book = Logbook::default();
        let at = |n| Timestamp::from_ms(n);
        for n in 0..10_000 {
            book.write(&key("a"), at(n), &format!("{n}"));
        }
        let Excerpt { lines, .. } = book.take(1, 1).remove(0);
        let dropped = 10_000 - LINES_MAX as u64;
        assert!(lines[0].text.starts_with(&format!("(lines dropped here: {dropped},")));
        assert_eq!(lines[0].at, at(dropped - 1));
        assert_eq!((lines[1].text.as_str(), lines.len()), (dropped.to_string().as_str(), 2));
        let rest = all(&book);
        assert_eq!((rest.len(), rest.last().unwrap().as_str()), (LINES_MAX - 1, "a 9999"));
    }

    #[test]
    fn an_attempt_is_bounded_in_bytes() {
        let book = Logbook::default();
        for _ in 0..LINES_MAX {
            book.write(&key("a"), NOW, &"x".repeat(10_000));
        }
        assert!(book.pages().bytes <= PAGE_BYTES_MAX + ATTEMPT_BYTES);
        assert!(all(&book)[0].contains("lines dropped here"));
        assert_eq!(book.pages().bytes, 0);
    }

    #[test]
    fn all_attempts_together_are_bounded_in_bytes() {
        let book = Logbook::default();
        let line = "x".repeat(4_000);
        for n in 0..10_000 {
            book.write(&key(&format!("t{n}")), NOW, &line);
        }
        assert!(book.pages().bytes <= BYTES_MAX);
        let lost = book.take_lost();
        assert!(lost > 0 && book.take_lost() == 0);
        let lines = all(&book);
        assert!(lines.contains(&format!("t0 {line}")));
        assert_eq!(lines.len() as u64 + lost, 10_000);
        let pages = book.pages();
        assert_eq!((pages.bytes, pages.pages.len()), (0, 0));
    }

    #[test]
    fn who_writes_much_waits_for_others() {
        let book = Logbook::default();
        let line = "x".repeat(TURN_BYTES / 4);
        for _ in 0..20 {
            book.write(&key("loud"), NOW, &line);
        }
        book.write(&key("quiet"), NOW, "here");
        let turns = book.take(3, BYTES_MAX);
        let turns: Vec<_> = turns.iter().map(|e| (e.key.id.as_str(), e.lines.len())).collect();
        assert_eq!(turns, [("loud", 4), ("quiet", 1), ("loud", 4)]);
    }

    #[test]
    fn a_closed_book_takes_nothing() {
        let book = Logbook::default();
        book.write(&key("a"), NOW, "before");
        book.close();
        assert!(!book.write(&key("a"), NOW, "after"));
        assert_eq!(all(&book), ["a before"]);
    }
}
