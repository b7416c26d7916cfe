use crate::connect::Reach;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::{json, task};
use bytes::Bytes;
use std::time::Duration;
use taskyard_common::store::TaskView;
use taskyard_model::{State, TaskId};
use taskyard_producer::Outcome;
use tokio::time::{Instant, sleep_until};

/// The first and the longest wait between two looks at a task that somebody waits for.
const LOOK_INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How a task ended, whoever told us.
pub(crate) struct Ended {
    pub(crate) state: State,
    pub(crate) attempt: u32,
    pub(crate) error: String,
    pub(crate) error_kind: String,
    pub(crate) content_type: String,
    pub(crate) result: Bytes,
    /// Size of the result where it was too large to be kept.
    pub(crate) lost_bytes: Option<u64>,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        Self {
            state: outcome.state,
            attempt: outcome.attempt,
            error: outcome.error.unwrap_or_default(),
            error_kind: outcome.error_kind.map(|kind| kind.to_string()).unwrap_or_default(),
            content_type: outcome.content_type.unwrap_or_default(),
            result: outcome.result,
            lost_bytes: None,
        }
    }
}

impl Ended {
    /// `None` if the task has not ended.
    fn from_record(view: &TaskView) -> Option<Self> {
        let state = view.state().filter(|state| state.is_final())?;
        let result = view.result();
        let bytes = view.fields.number::<u64>("result_bytes");
        Some(Self {
            state,
            attempt: view.attempt(),
            error: view.error().to_owned(),
            error_kind: view.fields.text("error_kind").to_owned(),
            content_type: view.fields.text("result_type").to_owned(),
            lost_bytes: bytes.filter(|&bytes| bytes > result.len() as u64),
            result,
        })
    }
}

/// Prints a task's end: the result to stdout, or the error to stderr.
pub(crate) fn print(id: &TaskId, ended: &Ended, output: &Output) -> Exit {
    let exit = match ended.state {
        State::Succeeded if ended.lost_bytes.is_none() => Exit::Done,
        _ => Exit::NotSucceeded,
    };
    if output.is_json() {
        output.json(&json::Ended::new(id, ended));
        return exit;
    }
    match (ended.state, ended.lost_bytes) {
        (State::Succeeded, Some(bytes)) => output.error(
            &format!(
                "task {id} succeeded, but its result of {bytes} bytes is too large to be kept"
            ),
            Some("who submits with --wait or --reply-to gets results of any size"),
        ),
        (State::Succeeded, None) => print_result(&ended.result, output),
        (state, _) => {
            let mut text = format!("task {id} {}", said(state));
            if !ended.error.is_empty() {
                text += &format!(": {}", ended.error);
            }
            if !ended.error_kind.is_empty() && ended.error_kind != state.as_str() {
                text += &format!(" ({})", ended.error_kind);
            }
            output.error(&text, None);
        }
    }
    exit
}

fn said(state: State) -> &'static str {
    match state {
        State::Failed => "failed",
        State::Cancelled => "was cancelled",
        State::Expired => "expired before it was started",
        State::Rejected => "was rejected",
        _ => "has not ended",
    }
}

/// The bytes as they are; a terminal gets text only, and a line break after it.
fn print_result(result: &[u8], output: &Output) {
    if !output.is_terminal() {
        return output.bytes(result);
    }
    match std::str::from_utf8(result) {
        Ok("") => {}
        Ok(text) => output.line(text.strip_suffix('\n').unwrap_or(text)),
        Err(_) => output.note(&format!(
            "the result has {} bytes that are no text: send stdout to a file",
            result.len()
        )),
    }
}

/// Prints the result of a task, waiting for its end if there is patience.
pub(crate) async fn run(
    id: &TaskId,
    patience: Option<Duration>,
    reach: &Reach,
    output: &Output,
) -> Result<Exit, Failure> {
    let reader = reach.reader()?;
    let deadline = Instant::now() + patience.unwrap_or_default();
    let (mut interval, longest) = LOOK_INTERVALS;
    loop {
        let view = reader.task(id).await?;
        if let Some(ended) = view.as_ref().and_then(Ended::from_record) {
            return Ok(print(id, &ended, output));
        }
        if Instant::now() >= deadline {
            return Err(match view {
                None => task::unknown(id),
                Some(view) => {
                    let state = view.fields.text("state");
                    Failure::new(Exit::NotFinal, format!("task {id} is {state}, not final yet"))
                        .hint("wait for it with --wait, or ask why with taskyard status")
                }
            });
        }
        sleep_until(deadline.min(Instant::now() + interval)).await;
        interval = longest.min(interval * 3 / 2);
    }
}
