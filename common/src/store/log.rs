//! The logs of tasks: written by a dispatcher, beside the state; read by anyone.

use std::time::Duration;

use redis::{Cmd, Pipeline, ServerError, Value as Reply};
use taskyard_model::{TaskId, Timestamp, WorkerId};

use super::error::is_noscript;
use super::keys::Keys;
use super::link::{Link, Live, Patience};
use super::record::{instant, text};
use super::{Reader, RedisSettings, StoreError};

/// Lines that are kept of one task, and bytes of their texts: what a person may read.
const LINES_MAX: usize = 1_000;
const BYTES_MAX: usize = 256 * 1024;
/// How long a log is kept after its last line while its task has not ended; then as long as the
/// task's record. As long as the record of a task that failed.
const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Lines in one call of the script: for so long Redis does nothing else.
const LINES_A_CALL: usize = 64;

/// Lines that one attempt wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLines {
    /// The task.
    pub id: TaskId,
    /// The attempt, which is not compared with the record's.
    pub attempt: u32,
    /// Who says it.
    pub worker: Option<WorkerId>,
    /// When each line was written, and its text. None: the log is only brought to expire with its
    /// task, which has ended.
    pub lines: Vec<(Timestamp, String)>,
}

/// Writes logs, on a connection of its own that is made at the first line: a flood of lines waits
/// behind itself alone.
pub struct LogWriter {
    link: Link,
    keys: Keys,
}

impl LogWriter {
    /// Does not connect yet.
    ///
    /// # Errors
    /// `Settings` if the address or a certificate is no good.
    pub fn new(settings: &RedisSettings, namespace: &str) -> Result<Self, StoreError> {
        Ok(Self { link: Link::new(settings, Patience::default())?, keys: Keys::new(namespace) })
    }

    /// Adds lines, in this order. Of tasks that there is no record of nothing is written.
    ///
    /// # Errors
    /// As [`Store::run`](super::Store::run), and the first refusal; the rest has then been written.
    ///
    /// # Cancel safety
    /// Dropping the future is like `Unknown`.
    pub async fn write(&self, logs: &[LogLines]) -> Result<(), StoreError> {
        let live = self.link.live().await?;
        let mut refusal = self.send(&live, logs).await?;
        if refusal.as_ref().is_some_and(is_noscript) {
            // Then nothing was done.
            self.link.reload(&live).await?;
            refusal = self.send(&live, logs).await?;
        }
        refusal.map_or(Ok(()), |error| Err(StoreError::from_server(&error)))
    }

    /// The first refusal, if there is one.
    async fn send(
        &self,
        live: &Live,
        logs: &[LogLines],
    ) -> Result<Option<ServerError>, StoreError> {
        let pipeline = self.pipeline(logs, &live.scripts.log);
        let replies = self.link.call_on(live, &pipeline).await?;
        Ok(replies.into_iter().find_map(|reply| match reply {
            Reply::ServerError(error) => Some(error),
            _ => None,
        }))
    }

    fn pipeline(&self, logs: &[LogLines], script: &str) -> Pipeline {
        let mut pipeline = redis::pipe();
        for log in logs {
            if log.lines.is_empty() {
                pipeline.add_command(self.command(log, &[], script));
            }
            for lines in log.lines.chunks(LINES_A_CALL) {
                pipeline.add_command(self.command(log, lines, script));
            }
        }
        pipeline
    }

    fn command(&self, log: &LogLines, lines: &[(Timestamp, String)], script: &str) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script).arg(2).arg(self.keys.task(&log.id)).arg(self.keys.log(&log.id));
        cmd.arg(KEPT.as_secs() * 1_000).arg(LINES_MAX).arg(BYTES_MAX);
        cmd.arg(log.attempt).arg(log.worker.as_ref().map_or("", WorkerId::as_str));
        for (at, text) in lines {
            cmd.arg(at.as_ms()).arg(text);
        }
        cmd
    }
}

/// A place in a task's log, between two lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace(String);

impl LogPlace {
    /// Before the first line.
    #[must_use]
    pub fn start() -> Self {
        Self("0".to_owned())
    }
}

/// A line of a task's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The place behind it.
    pub place: LogPlace,
    /// When it was written, by the worker's clock if it said so.
    pub at: Timestamp,
    /// The attempt that wrote it.
    pub attempt: u32,
    /// The worker; empty if it did not say.
    pub worker: String,
    /// The line itself.
    pub text: String,
}

impl Reader {
    /// The lines of a task's log behind a place, in the order in which they were written down. Where
    /// there are none it waits for some, so long; not longer than 4 s.
    ///
    /// # Errors
    /// As [`Reader::task`].
    pub async fn log(
        &self,
        id: &TaskId,
        behind: &LogPlace,
        wait: Duration,
    ) -> Result<Vec<LogLine>, StoreError> {
        let mut read = redis::cmd("XREAD");
        if let wait_ms @ 1.. = wait.as_millis() {
            read.arg("BLOCK").arg(u64::try_from(wait_ms).unwrap_or(u64::MAX));
        }
        read.arg("STREAMS").arg(self.keys.log(id)).arg(&behind.0);
        lines(self.one(&mut read).await?)
    }
}

/// From the streams that were asked for, which is one; nothing where it has no such lines.
fn lines(reply: Reply) -> Result<Vec<LogLine>, StoreError> {
    let strange = || StoreError::Strange { what: "lines of a log" };
    let Reply::Array(mut streams) = reply else { return Ok(Vec::new()) };
    let Some(Reply::Array(mut stream)) = streams.pop() else { return Err(strange()) };
    let Some(Reply::Array(entries)) = stream.pop() else { return Err(strange()) };
    let line = |entry: Reply| {
        let Reply::Array(entry) = entry else { return Err(strange()) };
        let [place, Reply::Array(fields)]: [Reply; 2] = entry.try_into().map_err(|_| strange())?
        else {
            return Err(strange());
        };
        let mut line = LogLine {
            place: LogPlace(text(place)),
            at: Timestamp::default(),
            attempt: 0,
            worker: String::new(),
            text: String::new(),
        };
        let mut fields = fields.into_iter().map(text);
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            match name.as_str() {
                "attempt" => line.attempt = value.parse().unwrap_or(0),
                "worker" => line.worker = value,
                "time" => line.at = instant(&value).unwrap_or_default(),
                "text" => line.text = value,
                _ => {}
            }
        }
        Ok(line)
    };
    entries.into_iter().map(line).collect()
}
