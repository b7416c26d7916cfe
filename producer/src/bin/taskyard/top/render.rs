mod grid;
mod lanes;
mod overview;
mod recent;
mod task;
mod theme;
mod workers;

use super::model::{Model, Screen};
use crate::output::Tone;
use crate::when;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
pub(crate) use theme::Theme;

/// Draws all that the model says; at any size, where there is no room for less and less of it.
pub(crate) fn render(model: &Model, theme: Theme, frame: &mut Frame) {
    let rows = [Constraint::Length(2), Constraint::Min(0), Constraint::Length(1)];
    let [head, body, foot] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(header(model, theme, head), head);
    match model.screen {
        Screen::Overview => overview::render(model, theme, frame, body),
        Screen::Workers => workers::render(model, theme, frame, body),
        Screen::Lanes => lanes::render(model, theme, frame, body),
        Screen::Recent => recent::render(model, theme, frame, body),
        Screen::Task => task::render(model, theme, frame, body),
    }
    frame.render_widget(keys(model, theme), foot);
}

/// The screens there are, the time, and what is wrong.
fn header<'a>(model: &'a Model, theme: Theme, area: Rect) -> Line<'a> {
    let shown = if model.screen == Screen::Task { Screen::Recent } else { model.screen };
    let mut spans = vec![theme.span(Tone::Head, "taskyard "), Span::raw(" ")];
    for (number, tab) in (1..).zip(Screen::TABS) {
        let text = format!(" {number} {} ", tab.name());
        spans.push(Span::styled(text, theme.tab(tab == shown)));
        spans.push(Span::raw(" "));
    }
    match &model.trouble {
        Some(why) => spans.push(theme.span(Tone::Bad, why.as_str())),
        None if model.now.as_ms() > 0 => {
            // At the right, where there is room.
            let used: usize = spans.iter().map(Span::width).sum();
            let time = when::utc(model.now);
            let time = time.split('.').next().unwrap_or_default().to_owned() + "Z";
            let gap = usize::from(area.width).saturating_sub(used + time.len());
            spans.push(Span::raw(" ".repeat(gap)));
            spans.push(theme.span(Tone::Faint, time));
        }
        None => spans.push(theme.span(Tone::Faint, "asking …")),
    }
    Line::from(spans)
}

/// The keys that mean something now.
fn keys(model: &Model, theme: Theme) -> Line<'static> {
    let keys: &[(&str, &str)] = match model.screen {
        Screen::Recent if model.recent.filter.is_open() => {
            &[("enter", "filter"), ("esc", "leave it"), ("ctrl-c", "quit")]
        }
        Screen::Overview => &[("tab", "next"), ("↑↓", "pool"), ("q", "quit")],
        Screen::Workers => &[("tab", "next"), ("↑↓", "worker"), ("q", "quit")],
        Screen::Lanes => &[("tab", "next"), ("q", "quit")],
        Screen::Recent => &[
            ("tab", "next"),
            ("←→", "state"),
            ("↑↓", "task"),
            ("enter", "open"),
            ("/", "filter by kind"),
            ("r", "look again"),
            ("q", "quit"),
        ],
        Screen::Task => &[("esc", "back"), ("↑↓", "scroll"), ("tab", "next"), ("q", "quit")],
    };
    let spans = keys.iter().flat_map(|(key, what)| {
        [theme.span(Tone::Head, *key), theme.span(Tone::Faint, format!(" {what}   "))]
    });
    Line::from(spans.collect::<Vec<_>>())
}
