mod lines;
mod rows;

use crate::exit::Failure;
use lines::Lines;
use rows::Rows;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use taskyard_model::PAYLOAD_BYTES_MAX;
use tokio::sync::mpsc;

/// Lines read ahead. Each may be large, so not many.
const LINES_AHEAD: usize = 256;
/// The longest line: the largest payload in base64, and what else a line may say.
const LINE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX * 4 / 3 + 1024 * 1024;
/// Bytes asked of the system at once.
const BUFFER_BYTES: usize = 1 << 16;

/// How tasks are written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One in each line.
    Lines,
    /// One in each row, under a header.
    Csv {
        /// What stands between the fields.
        delimiter: u8,
        /// Whether columns named like options are options, or part of the payload like all others.
        has_options: bool,
    },
}

/// A file that is read line by line on a thread of its own, which the end of the process ends.
pub(super) struct Input {
    /// Its lines; an error is the last of them.
    pub(super) lines: mpsc::Receiver<Result<Line, String>>,
    /// Its size, if it has one.
    pub(super) bytes: Option<u64>,
}

/// A line of a file, or a row of a table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1; a row that goes on over several lines has the number of its first.
    pub(super) number: u64,
    /// Without its line break; empty if there is nothing in it but white space. An error is this line's
    /// own and no other's.
    pub(super) text: Result<Vec<u8>, String>,
    /// With its line break.
    pub(super) read_bytes: u64,
}

impl Input {
    pub(super) fn open(path: &Path, format: Format) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self { lines: start(io::stdin(), format), bytes: None });
        }
        let wrong = |error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
        let file = File::open(path).map_err(wrong)?;
        let metadata = file.metadata().map_err(wrong)?;
        let bytes = metadata.is_file().then_some(metadata.len());
        Ok(Self { lines: start(file, format), bytes })
    }
}

/// Begins to read.
fn start(
    input: impl Read + Send + 'static,
    format: Format,
) -> mpsc::Receiver<Result<Line, String>> {
    let (sender, lines) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || match format {
        Format::Lines => pass(Lines::new(BufReader::with_capacity(BUFFER_BYTES, input)), &sender),
        Format::Csv { delimiter, has_options } => {
            pass(Rows::new(input, delimiter, has_options), &sender);
        }
    });
    lines
}

fn pass(
    lines: impl Iterator<Item = Result<Line, String>>,
    sender: &mpsc::Sender<Result<Line, String>>,
) {
    for line in lines {
        // Nobody wants more.
        if sender.blocking_send(line).is_err() {
            return;
        }
    }
}
