use super::{Theme, grid};
use crate::output::Tone;
use crate::task;
use crate::top::model::{Filter, Model, Recent};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use taskyard_model::State;

pub(super) fn render(model: &Model, theme: Theme, frame: &mut Frame, area: Rect) {
    let rows = [Constraint::Length(1), Constraint::Length(2), Constraint::Min(0)];
    let [states, about, body] = Layout::vertical(rows).areas(area);
    let recent = &model.recent;
    frame.render_widget(tabs(recent.state, theme), states);
    frame.render_widget(line_about(recent, theme), about);
    let mut table = task::table();
    recent.tasks.rows().iter().for_each(|task| table.row(task::row(task, model.now)));
    grid::render(&table, recent.tasks.at(), theme, frame, body);
}

fn tabs(shown: State, theme: Theme) -> Line<'static> {
    let spans = State::ALL.iter().flat_map(|&state| {
        let style = match state == shown {
            true => theme.selection(),
            false => theme.style(task::tone(Some(state))),
        };
        [Span::styled(state.as_str(), style), Span::raw(" ")]
    });
    Line::from(spans.collect::<Vec<_>>())
}

/// Which tasks these are; or the filter that is being typed.
fn line_about(recent: &Recent, theme: Theme) -> Line<'_> {
    let Filter { kind, typed, mistake } = &recent.filter;
    if let Some(typed) = typed {
        let mut spans = vec![theme.span(Tone::Head, "kind: "), Span::raw(format!("{typed}▏"))];
        let help = "  a kind or a pattern: image.*, image.# (empty: all)";
        spans.push(match mistake {
            Some(mistake) => theme.span(Tone::Bad, format!("  {mistake}")),
            None => theme.span(Tone::Faint, help),
        });
        return Line::from(spans);
    }
    let which = match (recent.state.is_final(), recent.is_fresh) {
        (_, false) => "looking …",
        (true, true) => "of the latest 200",
        (false, true) => "some of them, looked for once: r looks again",
    };
    // Again here, since the tabs may be cut.
    let state = theme.span(task::tone(Some(recent.state)), recent.state.as_str());
    let mut spans = vec![state, theme.span(Tone::Faint, format!(": {which}"))];
    if let Some(kind) = kind {
        spans.push(theme.span(Tone::Faint, ", of the kind "));
        spans.push(theme.span(Tone::Head, kind.as_str()));
        spans.push(theme.span(Tone::Faint, " (esc: all)"));
    }
    Line::from(spans)
}
