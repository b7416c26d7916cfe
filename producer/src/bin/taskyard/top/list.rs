use super::event::Key;

/// Rows that a page key passes.
const PAGE: usize = 10;

/// Rows of which one is selected.
#[derive(Debug)]
pub(crate) struct List<T> {
    rows: Vec<T>,
    at: usize,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), at: 0 }
    }
}

impl<T> List<T> {
    pub(crate) fn rows(&self) -> &[T] {
        &self.rows
    }

    pub(crate) fn rows_mut(&mut self) -> &mut Vec<T> {
        &mut self.rows
    }

    /// The place of the selected row; `None` if there are no rows.
    pub(crate) fn at(&self) -> Option<usize> {
        (!self.rows.is_empty()).then(|| self.at.min(self.rows.len() - 1))
    }

    pub(crate) fn selected(&self) -> Option<&T> {
        self.at().map(|at| &self.rows[at])
    }

    /// Takes new rows; what was selected stays selected, wherever it is now.
    pub(crate) fn replace(&mut self, rows: Vec<T>, is_same: impl Fn(&T, &T) -> bool) {
        let place = self.selected().and_then(|old| rows.iter().position(|new| is_same(old, new)));
        self.rows = rows;
        self.at = place.or(self.at()).unwrap_or(0);
    }

    /// Selects another row, if the key is one that does.
    pub(crate) fn press(&mut self, key: Key) {
        let last = self.rows.len().saturating_sub(1);
        let at = self.at().unwrap_or(0);
        self.at = match key {
            Key::Up => at.saturating_sub(1),
            Key::Down => at + 1,
            Key::PageUp => at.saturating_sub(PAGE),
            Key::PageDown => at + PAGE,
            Key::First => 0,
            Key::Last => last,
            _ => at,
        }
        .min(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selection_stays_on_its_row_and_within_the_rows() {
        let mut list = List::default();
        list.press(Key::Down);
        assert_eq!(list.selected(), None::<&char>);
        list.replace(vec!['a', 'b', 'c'], |a, b| a == b);
        list.press(Key::Down);
        assert_eq!(list.selected(), Some(&'b'));
        list.replace(vec!['x', 'y', 'a', 'b'], |a, b| a == b);
        assert_eq!((list.selected(), list.at()), (Some(&'b'), Some(3)));
        list.press(Key::PageDown);
        assert_eq!(list.selected(), Some(&'b'));
        list.replace(vec!['x'], |a, b| a == b);
        assert_eq!(list.selected(), Some(&'x'));
        list.press(Key::Last);
        list.press(Key::Up);
        assert_eq!(list.selected(), Some(&'x'));
    }
}
