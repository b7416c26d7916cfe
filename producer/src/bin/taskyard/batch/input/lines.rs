use super::{LINE_BYTES_MAX, Line};
use std::io::{BufRead, Read};

/// The lines of a text. After an error there are no more.
pub(super) struct Lines<R> {
    input: R,
    number: u64,
    is_over: bool,
}

impl<R> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, number: 0, is_over: false }
    }
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
                Some(Ok(Line { number: self.number, text: Ok(text), read_bytes: bytes as u64 }))
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
    use std::io::{self, BufReader};

    #[test]
    fn lines_are_numbered_and_empty_ones_have_no_text() {
        let lines: Vec<_> = Lines::new(&b"a\r\n\n  \nlast"[..]).map(Result::unwrap).collect();
        let expect =
            |number, text: &[u8], read_bytes| Line { number, text: Ok(text.into()), read_bytes };
        assert_eq!(
            lines,
            [expect(1, b"a", 3), expect(2, b"", 1), expect(3, b"", 3), expect(4, b"last", 4)]
        );
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let mut lines = Lines::new(BufReader::new(io::repeat(b'x')));
        assert!(lines.next().unwrap().unwrap_err().contains("line 1"));
        assert!(lines.next().is_none());
    }
}
