mod input;
mod sink;
mod tally;

use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::line::Given;
use crate::output::Output;
pub(crate) use input::Format;
use input::{Input, Line};
use sink::Sink;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;
use tally::{Fate, Tally};
use taskyard_common::shutdown::Shutdown;
use taskyard_model::TaskId;
use taskyard_producer::{Settled, SubmitError};
use tokio::sync::mpsc::error::TryRecvError;

/// How often outcomes are looked at while no line comes.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How many tasks are under way at once, and how long each is tried.
pub(crate) struct Flow {
    pub(crate) window: usize,
    pub(crate) patience: Duration,
}

/// Where tasks are read from.
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    pub(crate) format: Format,
    /// Lines to pass over, from the first.
    pub(crate) skip: u64,
}

/// Submits a task for each line of a file.
pub(crate) async fn run(
    source: Source,
    given: Given,
    flow: Flow,
    reach: &Reach,
    output: &Output,
) -> Result<Exit, Failure> {
    let template = given.template();
    template.check()?;
    let input = Input::open(&source.file, source.format)?;
    let producer = reach.producer(flow.patience).await?;
    let sink = match given.fits_bulk() {
        true => Sink::Bulk(Box::new(producer.stream_bulk(template)?)),
        false => Sink::Single(Box::new(producer.stream(flow.window))),
    };
    let shutdown = Shutdown::on_signals()
        .map_err(|error| Failure::new(Exit::Bug, format!("signals cannot be caught: {error}")))?;
    let tally = Tally::new(input.bytes, output);
    let mut batch = Batch {
        given,
        sink,
        skip: source.skip,
        have_ids: true,
        under_way: HashMap::new(),
        tally,
        stop: None,
    };
    tokio::select! {
        () = batch.submit(input, &shutdown) => {}
        () = shutdown.now.cancelled() => {}
    }
    batch.finish(&shutdown).await;
    batch.tally.sum_up(batch.stop.is_none());
    producer.close().await;
    match batch.stop.take() {
        Some(stop) => Err(batch.stopped(stop)),
        None if batch.tally.is_complete() => Ok(Exit::Done),
        None => Ok(Exit::NotSucceeded),
    }
}

/// Lines on their way.
struct Batch<'a> {
    given: Given,
    sink: Sink,
    /// Lines to pass over, from the first.
    skip: u64,
    /// Whether every task had an id that it will have again.
    have_ids: bool,
    /// Which lines a task that has no outcome yet comes from: several if they name the same id.
    under_way: HashMap<TaskId, VecDeque<u64>>,
    tally: Tally<'a>,
    /// Why no further line is read.
    stop: Option<Stop>,
}

/// Why a file is not read to its end.
struct Stop {
    exit: Exit,
    why: String,
}

impl Stop {
    fn new(exit: Exit, why: impl Into<String>) -> Self {
        Self { exit, why: why.into() }
    }
}

impl Batch<'_> {
    /// Hands over line by line, to the end of the file, a signal, or a failure that all lines share.
    async fn submit(&mut self, mut input: Input, shutdown: &Shutdown) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        while self.stop.is_none() {
            let next = match input.lines.try_recv() {
                Ok(line) => Some(line),
                Err(TryRecvError::Disconnected) => None,
                Err(TryRecvError::Empty) => {
                    // Nothing waits for a line that may be long in coming.
                    self.sink.flush().await;
                    tokio::select! {
                        line = input.lines.recv() => line,
                        () = shutdown.drain.cancelled() => None,
                        _ = look.tick() => {
                            self.settle();
                            continue;
                        }
                    }
                }
            };
            if shutdown.drain.is_cancelled() {
                self.stop = Some(Stop::new(Exit::NotSucceeded, "stopped by a signal"));
                return;
            }
            match next {
                None => return,
                Some(Err(why)) => self.stop = Some(Stop::new(Exit::Usage, why)),
                Some(Ok(line)) => self.take(line).await,
            }
        }
    }

    async fn take(&mut self, line: Line) {
        let Line { number, text, read_bytes } = line;
        self.tally.read(number, read_bytes);
        if number <= self.skip || text.as_ref().is_ok_and(Vec::is_empty) {
            return;
        }
        let mut task = match text.and_then(|text| self.given.task(number, text)) {
            Ok(task) => task,
            Err(why) => return self.tally.settled(number, None, &Fate::Wrong(why)),
        };
        self.have_ids &= task.given_id().is_some();
        let id = task.fix_id();
        // Noted before, so that a signal in the midst of sending leaves no line without an outcome.
        self.under_way.entry(id.clone()).or_default().push_back(number);
        if let Err(error) = self.sink.send(task).await {
            self.no_longer_under_way(&id, VecDeque::pop_back);
            let why = crate::exit::chain(&error);
            self.tally.settled(number, Some(&id), &Fate::Wrong(why));
        }
        self.settle();
    }

    /// Takes a line of this task off the list of those that wait for their outcome.
    fn no_longer_under_way(
        &mut self,
        id: &TaskId,
        pop: fn(&mut VecDeque<u64>) -> Option<u64>,
    ) -> Option<u64> {
        let lines = self.under_way.get_mut(id)?;
        let number = pop(lines);
        if lines.is_empty() {
            self.under_way.remove(id);
        }
        number
    }

    /// Reports what is known by now.
    fn settle(&mut self) {
        for settled in self.sink.settled() {
            self.report(settled);
        }
        self.tally.show();
    }

    fn report(&mut self, Settled { id, outcome }: Settled) {
        let Some(number) = self.no_longer_under_way(&id, VecDeque::pop_front) else { return };
        let fate = match &outcome {
            Ok(()) => Fate::Accepted,
            Err(error) if error.is_unknown() => Fate::Unknown(crate::exit::chain(&**error)),
            Err(error) if matches!(**error, SubmitError::Invalid(_)) => {
                Fate::Wrong(crate::exit::chain(&**error))
            }
            Err(error) => Fate::Refused(crate::exit::chain(&**error)),
        };
        self.tally.settled(number, Some(&id), &fate);
        let is_shared = matches!(fate, Fate::Unknown(_) | Fate::Refused(_));
        if is_shared && self.stop.is_none() {
            self.stop = Some(Stop::new(Exit::OutOfReach, "RabbitMQ takes no more"));
        }
    }

    /// Why the file was not read to its end, and how to go on.
    fn stopped(&self, Stop { exit, why }: Stop) -> Failure {
        let (last, done) = (self.tally.last_line(), self.tally.done_up_to());
        let failure = Failure::new(exit, format!("{why}; nothing after line {last} was sent"));
        failure.hint(match (self.have_ids, done == last) {
            (_, true) => format!("the same command with --skip {last} goes on with the next line"),
            (true, false) => format!(
                "the same command with --skip {done} goes on: what was accepted after that line \
                 has the same id again and stays as it is"
            ),
            (false, false) => format!(
                "the same command with --skip {last} goes on and leaves out the lines named \
                 above; with --id-prefix they could be submitted again without harm to the others"
            ),
        })
    }

    /// Waits for the outcome of what is under way, unless a second signal ends that.
    async fn finish(&mut self, shutdown: &Shutdown) {
        let all_settled = async {
            self.sink.flush().await;
            while self.sink.under_way() > 0 {
                self.sink.settle_next().await;
            }
        };
        tokio::select! {
            () = all_settled => {}
            () = shutdown.now.cancelled() => {}
        }
        self.settle();
        let why = "nobody waited for its confirm".to_owned();
        let mut open: Vec<_> = self.under_way.drain().collect();
        open.sort_by_key(|(_, lines)| lines.front().copied());
        for (id, lines) in open {
            for number in lines {
                self.tally.settled(number, Some(&id), &Fate::Unknown(why.clone()));
            }
        }
    }
}
