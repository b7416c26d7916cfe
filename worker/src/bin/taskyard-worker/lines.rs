//! Lines of bounded length from a program that may write anything.

use std::io;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Reads lines.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    bytes_max: usize,
    is_too_long: bool,
}

/// A line that was longer than allowed, and skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(input: R, bytes_max: usize) -> Self {
        Self { input: BufReader::new(input), line: Vec::new(), bytes_max, is_too_long: false }
    }

    /// The next line without its end, or `None` after the last.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Result<Vec<u8>, TooLong>>> {
        loop {
            let chunk = self.input.fill_buf().await?;
            let is_over = chunk.is_empty();
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            self.is_too_long |= self.line.len() + part.len() > self.bytes_max;
            if self.is_too_long {
                self.line = Vec::new();
            } else {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if is_over && self.line.is_empty() && !self.is_too_long {
                return Ok(None);
            }
            if is_over || end.is_some() {
                let line = std::mem::take(&mut self.line);
                let is_too_long = std::mem::take(&mut self.is_too_long);
                return Ok(Some(if is_too_long { Err(TooLong) } else { Ok(line) }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &str, bytes_max: usize) -> Vec<Option<String>> {
        let mut lines = Lines::new(text.as_bytes(), bytes_max);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line.ok().map(|line| String::from_utf8(line).unwrap()));
        }
        all
    }

    #[tokio::test]
    async fn lines_are_told_apart_and_the_last_needs_no_end() {
        let some = |line: &str| Some(line.to_owned());
        assert_eq!(all("a\n\nbc", 9).await, [some("a"), some(""), some("bc")]);
        assert_eq!(all("a\n", 9).await, [some("a")]);
        assert_eq!(all("", 9).await, []);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_and_the_next_is_read() {
        let long = "x".repeat(100_000);
        let text = format!("{long}\nshort\n1234\n{long}");
        assert_eq!(all(&text, 5).await, [None, Some("short".into()), Some("1234".into()), None]);
    }
}
