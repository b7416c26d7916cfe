use super::is_printable;
use taskyard_common::amqp::Value;

/// The value of a header of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderValue {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Yes or no.
    Boolean(bool),
}

impl From<HeaderValue> for Value {
    fn from(value: HeaderValue) -> Self {
        match value {
            HeaderValue::Text(text) => Value::LongString(text.into()),
            HeaderValue::Integer(n) => Value::LongLongInt(n),
            HeaderValue::Boolean(b) => Value::Boolean(b),
        }
    }
}

impl From<&str> for HeaderValue {
    fn from(text: &str) -> Self {
        HeaderValue::Text(text.to_owned())
    }
}

impl From<String> for HeaderValue {
    fn from(text: String) -> Self {
        HeaderValue::Text(text)
    }
}

impl From<i64> for HeaderValue {
    fn from(n: i64) -> Self {
        HeaderValue::Integer(n)
    }
}

impl From<bool> for HeaderValue {
    fn from(b: bool) -> Self {
        HeaderValue::Boolean(b)
    }
}

/// Why a header of one's own cannot have this name.
pub(super) fn problem(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    if !is_printable(name, 255) {
        return Some("a name has 1 to 255 printable bytes");
    }
    if lower.starts_with("x-task-") || lower == "traceparent" {
        return Some(
            "this name is Taskyard's own: use the option or setter of that meaning, if this version has it",
        );
    }
    if lower.starts_with("x-death") || lower.starts_with("x-first-death-") {
        return Some("RabbitMQ writes this one itself");
    }
    if lower == "cc" || lower == "bcc" {
        return Some("RabbitMQ would publish a second copy; submit a second task instead");
    }
    None
}
