use super::text_or_base64;
use serde::{Deserialize, Serialize};

/// A dead letter: `dead ls`. The dispatcher sends the same object.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Letter {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) reason: String,
    pub(crate) error: String,
    pub(crate) attempt: u32,
    pub(crate) failures: u32,
    pub(crate) losses: u32,
    pub(crate) submitted_at: Option<u64>,
    pub(crate) bytes: u64,
}

/// A dead letter with what is in it: `dead show`.
#[derive(Serialize)]
pub(crate) struct Opened {
    #[serde(flatten)]
    letter: Letter,
    payload: Option<String>,
    payload_base64: Option<String>,
}

impl Opened {
    pub(crate) fn new(letter: Letter, payload: &[u8]) -> Self {
        let (payload, payload_base64) = text_or_base64(payload);
        Self { letter, payload, payload_base64 }
    }
}
