use crate::exit::Failure;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use taskyard_model::PAYLOAD_BYTES_MAX;
use tokio::sync::mpsc;

/// Lines read ahead. Each may be large, so not many.
const LINES_AHEAD: usize = 256;
/// The longest line: the largest payload in base64, and what else a line may say.
const LINE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX * 4 / 3 + 1024 * 1024;

/// A file that is read line by line on a thread of its own, which the end of the process ends.
pub(super) struct Input {
    /// Its lines; an error is the last of them.
    pub(super) lines: mpsc::Receiver<Result<Line, String>>,
    /// Its size, if it has one.
    pub(super) bytes: Option<u64>,
}

/// A line of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// Without its line break; empty if there is nothing in it but white space.
    pub(super) text: Vec<u8>,
    /// With its line break.
    pub(super) read_bytes: u64,
}

impl Input {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self { lines: read(BufReader::new(io::stdin())), bytes: None });
        }
        let wrong = |error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
        let file = File::open(path).map_err(wrong)?;
        let metadata = file.metadata().map_err(wrong)?;
        let bytes = metadata.is_file().then_some(metadata.len());
        Ok(Self { lines: read(BufReader::with_capacity(1 << 16, file)), bytes })
    }
}

fn read(input: impl BufRead + Send + 'static) -> mpsc::Receiver<Result<Line, String>> {
    let (sender, lines) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let lines = Lines { input, number: 0, is_over: false };
        for line in lines {
            // Nobody wants more.
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

struct Lines<R> {
    input: R,
    number: u64,
    is_over: bool,
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Line, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        self.number += 1;
        let mut text = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        match (&mut self.input).take(limit).read_until(b'\n', &mut text) {
            Ok(0) => None,
            Ok(bytes) if bytes as u64 == limit && text.last() != Some(&b'\n') => {
                self.is_over = true;
                Some(Err(format!("line {} is longer than any task may be", self.number)))
            }
            Ok(bytes) => {
                while text.last().is_some_and(|&byte| byte == b'\n' || byte == b'\r') {
                    text.pop();
                }
                if text.iter().all(u8::is_ascii_whitespace) {
                    text.clear();
                }
                Some(Ok(Line { number: self.number, text, read_bytes: bytes as u64 }))
            }
            Err(error) => {
                self.is_over = true;
                Some(Err(format!("line {} cannot be read: {error}", self.number)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_and_empty_ones_have_no_text() {
        let input = &b"a\r\n\n  \nlast"[..];
        let lines: Vec<_> =
            Lines { input, number: 0, is_over: false }.map(Result::unwrap).collect();
        let expect =
            |number, text: &[u8], read_bytes| Line { number, text: text.into(), read_bytes };
        assert_eq!(
            lines,
            [expect(1, b"a", 3), expect(2, b"", 1), expect(3, b"", 3), expect(4, b"last", 4)]
        );
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let input = BufReader::new(io::repeat(b'x'));
        let mut lines = Lines { input, number: 0, is_over: false };
        assert!(lines.next().unwrap().unwrap_err().contains("line 1"));
        assert!(lines.next().is_none());
    }
}
