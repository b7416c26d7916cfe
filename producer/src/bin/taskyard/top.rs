mod event;
mod list;
mod model;
mod render;
mod source;
mod terminal;

#[cfg(test)]
mod tests;

use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::when;
use crossterm::event::{Event as TerminalEvent, EventStream};
use event::{Event, Key};
use futures_util::StreamExt;
use model::Model;
use render::Theme;
use source::Source;
use std::io::{self, IsTerminal};
use std::time::Duration;
use taskyard_common::shutdown::Shutdown;
use terminal::FullScreen;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Events that may wait to be drawn.
const EVENTS_MAX: usize = 64;

pub(crate) const AFTER_HELP: &str = "\
Overview: a row for each pool, as `taskyard watch` has it, and how many tasks a second were accepted and
have ended, as pictures. Workers: as `taskyard workers`. Lanes: what waits in RabbitMQ's queues, about.
Recent: tasks in a state, one of which can be opened; / filters by kind. The keys are at the bottom.

It reads Redis once an interval, and asks RabbitMQ only while it shows Lanes. Where there is no terminal,
`taskyard watch` prints lines.";

#[derive(clap::Args)]
pub(crate) struct TopArgs {
    /// How long to wait between two looks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = when::interval)]
    interval: Duration,
}

/// Shows everything on the full screen until somebody leaves.
pub(crate) async fn run(args: &TopArgs, reach: &Reach, output: &Output) -> Result<Exit, Failure> {
    if output.is_json() || !output.is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::usage("taskyard top draws on a terminal, and there is none")
            .hint("`taskyard watch` prints lines, and objects with --json"));
    }
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let source = Source::new(reach, sender)?;
    let theme = Theme { has_colours: output.has_colours() };
    let mut model = Model::default();
    let (wish, wanted) = watch::channel(model.wanted());
    let screen = FullScreen::enter().map_err(|error| broken(&error))?;
    tokio::select! {
        shown = show(screen, &mut model, theme, events, wish) => shown.map_err(|e| broken(&e))?,
        () = source.run(wanted, args.interval) => {}
    }
    Ok(Exit::Done)
}

/// Draws the model, feeds it what happens, and tells what it wants.
async fn show(
    mut screen: FullScreen,
    model: &mut Model,
    theme: Theme,
    mut events: mpsc::Receiver<Event>,
    wish: watch::Sender<model::Wanted>,
) -> io::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut keys = EventStream::new();
    while !model.is_over() {
        screen.draw(|frame| render::render(model, theme, frame))?;
        tokio::select! {
            pressed = keys.next() => match pressed.transpose()? {
                Some(TerminalEvent::Key(key)) => {
                    if let Some(key) = Key::of(key) {
                        model.update(Event::Key(key));
                    }
                }
                // Another size, for one: it is drawn anew in any case.
                Some(_) => {}
                None => return Ok(()),
            },
            event = events.recv() => match event {
                Some(event) => model.update(event),
                None => return Ok(()),
            },
            () = shutdown.drain.cancelled() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
        let wanted = model.wanted();
        wish.send_if_modified(|wish| {
            let is_new = *wish != wanted;
            if is_new {
                *wish = wanted;
            }
            is_new
        });
    }
    Ok(())
}

fn broken(error: &io::Error) -> Failure {
    Failure::new(Exit::NotSucceeded, format!("the terminal cannot be used: {error}"))
}
