use super::{Theme, grid};
use crate::output::Tone;
use crate::top::model::Model;
use crate::workers;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

pub(super) fn render(model: &Model, theme: Theme, frame: &mut Frame, area: Rect) {
    if model.workers.rows().is_empty() {
        let text = Line::from(theme.span(Tone::Faint, workers::NONE));
        return frame.render_widget(text, area);
    }
    let mut table = workers::table();
    model.workers.rows().iter().for_each(|worker| table.row(workers::row(worker, model.now)));
    grid::render(&table, model.workers.at(), theme, frame, area);
}
