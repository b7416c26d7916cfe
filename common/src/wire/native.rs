use super::submission::{integer, kept, read_headers, string};
use super::{Head, headers};
use crate::amqp::{Headers, Properties, Value};
use taskyard_model::{Kind, TaskId, Timestamp};

/// A native message that is no copy of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a copy of a task: {0}")]
pub struct CopyError(String);

/// Why the broker moved a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeathReason {
    /// The queue it was in.
    pub queue: String,
    /// Whether a consumer nacked it; else its time was over.
    pub is_rejected: bool,
    /// The key that it was published with.
    pub routing_key: Option<String>,
}

/// Reads from the broker's own headers why a message was dead-lettered; `None` if it was not.
#[must_use]
pub fn death(properties: &Properties) -> Option<DeathReason> {
    let table = properties.headers().as_ref()?;
    let Value::FieldArray(deaths) = table.inner().get("x-death")? else { return None };
    let Some(Value::FieldTable(last)) = deaths.as_slice().first() else { return None };
    let keys = last.inner().get("routing-keys");
    let routing_key = match keys {
        Some(Value::FieldArray(keys)) => match keys.as_slice().first() {
            Some(Value::LongString(key)) => Some(key.to_string()),
            _ => None,
        },
        _ => None,
    };
    let queue = string(last, "queue").ok()??;
    let is_rejected = string(last, "reason").ok()?? == "rejected";
    Some(DeathReason { queue, is_rejected, routing_key })
}

/// The properties of a native copy: what a foreign worker gets, and what waits in `taskyard.dead`.
///
/// Built, never passed on: `user_id` would close our channel, the broker's own headers would lie.
#[must_use]
pub fn write_copy(head: &Head) -> Properties {
    let mut table = head.headers.clone();
    let mut number = |name: &str, n: u64| {
        table.insert(name.into(), Value::LongLongInt(i64::try_from(n).unwrap_or(i64::MAX)));
    };
    number(headers::ATTEMPT, head.attempt.into());
    number(headers::FAILURES, head.failures.into());
    number(headers::LOSSES, head.losses.into());
    if let Some(at) = head.accepted_at {
        number(headers::ACCEPTED_AT, at.as_ms());
    }
    if let Some(at) = head.start_by {
        number(headers::START_BY, at.as_ms());
    }
    if head.rounds > 0 {
        number(headers::ROUNDS, head.rounds.into());
    }
    if let Some(at) = head.checkpoint_at {
        number(headers::CHECKPOINT_AT, at);
    }
    if head.is_suspect {
        table.insert(headers::SUSPECT.into(), Value::Boolean(true));
    }
    if let Some(user) = &head.user {
        table.insert(headers::USER.into(), Value::LongString(user.as_str().into()));
    }
    let mut properties = Properties::default()
        .with_message_id(head.id.as_str().into())
        .with_type(head.kind.as_str().into())
        .with_headers(table);
    if let Some(priority) = head.priority {
        properties = properties.with_priority(priority);
    }
    macro_rules! carry {
        ($($field:ident => $with:ident),+) => {
            $(if let Some(value) = &head.$field { properties = properties.$with(value.as_str().into()); })+
        };
    }
    carry!(
        reply_to => with_reply_to, correlation_id => with_correlation_id,
        content_type => with_content_type, content_encoding => with_content_encoding
    );
    properties
}

/// Reads a native copy that came back.
///
/// # Errors
/// It is none of ours: an id, a kind or an attempt is missing, or a header is broken.
pub fn read_copy(properties: &Properties) -> Result<Head, CopyError> {
    let read = || -> Result<Head, String> {
        let text = |p: &Option<crate::amqp::ShortString>| p.as_ref().map(ToString::to_string);
        let id = text(properties.message_id()).ok_or("it has no message_id")?;
        let id = TaskId::new(&id).map_err(|error| error.to_string())?;
        let kind = text(properties.kind()).ok_or("it has no type")?;
        let kind = Kind::new(&kind).map_err(|error| error.to_string())?;
        let table = properties.headers().as_ref().ok_or("it has no headers")?;
        let mut head = Head::new(id, kind);
        let small = |name: &str| {
            Ok::<_, String>(
                integer(table, name, 0, u32::MAX.into())?.and_then(|n| u32::try_from(n).ok()),
            )
        };
        head.attempt = small(headers::ATTEMPT)?.ok_or("it has no x-task-attempt")?;
        head.failures = small(headers::FAILURES)?.unwrap_or(0);
        head.losses = small(headers::LOSSES)?.unwrap_or(0);
        head.rounds = small(headers::ROUNDS)?.unwrap_or(0);
        let at = |name: &str| {
            Ok::<_, String>(integer(table, name, 0, u64::MAX)?.map(Timestamp::from_ms))
        };
        head.accepted_at = at(headers::ACCEPTED_AT)?;
        head.start_by = at(headers::START_BY)?;
        head.checkpoint_at = integer(table, headers::CHECKPOINT_AT, 0, u64::MAX)?;
        head.is_suspect = matches!(table.inner().get(headers::SUSPECT), Some(Value::Boolean(true)));
        head.user = string(table, headers::USER)?;
        head.priority = *properties.priority();
        head.reply_to = text(properties.reply_to());
        head.correlation_id = text(properties.correlation_id());
        head.content_type = text(properties.content_type());
        head.content_encoding = text(properties.content_encoding());
        read_headers(&mut head, table)?;
        head.headers = as_submitted(table);
        head.check()?;
        Ok(head)
    };
    read().map_err(CopyError)
}

/// The headers without the broker's and without those that only dispatchers write.
fn as_submitted(table: &Headers) -> Headers {
    const OWN: [&str; 9] = [
        headers::ATTEMPT,
        headers::FAILURES,
        headers::LOSSES,
        headers::ACCEPTED_AT,
        headers::START_BY,
        headers::USER,
        headers::SUSPECT,
        headers::ROUNDS,
        headers::CHECKPOINT_AT,
    ];
    let mut submitted = Headers::default();
    for (name, value) in &kept(table) {
        if !OWN.contains(&name.as_str()) {
            submitted.insert(name.clone(), value.clone());
        }
    }
    submitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_comes_back_as_it_went() {
        let mut head = Head::new("t1".parse().unwrap(), "echo".parse().unwrap());
        head.attempt = 3;
        head.failures = 1;
        head.priority = Some(4);
        head.accepted_at = Some(Timestamp::from_ms(5));
        head.start_by = Some(Timestamp::from_ms(6));
        head.user = Some("me".into());
        head.is_suspect = true;
        head.max_attempts = Some(9);
        head.headers.insert("x-task-max-attempts".into(), Value::LongInt(9));
        head.headers.insert("mine".into(), Value::LongString("kept".into()));
        assert_eq!(read_copy(&write_copy(&head)).unwrap(), head);
    }

    #[test]
    fn what_is_no_copy_says_why() {
        let error = read_copy(&Properties::default()).unwrap_err();
        assert_eq!(error.to_string(), "not a copy of a task: it has no message_id");
    }
}
