use crate::output::Tone;

/// Rows under a head, columns aligned.
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// One place of a table.
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn tone(&self) -> Tone {
        self.tone
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
}

impl Table {
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn head(&self) -> &[&'static str] {
        &self.head
    }

    pub(crate) fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    /// How wide each column is, in characters.
    pub(crate) fn widths(&self) -> Vec<usize> {
        let widths = (0..self.head.len()).map(|column| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| width(&cell.text)).max().unwrap_or(0);
            widest.max(width(self.head[column]))
        });
        widths.collect()
    }

    /// The table as text, ending with a line break.
    pub(crate) fn render(&self, is_coloured: bool) -> String {
        let widths = self.widths();
        let head: Vec<Cell> = self.head.iter().map(|&h| Cell::toned(Tone::Head, h)).collect();
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            let mut gap = 0;
            for (cell, &column) in row.iter().zip(&widths) {
                if !cell.text.is_empty() {
                    line.push_str(&" ".repeat(gap));
                    line.push_str(&cell.tone.paint(&cell.text, is_coloured));
                    gap = 0;
                }
                gap += column - width(&cell.text) + 2;
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// The beginning of a text in one line, with `…` where something is left out.
pub(crate) fn brief(text: &str, chars_max: usize) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if let Some((at, _)) = line.char_indices().nth(chars_max) {
        let last = line[..at].chars().next_back().map_or(0, char::len_utf8);
        line.truncate(at - last);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_where_their_text_ends() {
        let mut table = Table::new(&["ID", "STATE", "ERROR"]);
        table.row(vec!["a".into(), Cell::toned(Tone::Good, "succeeded"), "".into()]);
        table.row(vec!["größer".into(), "".into(), "x".into()]);
        let expected = "ID      STATE      ERROR\na       succeeded\ngrößer             x\n";
        assert_eq!(table.render(false), expected);
        assert!(table.render(true).contains("\x1b[32msucceeded\x1b[0m"));
    }

    #[test]
    fn long_texts_are_cut_and_kept_in_one_line() {
        assert_eq!(brief("short", 10), "short");
        assert_eq!(brief("two\nlines", 20), "two lines");
        assert_eq!(brief("äöüäöü", 4), "äöü…");
    }
}
