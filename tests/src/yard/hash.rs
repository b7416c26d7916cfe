//! A task's hash as Redis shows it.

use std::{collections::BTreeMap, fmt};

/// `HGETALL taskyard:task:<id>`. A field that is not there reads as empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TaskHash(BTreeMap<String, Vec<u8>>);

/// States that are never left.
const FINAL: [&str; 5] = ["succeeded", "failed", "cancelled", "expired", "rejected"];

impl TaskHash {
    pub(super) fn new(fields: BTreeMap<String, Vec<u8>>) -> Self {
        Self(fields)
    }

    /// The field `state`; empty when there is no such task.
    pub fn state(&self) -> String {
        self.text("state")
    }

    /// Whether that is one that is never left.
    pub fn is_final(&self) -> bool {
        FINAL.contains(&self.state().as_str())
    }

    /// Whether Redis knows the task.
    pub fn exists(&self) -> bool {
        !self.0.is_empty()
    }

    /// A field as it is.
    pub fn bytes(&self, field: &str) -> &[u8] {
        self.0.get(field).map(Vec::as_slice).unwrap_or_default()
    }

    /// A field as text.
    pub fn text(&self, field: &str) -> String {
        String::from_utf8_lossy(self.bytes(field)).into_owned()
    }

    /// A field as a number: a count, or milliseconds.
    ///
    /// # Panics
    ///
    /// When it is something else, or empty.
    #[track_caller]
    pub fn number(&self, field: &str) -> i64 {
        let text = self.text(field);
        text.parse().unwrap_or_else(|_| panic!("{field} is {text:?}, not a number: {self:?}"))
    }

    /// Names of all fields.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for TaskHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.0.iter().filter(|(_, value)| !value.is_empty()).map(|(field, value)| {
            let text: String = String::from_utf8_lossy(value).chars().take(200).collect();
            (field, text)
        });
        f.debug_map().entries(texts).finish()
    }
}
