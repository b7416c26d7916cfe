use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::json::Logged;
use crate::output::{Output, Tone};
use crate::{task, when};
use std::collections::VecDeque;
use std::time::Duration;
use taskyard_common::store::{LogLine, LogPlace, Reader, TaskView};
use taskyard_model::{State, TaskId};

/// How long to wait for lines before the next look at the task. Lines come a little after its end:
/// a log is over when none has come for so long.
const SILENCE: Duration = Duration::from_secs(1);

/// What to show of a task's log.
#[derive(clap::Args)]
pub(crate) struct LogsArgs {
    /// The task
    #[arg(value_name = "ID")]
    id: TaskId,
    /// Show what comes, until the task has ended; then exit by its state
    #[arg(short, long)]
    follow: bool,
    /// Only lines of this attempt
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
    /// Of the lines that are there only the last so many
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
}

/// Prints the log of a task, as it is or as it comes.
pub(crate) async fn run(args: &LogsArgs, reach: &Reach, output: &Output) -> Result<Exit, Failure> {
    let reader = reach.reader()?;
    let log = Log { args, reader: &reader, output };
    let mut view = log.task().await?.ok_or_else(|| task::unknown(&args.id))?;
    let mut place = log.print_what_is_there().await?;
    if !args.follow {
        return Ok(Exit::Done);
    }
    loop {
        output.flush();
        let has_more = log.print_what_comes(&mut place).await?;
        if !has_more && view.state().is_some_and(State::is_final) {
            return Ok(said_end(&view, output));
        }
        let gone =
            || Failure::new(Exit::NoSuchTask, format!("task {} is no longer remembered", args.id));
        view = log.task().await?.ok_or_else(gone)?;
    }
}

struct Log<'a> {
    args: &'a LogsArgs,
    reader: &'a Reader,
    output: &'a Output,
}

impl Log<'_> {
    async fn task(&self) -> Result<Option<TaskView>, Failure> {
        Ok(self.reader.task(&self.args.id).await?)
    }

    /// The lines that are there; the place behind them.
    async fn print_what_is_there(&self) -> Result<LogPlace, Failure> {
        let lines = self.reader.log(&self.args.id, &LogPlace::start(), Duration::ZERO).await?;
        let place = lines.last().map_or_else(LogPlace::start, |line| line.place.clone());
        let mut wanted: VecDeque<&LogLine> =
            lines.iter().filter(|line| self.is_wanted(line)).collect();
        if let Some(most) = self.args.tail {
            wanted.drain(..wanted.len().saturating_sub(most));
        }
        if wanted.is_empty() && !self.args.follow && !self.output.is_json() {
            self.output.note("no lines");
        }
        wanted.into_iter().for_each(|line| self.print(line));
        Ok(place)
    }

    /// Waits a while for lines; whether some came.
    async fn print_what_comes(&self, place: &mut LogPlace) -> Result<bool, Failure> {
        let lines = self.reader.log(&self.args.id, place, SILENCE).await?;
        lines.iter().filter(|line| self.is_wanted(line)).for_each(|line| self.print(line));
        if let Some(last) = lines.last() {
            *place = last.place.clone();
        }
        Ok(!lines.is_empty())
    }

    fn is_wanted(&self, line: &LogLine) -> bool {
        self.args.attempt.is_none_or(|attempt| attempt == line.attempt)
    }

    fn print(&self, line: &LogLine) {
        if self.output.is_json() {
            return self.output.json(&Logged::from(line));
        }
        let whence = format!("{} {} {}", when::utc(line.at), line.attempt, line.worker);
        let whence = self.output.paint(Tone::Faint, &harmless(&whence));
        self.output.line(&format!("{whence} {}", harmless(&line.text)));
    }
}

/// The text without what a terminal would obey: control characters as their pictures.
fn harmless(text: &str) -> String {
    let picture = |c: char| match c {
        '\t' => c,
        '\0'..' ' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(picture).collect()
}

/// Says how the task ended, beside its log.
fn said_end(view: &TaskView, output: &Output) -> Exit {
    let mut text = format!("task {} ended as {}", view.id, view.fields.text("state"));
    if !view.error().is_empty() {
        text += &format!(": {}", harmless(view.error()));
    }
    output.note(&text);
    match view.state() {
        Some(State::Succeeded) => Exit::Done,
        _ => Exit::NotSucceeded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_moves_the_cursor_or_changes_colours() {
        assert_eq!(harmless("a\tb \u{1b}[31mred\r\u{7f}\u{9b} ü"), "a\tb ␛[31mred␍␡\u{fffd} ü");
    }
}
