use super::Theme;
use crate::output::Tone;
use crate::table::{self, Table};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Span;
use ratatui::widgets::{self, Row, TableState};

/// Columns between two columns of a table.
const SPACING: u16 = 2;

/// Draws a table as the other commands print it, with one of its rows selected.
///
/// Columns are as wide as what is in them, so that they stay where they are while one scrolls; those that
/// have no room are cut at the right.
pub(super) fn render(
    table: &Table,
    selected: Option<usize>,
    theme: Theme,
    frame: &mut Frame,
    area: Rect,
) {
    let widths = fitting(table.widths(), area.width);
    let columns = widths.len();
    let cell = |cell: &table::Cell| {
        widgets::Cell::from(Span::styled(cell.text().to_owned(), theme.style(cell.tone())))
    };
    let rows = table.rows().iter().map(|row| Row::new(row.iter().take(columns).map(cell)));
    let head = Row::new(table.head().iter().take(columns).map(|&name| Span::raw(name)));
    let drawn = widgets::Table::new(rows, widths)
        .header(head.style(theme.style(Tone::Head)))
        .column_spacing(SPACING)
        .row_highlight_style(theme.selection());
    let mut state = TableState::new().with_selected(selected);
    frame.render_stateful_widget(drawn, area, &mut state);
}

/// As many columns as have room, the last of them perhaps less than it wants.
fn fitting(wanted: Vec<usize>, room: u16) -> Vec<u16> {
    let mut room = room;
    let mut widths = Vec::new();
    for width in wanted {
        if room == 0 {
            break;
        }
        let width = u16::try_from(width).unwrap_or(u16::MAX).min(room);
        room = room.saturating_sub(width.saturating_add(SPACING));
        widths.push(width);
    }
    widths
}
