use bytes::Bytes;
use taskyard_common::amqp::{Delivery, Headers, Value};
use taskyard_common::wire::headers;
use taskyard_model::{ErrorKind, State, TaskId};

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The final state.
    pub state: State,
    /// The result as the handler returned it; empty unless it succeeded.
    pub result: Bytes,
    /// The result's type, where the worker named one.
    pub content_type: Option<String>,
    /// The text of the last error.
    pub error: Option<String>,
    /// What sort of error it was.
    pub error_kind: Option<ErrorKind>,
    /// Number of the last dispatch; 0 if it never was dispatched.
    pub attempt: u32,
}

impl Outcome {
    /// Whether the task succeeded.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.state == State::Succeeded
    }

    /// Reads a reply; `None` if it is none.
    pub(crate) fn read(delivery: Delivery) -> Option<(TaskId, Self)> {
        let properties = &delivery.properties;
        let id = TaskId::new(properties.message_id().as_ref()?.as_str()).ok()?;
        let state: State = properties.kind().as_ref()?.as_str().parse().ok()?;
        let none = Headers::default();
        let table = properties.headers().as_ref().unwrap_or(&none);
        let text = |name: &str| match table.inner().get(name)? {
            Value::LongString(text) => Some(text.to_string()),
            Value::ShortString(text) => Some(text.to_string()),
            _ => None,
        };
        let outcome = Self {
            state,
            content_type: properties.content_type().as_ref().map(ToString::to_string),
            error: text(headers::ERROR).filter(|error| !error.is_empty()),
            error_kind: text(headers::ERROR_KIND).and_then(|kind| kind.parse().ok()),
            attempt: table.inner().get(headers::ATTEMPT).and_then(number).unwrap_or(0),
            result: delivery.body,
        };
        state.is_final().then_some((id, outcome))
    }
}

fn number(value: &Value) -> Option<u32> {
    match value {
        Value::ShortShortUInt(n) => Some((*n).into()),
        Value::ShortUInt(n) => Some((*n).into()),
        Value::LongUInt(n) => Some(*n),
        Value::ShortShortInt(n) => (*n).try_into().ok(),
        Value::ShortInt(n) => (*n).try_into().ok(),
        Value::LongInt(n) => (*n).try_into().ok(),
        Value::LongLongInt(n) => (*n).try_into().ok(),
        Value::LongString(text) => text.to_string().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_common::amqp::Properties;

    fn reply(state: &str) -> Delivery {
        let mut table = Headers::default();
        table.insert("x-task-attempt".into(), Value::LongLongInt(3));
        table.insert("x-task-error".into(), Value::LongString("no space".into()));
        table.insert("x-task-error-kind".into(), Value::LongString("timeout".into()));
        Delivery {
            tag: 1,
            exchange: String::new(),
            routing_key: "q".to_owned(),
            is_redelivered: false,
            properties: Properties::default()
                .with_message_id("t1".into())
                .with_type(state.into())
                .with_content_type("text/plain".into())
                .with_headers(table),
            body: Bytes::from_static(b"body"),
        }
    }

    #[test]
    fn a_reply_is_read() {
        let (id, outcome) = Outcome::read(reply("failed")).unwrap();
        assert_eq!(id.as_str(), "t1");
        assert_eq!((outcome.state, outcome.attempt), (State::Failed, 3));
        assert_eq!(outcome.error.as_deref(), Some("no space"));
        assert_eq!(outcome.error_kind, Some(ErrorKind::Timeout));
        assert_eq!(outcome.content_type.as_deref(), Some("text/plain"));
        assert_eq!(outcome.result, "body");
        assert!(!outcome.is_success());
    }

    #[test]
    fn what_is_no_final_state_is_no_reply() {
        assert!(Outcome::read(reply("running")).is_none());
        assert!(Outcome::read(reply("finished")).is_none());
    }
}
