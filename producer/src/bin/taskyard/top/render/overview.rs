use super::{Theme, grid};
use crate::output::Tone;
use crate::top::model::{Model, Pool};
use crate::watch;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::Sparkline;
use std::collections::VecDeque;

/// Rows that the two pictures of rates take.
const PICTURES: u16 = 12;

pub(super) fn render(model: &Model, theme: Theme, frame: &mut Frame, area: Rect) {
    if model.pools.rows().is_empty() {
        let text = match model.now.as_ms() {
            0 => "",
            _ => crate::stats::NOTHING_COUNTED,
        };
        return frame.render_widget(Line::from(theme.span(Tone::Faint, text)), area);
    }
    let rows = [Constraint::Min(2), Constraint::Max(PICTURES)];
    let [above, below] = Layout::vertical(rows).areas(area);
    let mut table = watch::table();
    model.pools.rows().iter().for_each(|pool| table.row(watch::row(&pool.name, &pool.meter)));
    grid::render(&table, model.pools.at(), theme, frame, above);
    if let Some(pool) = model.pools.selected() {
        pictures(pool, theme, frame, below);
    }
}

/// How many came and went in the last minutes.
fn pictures(pool: &Pool, theme: Theme, frame: &mut Frame, area: Rect) {
    let halves = [Constraint::Fill(1), Constraint::Fill(1)];
    let [above, below] = Layout::vertical(halves).areas(area);
    picture("accepted", pool, &pool.accepted, Tone::Busy, theme, frame, above);
    picture("ended", pool, &pool.finished, Tone::Good, theme, frame, below);
}

fn picture(
    what: &str,
    pool: &Pool,
    history: &VecDeque<u64>,
    tone: Tone,
    theme: Theme,
    frame: &mut Frame,
    area: Rect,
) {
    let [title, picture] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    // The newest at the right edge.
    let room = usize::from(picture.width);
    let shown: Vec<u64> =
        history.iter().skip(history.len().saturating_sub(room)).copied().collect();
    let most = shown.iter().copied().max().unwrap_or(0);
    let text = format!("{} {what} a second; the highest here is {most}", pool.name);
    frame.render_widget(Line::from(theme.span(Tone::Faint, text)), title);
    let bars = Sparkline::default().data(&shown).max(most.max(1)).style(theme.style(tone));
    frame.render_widget(bars, picture);
}
