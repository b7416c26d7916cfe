use super::{Theme, grid};
use crate::output::Tone;
use crate::table::{Cell, Table};
use crate::top::model::Model;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

/// A queue that is merely slow to answer is said to be empty: RabbitMQ's answers are no proof.
const APPROXIMATE: &str = "What waits in RabbitMQ, about: a queue that is slow to answer counts as \
                           empty, and what is delivered and not acked is not counted.";

pub(super) fn render(model: &Model, theme: Theme, frame: &mut Frame, area: Rect) {
    let rows = [Constraint::Length(2), Constraint::Min(0)];
    let [note, body] = Layout::vertical(rows).areas(area);
    let queues = match &model.queues {
        None => return,
        Some(Err(why)) => {
            return frame.render_widget(Line::from(theme.span(Tone::Bad, why.as_str())), note);
        }
        Some(Ok(queues)) => queues,
    };
    frame.render_widget(Line::from(theme.span(Tone::Faint, APPROXIMATE)), note);
    let mut table = Table::new(&["QUEUE", "ABOUT", "HOLDS"]);
    for queue in queues {
        let messages = match queue.messages {
            None => Cell::toned(Tone::Faint, "not there"),
            Some(0) => Cell::toned(Tone::Faint, "0"),
            Some(n) => Cell::toned(Tone::Head, n.to_string()),
        };
        let holds = Cell::toned(Tone::Faint, queue.holds);
        table.row(vec![queue.name.as_str().into(), messages, holds]);
    }
    grid::render(&table, None, theme, frame, body);
}
