use super::Theme;
use crate::output::Tone;
use crate::table::brief;
use crate::task;
use crate::top::model::{Model, Record, Shown};
use crate::when;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Wrap};
use taskyard_common::store::TaskView;
use taskyard_model::Timestamp;

/// Characters of a result that are shown.
const PREVIEW: usize = 2_000;

pub(super) fn render(model: &Model, theme: Theme, frame: &mut Frame, area: Rect) {
    let Some(Shown { id, record, scroll }) = &model.task else { return };
    let text = match record {
        Record::Asked => Text::from(theme.span(Tone::Faint, format!("{id}: asking …"))),
        Record::Unknown => {
            Text::from(theme.span(Tone::Bad, format!("{id}: no such task (any more)")))
        }
        Record::Known(view) => Text::from(lines(view, model.now, theme)),
    };
    let text = Paragraph::new(text).wrap(Wrap { trim: false }).scroll((*scroll, 0));
    frame.render_widget(text, area);
}

/// All fields that say something, and the beginning of the result.
fn lines<'a>(view: &'a TaskView, now: Timestamp, theme: Theme) -> Vec<Line<'a>> {
    let state = theme.span(task::tone(view.state()), view.fields.text("state"));
    let mut lines = vec![
        Line::from(vec![theme.span(Tone::Head, view.id.as_str()), Span::raw("  "), state]),
        Line::default(),
    ];
    for (name, value) in view.fields.iter() {
        if value.is_empty() || ["id", "state", "result"].contains(&name) {
            continue;
        }
        let text = match (name.ends_with("_at"), view.fields.instant(name)) {
            (true, Some(at)) => format!("{:<12} {}", when::relative(at, now), when::utc(at)),
            _ => brief(&String::from_utf8_lossy(value), PREVIEW),
        };
        let name = theme.span(Tone::Faint, format!("{name:<16} "));
        lines.push(Line::from(vec![name, Span::raw(text)]));
    }
    lines.extend(result(view, theme));
    lines
}

fn result<'a>(view: &TaskView, theme: Theme) -> Vec<Line<'a>> {
    let result = view.result();
    if result.is_empty() {
        return Vec::new();
    }
    let title = format!("result, {} bytes", result.len());
    let mut lines = vec![Line::default(), Line::from(theme.span(Tone::Faint, title))];
    match std::str::from_utf8(&result) {
        Ok(text) => {
            let beginning: String = text.chars().take(PREVIEW).collect();
            lines.extend(beginning.lines().map(|line| Line::from(brief(line, PREVIEW))));
        }
        Err(_) => lines.push(Line::from("no text; print it with taskyard result")),
    }
    lines
}
