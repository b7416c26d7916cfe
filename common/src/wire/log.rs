//! Lines of a task's log: any text, one line each, of bounded length.

use std::borrow::Cow;

/// Longest line in bytes, the mark of a cut one included: a page of a terminal. What is longer is
/// data, and belongs into a result.
pub const LINE_BYTES_MAX: usize = 4 * 1024;
/// Room for the mark of a cut line.
const MARK_BYTES: usize = 48;

/// The lines of a text, each at most [`LINE_BYTES_MAX`] long: the rest is cut off with a mark that
/// says how much. A line that was cut before is not cut again.
pub fn log_lines(text: &str) -> impl DoubleEndedIterator<Item = Cow<'_, str>> {
    text.lines().map(cut)
}

fn cut(line: &str) -> Cow<'_, str> {
    if line.len() <= LINE_BYTES_MAX {
        return Cow::Borrowed(line);
    }
    let mut end = LINE_BYTES_MAX - MARK_BYTES;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}… ({} bytes more)", &line[..end], line.len() - end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Cow<'_, str>> {
        log_lines(text).collect()
    }

    #[test]
    fn a_text_is_split_at_its_line_breaks() {
        assert_eq!(lines("one\r\n\ntwo\n"), ["one", "", "two"]);
        assert_eq!(lines(""), [""; 0]);
    }

    #[test]
    fn a_long_line_is_cut_once_at_a_character() {
        let fits = "x".repeat(LINE_BYTES_MAX);
        assert_eq!(lines(&fits), [fits.as_str()]);
        for long in ["x".repeat(LINE_BYTES_MAX + 1), "ü".repeat(10_000_000)] {
            let cut = lines(&long).remove(0);
            assert!(cut.len() <= LINE_BYTES_MAX, "{}", cut.len());
            let (kept, mark) = cut.split_once('…').unwrap();
            let bytes = long.len() - kept.len();
            assert_eq!(mark, format!(" ({bytes} bytes more)"));
            assert!(long.starts_with(kept));
            assert_eq!(lines(&cut), [cut.as_ref()]);
        }
    }
}
