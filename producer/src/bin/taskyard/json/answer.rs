use serde::Serialize;
use serde_json::Value;
use taskyard_model::TaskId;
use taskyard_producer::CommandAnswer;

/// What became of a wish to end a task: `cancel`.
#[derive(Serialize)]
pub(crate) struct Cancelled<'a> {
    id: &'a str,
    ok: bool,
    state: Option<&'a str>,
    error: Option<&'a str>,
    unknown: bool,
}

impl<'a> Cancelled<'a> {
    pub(crate) fn new(id: &'a TaskId, answer: &'a CommandAnswer) -> Self {
        Self {
            id: id.as_str(),
            ok: answer.ok,
            state: answer.details.get("state").and_then(Value::as_str),
            error: answer.error.as_deref(),
            unknown: is_unknown(answer),
        }
    }
}

/// What became of a wish to put one dead letter back: `dead replay ID`.
#[derive(Serialize)]
pub(crate) struct Replayed<'a> {
    id: &'a str,
    ok: bool,
    error: Option<&'a str>,
    unknown: bool,
}

impl<'a> Replayed<'a> {
    pub(crate) fn new(id: &'a TaskId, answer: &'a CommandAnswer) -> Self {
        let error = answer.error.as_deref();
        Self { id: id.as_str(), ok: answer.ok, error, unknown: is_unknown(answer) }
    }
}

/// How many dead letters were put back: `dead replay --all`.
#[derive(Serialize)]
pub(crate) struct ReplayedAll {
    pub(crate) replayed: u64,
}

/// Whether an answer only says that nobody knows the task.
pub(crate) fn is_unknown(answer: &CommandAnswer) -> bool {
    answer.details.get("unknown") == Some(&Value::Bool(true))
}
