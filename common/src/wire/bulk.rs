use super::submission::{Refusal, Submission, read_submission};
use super::train::{self, TrainError, TrainWriter};
use crate::amqp::{Properties, Value};
use crate::names::Names;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use taskyard_model::{TaskId, Timestamp};

/// Tasks that a bulk holds at most.
pub(super) const TASKS_MAX: usize = 1_000;
/// Bytes that a bulk holds at most.
pub(super) const BYTES_MAX: usize = 1024 * 1024;

/// Why a whole bulk is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BulkError {
    /// The bytes are not a bulk.
    #[error("a bulk of tasks that cannot be read: {0}; docs/wire.md has the format")]
    Broken(#[from] TrainError),
    /// Too many tasks or bytes.
    #[error("a bulk has at most 1000 tasks and 1 MiB: split it")]
    TooLarge,
}

/// What a bulk says of one task besides what the message says of all.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CarHead {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    headers: Map<String, serde_json::Value>,
}

/// Builds a bulk: many tasks of one kind in one message.
///
/// Publish it to `taskyard.tasks` like a single task, with `content_type`
/// [`train::BULK`]; properties and headers of the message hold for all its tasks.
#[derive(Debug, Default)]
pub struct BulkWriter {
    train: TrainWriter,
}

impl BulkWriter {
    /// An empty bulk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a payload of this size still fits.
    #[must_use]
    pub fn has_room_for(&self, payload_bytes: usize) -> bool {
        // A head with an id and a priority, and two lengths.
        const HEAD_BYTES_MAX: usize = 256;
        let bytes = self.train.bytes() + payload_bytes + HEAD_BYTES_MAX;
        self.train.len() < TASKS_MAX && bytes <= BYTES_MAX
    }

    /// Adds a task.
    pub fn push(&mut self, id: Option<&TaskId>, priority: Option<u8>, payload: &[u8]) {
        let id = id.map(ToString::to_string);
        self.train.push(&CarHead { id, priority, headers: Map::new() }, payload);
    }

    /// Number of tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.train.len()
    }

    /// Whether there is no task yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.train.is_empty()
    }

    /// The message body.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.train.finish()
    }
}

/// A task of a bulk: what it says or why it is refused, and its payload.
pub type JudgedTask = (Result<Submission, Refusal>, Bytes);

/// Reads a bulk; each task is judged by itself, as if it had come alone.
///
/// # Errors
/// The bulk as a whole cannot be read or is too large.
pub fn read_bulk(
    properties: &Properties,
    routing_key: &str,
    body: &Bytes,
    names: &Names,
    now: Timestamp,
    mut fresh_id: impl FnMut() -> TaskId,
) -> Result<Vec<JudgedTask>, BulkError> {
    if body.len() > BYTES_MAX {
        return Err(BulkError::TooLarge);
    }
    let cars = train::split(body)?;
    if cars.len() > TASKS_MAX {
        return Err(BulkError::TooLarge);
    }
    let shared = shared_by_all(properties);
    let mut tasks = Vec::with_capacity(cars.len());
    for (head, payload) in cars {
        let one = read_car(&head, &shared).and_then(|properties| {
            read_submission(&properties, routing_key, payload.len(), names, now, &mut fresh_id)
        });
        tasks.push((one, payload));
    }
    Ok(tasks)
}

/// The properties of a bulk that hold for its tasks: not its own id, nor its own type.
fn shared_by_all(message: &Properties) -> Properties {
    let mut properties = Properties::default();
    macro_rules! carry {
        ($($get:ident => $with:ident),+) => {
            $(if let Some(value) = message.$get().clone() { properties = properties.$with(value); })+
        };
    }
    carry!(
        kind => with_type, priority => with_priority, expiration => with_expiration,
        reply_to => with_reply_to, correlation_id => with_correlation_id, user_id => with_user_id,
        content_encoding => with_content_encoding, headers => with_headers
    );
    properties
}

fn read_car(head: &[u8], shared: &Properties) -> Result<Properties, Refusal> {
    // Whatever else is wrong with it, a usable id gets a record that says so.
    let refuse = |reason: String| Refusal {
        reason,
        error_kind: taskyard_model::ErrorKind::Rejected,
        id: claimed_id(head),
    };
    let head: CarHead = match head {
        [] => CarHead::default(),
        [b'[', ..] => return Err(refuse("the head of a task in a bulk is no object".to_owned())),
        json => serde_json::from_slice(json)
            .map_err(|error| refuse(format!("the head of a task in a bulk: {error}")))?,
    };
    let mut properties = shared.clone();
    if let Some(id) = head.id {
        let id =
            crate::amqp::ShortString::try_new(id).map_err(|error| refuse(error.to_string()))?;
        properties = properties.with_message_id(id);
    }
    if let Some(priority) = head.priority {
        properties = properties.with_priority(priority);
    }
    if head.headers.is_empty() {
        return Ok(properties);
    }
    let mut table = shared.headers().clone().unwrap_or_default();
    for (name, value) in head.headers {
        let name =
            crate::amqp::ShortString::try_new(name).map_err(|error| refuse(error.to_string()))?;
        let value = match value {
            serde_json::Value::Bool(value) => Value::Boolean(value),
            serde_json::Value::Number(n) if n.is_i64() => {
                Value::LongLongInt(n.as_i64().unwrap_or_default())
            }
            serde_json::Value::Number(n) => Value::Double(n.as_f64().unwrap_or_default()),
            serde_json::Value::String(text) => Value::LongString(text.into()),
            _ => {
                return Err(refuse(format!(
                    "header {name} of a task in a bulk is neither text nor number"
                )));
            }
        };
        table.insert(name, value);
    }
    Ok(properties.with_headers(table))
}

fn claimed_id(head: &[u8]) -> Option<TaskId> {
    let head: serde_json::Value = serde_json::from_slice(head).ok()?;
    TaskId::new(head.get("id")?.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(properties: &Properties, body: &Bytes) -> Vec<(Result<Submission, Refusal>, Bytes)> {
        let mut n = 0;
        let fresh = || {
            n += 1;
            format!("fresh{n}").parse().unwrap()
        };
        read_bulk(properties, "echo", body, &Names::new("taskyard"), Timestamp::ZERO, fresh)
            .unwrap()
    }

    #[test]
    fn each_task_of_a_bulk_is_judged_by_itself() {
        let mut bulk = BulkWriter::new();
        bulk.push(Some(&"a".parse().unwrap()), None, b"1");
        bulk.push(None, Some(12), b"2");
        bulk.push(None, Some(2), b"3");
        let shared = Properties::default()
            .with_content_type(train::BULK.into())
            .with_message_id("the message's own".into())
            .with_priority(7);
        let tasks = read(&shared, &bulk.finish());
        let first = &tasks[0].0.as_ref().unwrap().head;
        assert_eq!(
            (first.id.as_str(), first.priority, first.content_type.clone()),
            ("a", Some(7), None)
        );
        assert!(tasks[1].0.as_ref().unwrap_err().reason.contains("priority 12"));
        let third = &tasks[2].0.as_ref().unwrap().head;
        assert_eq!((third.id.as_str(), third.priority), ("fresh2", Some(2)));
        assert_eq!(tasks[2].1, "3");
    }

    #[test]
    fn a_broken_head_still_names_its_task() {
        for (head, id) in [
            (r#"{"id":"b1","priority":300}"#, Some("b1")),
            (r#"{"id":"b2","colour":"red"}"#, Some("b2")),
            (r#"{"id":"not an id","priority":1}"#, None),
            (r#"["b3"]"#, None),
            ("{", None),
        ] {
            let mut body = b"TYT1\0\0\0".to_vec();
            body.push(u8::try_from(head.len()).unwrap());
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(b"\0\0\0\0");
            let tasks = read(&Properties::default(), &Bytes::from(body));
            let refusal = tasks[0].0.as_ref().unwrap_err();
            assert_eq!(refusal.id.as_ref().map(TaskId::as_str), id, "{head}");
        }
    }

    #[test]
    fn a_head_may_be_empty_and_may_bring_headers() {
        let head = br#"{"id":"h","headers":{"x-task-max-attempts":3}}"#;
        let mut body = b"TYT1\0\0\0\0\0\0\0\x01x\0\0\0".to_vec();
        body.push(u8::try_from(head.len()).unwrap());
        body.extend_from_slice(head);
        body.extend_from_slice(b"\0\0\0\0");
        let tasks = read(&Properties::default(), &Bytes::from(body));
        assert!(tasks[0].0.is_ok());
        assert_eq!(tasks[1].0.as_ref().unwrap().head.max_attempts, Some(3));
    }
}
