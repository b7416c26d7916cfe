use super::text;
use serde::{Deserialize, Serialize};
use taskyard_model::TaskId;

/// What an operator asks of the dispatcher: JSON to the exchange `taskyard.commands`, with
/// `reply_to`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Command {
    /// End a task, wherever it is.
    Cancel {
        /// The task.
        #[serde(with = "text")]
        id: TaskId,
    },
    /// List dead letters, oldest first.
    Dead {
        /// At most so many.
        #[serde(default = "page")]
        limit: u32,
    },
    /// Show one dead letter, payload included (base64).
    DeadShow {
        /// The task.
        #[serde(with = "text")]
        id: TaskId,
    },
    /// Put dead letters back, with their failures and losses forgotten.
    Replay {
        /// The task; all of them if absent and `all` is set.
        #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
        id: Option<TaskId>,
        /// Every dead letter there is.
        #[serde(default)]
        all: bool,
    },
}

fn page() -> u32 {
    100
}

/// The answer: `{"ok":true,…}` or `{"ok":false,"error":"…"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandAnswer {
    /// Whether it was done.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What there is to say besides.
    #[serde(flatten)]
    pub details: serde_json::Map<String, serde_json::Value>,
}

impl CommandAnswer {
    /// It was done.
    #[must_use]
    pub fn done(details: serde_json::Value) -> Self {
        let details = match details {
            serde_json::Value::Object(details) => details,
            _ => serde_json::Map::new(),
        };
        Self { ok: true, error: None, details }
    }

    /// It was not, because.
    #[must_use]
    pub fn refused(error: impl Into<String>) -> Self {
        Self { ok: false, error: Some(error.into()), details: serde_json::Map::new() }
    }
}
