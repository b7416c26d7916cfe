use crate::output::Tone;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Span;
use std::borrow::Cow;

/// How tones look; without colours, by weight alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Theme {
    pub(crate) has_colours: bool,
}

impl Theme {
    pub(super) fn style(self, tone: Tone) -> Style {
        let colour = match tone {
            Tone::Head => return Style::new().add_modifier(Modifier::BOLD),
            Tone::Faint => return Style::new().add_modifier(Modifier::DIM),
            Tone::Good => Color::Green,
            Tone::Busy => Color::Cyan,
            Tone::Odd => Color::Yellow,
            Tone::Bad => Color::Red,
            Tone::Plain => return Style::new(),
        };
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    pub(super) fn span<'a>(self, tone: Tone, text: impl Into<Cow<'a, str>>) -> Span<'a> {
        Span::styled(text, self.style(tone))
    }

    /// The tab that is shown stands out, whatever the colours.
    pub(super) fn tab(self, is_shown: bool) -> Style {
        if is_shown { self.selection() } else { self.style(Tone::Faint) }
    }

    pub(super) fn selection(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
