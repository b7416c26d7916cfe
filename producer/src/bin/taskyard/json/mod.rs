//! What `--json` prints: every object there is, in one place.
//!
//! **Invariant:** an object always has all of its fields; what is not known is null. docs/json.md
//! describes them for users, and tests/tests/verbs/json.rs compares that page with what is printed.

mod answer;
mod counts;
mod examined;
mod letter;
mod logged;
mod submitted;
mod task;
mod worker;

pub(crate) use answer::{Cancelled, Replayed, ReplayedAll, is_unknown};
pub(crate) use counts::{Counts, Pulse};
pub(crate) use examined::{Found, Listed};
pub(crate) use letter::{Letter, Opened};
pub(crate) use logged::Logged;
pub(crate) use submitted::{Done, Ended, Line, Submitted, Summary};
pub(crate) use task::Task;
pub(crate) use worker::Worker;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A text, or null where it is empty.
fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Bytes in the first place if they are UTF-8, else in base64 in the second.
fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_or_base64_and_never_both() {
        assert_eq!(text_or_base64("tä".as_bytes()), (Some("tä".to_owned()), None));
        assert_eq!(text_or_base64(&[0, 255]), (None, Some("AP8=".to_owned())));
        assert_eq!(text_or_base64(b""), (Some(String::new()), None));
    }
}
