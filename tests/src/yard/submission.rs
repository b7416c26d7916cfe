//! What an outside client publishes.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString},
};

/// A submission to `taskyard.tasks`, with an id unless [`Self::without_id`] takes it away.
#[derive(Debug, Clone)]
pub struct Submission {
    pub(super) kind: String,
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
    headers: FieldTable,
}

impl Submission {
    /// A task of that kind, persistent, with a fresh id.
    pub fn of(kind: &str, body: impl AsRef<[u8]>) -> Self {
        let submission = Self {
            kind: kind.to_owned(),
            body: body.as_ref().to_vec(),
            properties: BasicProperties::default().with_delivery_mode(2),
            headers: FieldTable::default(),
        };
        submission.id(&uuid::Uuid::now_v7().to_string())
    }

    /// The task id.
    #[must_use]
    pub fn id(self, id: &str) -> Self {
        self.properties(|properties| properties.with_message_id(id.into()))
    }

    /// Let the dispatcher assign the id.
    #[must_use]
    pub fn without_id(mut self) -> Self {
        let mut without = BasicProperties::default().with_delivery_mode(2);
        if let Some(priority) = self.properties.priority() {
            without = without.with_priority(*priority);
        }
        self.properties = without;
        self
    }

    /// 0 to 9 (any byte is sent).
    #[must_use]
    pub fn priority(self, priority: u8) -> Self {
        self.properties(|properties| properties.with_priority(priority))
    }

    /// Where the final state is to be sent.
    #[must_use]
    pub fn reply_to(self, queue: &str, correlation_id: &str) -> Self {
        self.properties(|properties| {
            properties.with_reply_to(queue.into()).with_correlation_id(correlation_id.into())
        })
    }

    /// Any AMQP property.
    #[must_use]
    pub fn properties(mut self, set: impl FnOnce(BasicProperties) -> BasicProperties) -> Self {
        self.properties = set(self.properties);
        self
    }

    /// A header with a text: `text("x-task-backoff", "fixed:100")`.
    #[must_use]
    pub fn text(self, name: &str, value: &str) -> Self {
        self.header(name, AMQPValue::LongString(LongString::from(value)))
    }

    /// A header with a number: `number("x-task-delay", 500)`.
    #[must_use]
    pub fn number(self, name: &str, value: i64) -> Self {
        self.header(name, AMQPValue::LongLongInt(value))
    }

    /// A header of any type.
    #[must_use]
    pub fn header(mut self, name: &str, value: AMQPValue) -> Self {
        self.headers.insert(name.into(), value);
        self
    }

    /// The id, empty when the dispatcher is to assign one.
    pub fn id_text(&self) -> String {
        self.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default()
    }

    pub(super) fn all_properties(&self) -> BasicProperties {
        self.properties.clone().with_headers(self.headers.clone())
    }
}
