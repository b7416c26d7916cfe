use super::{Head, headers};
use crate::amqp::{Headers, Properties, Value};
use crate::names::Names;
use taskyard_model::{ErrorKind, Kind, PAYLOAD_BYTES_MAX, PRIORITY_MAX, TaskId, Timestamp};

/// A submission that follows the rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// The task.
    pub head: Box<Head>,
    /// Whether the submitter gave it its id.
    pub is_named: bool,
}

/// Why a submission is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Which rule it breaks, and what to do.
    pub reason: String,
    /// What its record says.
    pub error_kind: ErrorKind,
    /// Its id, where it is usable.
    pub id: Option<TaskId>,
}

/// Longest time in ms that a header may name: ten years, which catches seconds-for-milliseconds
/// mistakes in neither direction but keeps dates from overflowing.
pub(super) const MS_MAX: u64 = 10 * 366 * 86_400_000;
const TENANT_CHARS_MAX: usize = 128;
pub(super) const SLOTS_MAX: u64 = 10_000;
/// Bytes that the headers of a submission may take. AMQP wants all headers of a message in one frame
/// of 128 KiB; what travels with ours besides, an error's text for one, has to fit in as well.
pub const HEADERS_BYTES_MAX: usize = 64 * 1024;
/// Longest text of a refusal in bytes: it may quote what was submitted.
const REASON_BYTES_MAX: usize = 1024;
/// What begins so is the type of a message of ours, now or later.
const RESERVED_TYPES: &str = "application/vnd.taskyard.";

/// Reads what a client published: properties, routing key and size of the payload.
///
/// `now` turns delays into instants; `fresh_id` names a task that has no id.
///
/// # Errors
/// The first rule that it breaks.
pub fn read_submission(
    properties: &Properties,
    routing_key: &str,
    payload_bytes: usize,
    names: &Names,
    now: Timestamp,
    fresh_id: impl FnOnce() -> TaskId,
) -> Result<Submission, Refusal> {
    let refuse = |mut reason: String, id: Option<TaskId>| {
        let end = (0..=REASON_BYTES_MAX).rev().find(|&end| reason.is_char_boundary(end));
        reason.truncate(end.unwrap_or(0));
        Refusal { reason, error_kind: ErrorKind::Rejected, id }
    };
    let given = properties.message_id().as_ref().map(|id| id.as_str());
    let id = match given {
        None => None,
        Some(text) => match TaskId::new(text) {
            Ok(id) => Some(id),
            Err(error) => return Err(refuse(format!("message_id: {error}"), None)),
        },
    };
    let is_named = id.is_some();
    let read = || -> Result<Box<Head>, String> {
        let id = id.clone().unwrap_or_else(fresh_id);
        let kind = properties.kind().as_ref().map_or(routing_key, |kind| kind.as_str());
        let kind = Kind::new(kind).map_err(|error| error.to_string())?;
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(format!(
                "the payload has {payload_bytes} bytes, more than {PAYLOAD_BYTES_MAX}: store it elsewhere and \
                 submit its address"
            ));
        }
        let mut head = Box::new(Head::new(id, kind));
        read_properties(&mut head, properties, names, now)?;
        if let Some(table) = properties.headers() {
            refuse_foreign_headers(table)?;
            read_headers(&mut head, table)?;
            read_time(&mut head, table, now)?;
            head.headers = kept(table);
        }
        Ok(head)
    };
    match read() {
        Ok(head) => Ok(Submission { head, is_named }),
        Err(reason) => Err(refuse(reason, id)),
    }
}

fn read_properties(
    head: &mut Head,
    properties: &Properties,
    names: &Names,
    now: Timestamp,
) -> Result<(), String> {
    let text =
        |property: &Option<crate::amqp::ShortString>| property.as_ref().map(ToString::to_string);
    head.priority = *properties.priority();
    if let Some(priority) = head.priority.filter(|&priority| priority > PRIORITY_MAX) {
        return Err(format!("priority {priority} is not 0 to {PRIORITY_MAX}"));
    }
    if let Some(expiration) = text(properties.expiration()) {
        let ms = expiration.trim().parse::<u64>().ok().filter(|&ms| ms <= MS_MAX);
        let ms =
            ms.ok_or_else(|| format!("expiration {expiration:?} is not a number of milliseconds"))?;
        head.start_by = Some(now + std::time::Duration::from_millis(ms));
    }
    head.reply_to = text(properties.reply_to()).filter(|queue| !queue.is_empty());
    if let Some(queue) = head.reply_to.as_ref().filter(|queue| names.owns(queue)) {
        return Err(format!(
            "reply_to {queue:?} is a queue of Taskyard itself: use one of your own"
        ));
    }
    head.correlation_id = text(properties.correlation_id());
    head.user = text(properties.user_id());
    head.content_type = text(properties.content_type());
    head.content_encoding = text(properties.content_encoding());
    let is_reserved = |given: &str| {
        given.get(..RESERVED_TYPES.len()).is_some_and(|b| b.eq_ignore_ascii_case(RESERVED_TYPES))
    };
    if head.content_type.as_deref().is_some_and(is_reserved) {
        return Err("this content_type is Taskyard's own: it cannot be a payload's".to_owned());
    }
    Ok(())
}

/// Headers of the contract that a later version brings.
const LATER: [&str; 4] = ["x-task-after", "x-task-unique", "x-task-affinity", "x-task-needs"];
/// Headers that only a dispatcher writes.
const OWN: [&str; 3] = [headers::ATTEMPT, headers::FAILURES, headers::LOSSES];
/// Headers of a submission.
const KNOWN: [&str; 13] = [
    "x-task-max-attempts",
    "x-task-max-losses",
    "x-task-backoff",
    "x-task-delay",
    "x-task-eta",
    "x-task-timeout",
    "x-task-deadline",
    "x-task-tenant",
    "x-task-requires",
    "x-task-slots",
    "x-task-estimate",
    "x-task-keep",
    "traceparent",
];

/// Bytes that headers take on the wire.
#[must_use]
pub fn headers_bytes(table: &Headers) -> usize {
    fn value_bytes(value: &Value) -> usize {
        5 + match value {
            Value::LongString(text) => text.as_bytes().len(),
            Value::ShortString(text) => text.as_str().len(),
            Value::ByteArray(bytes) => bytes.as_slice().len(),
            Value::FieldTable(table) => headers_bytes(table),
            Value::FieldArray(array) => array.as_slice().iter().map(value_bytes).sum(),
            _ => 4,
        }
    }
    table.inner().iter().map(|(name, value)| 1 + name.as_str().len() + value_bytes(value)).sum()
}

fn refuse_foreign_headers(table: &Headers) -> Result<(), String> {
    let bytes = headers_bytes(table);
    if bytes > HEADERS_BYTES_MAX {
        return Err(format!(
            "the headers have {bytes} bytes, more than {HEADERS_BYTES_MAX}: put data into the payload"
        ));
    }
    // Before all others: its remains name a reason, too.
    if let Some(fault) = string(table, headers::UNREADABLE)? {
        return Err(fault);
    }
    for (name, _) in table {
        let name = name.as_str();
        if LATER.contains(&name) {
            return Err(format!("{name} is not supported yet by this version: leave it out"));
        }
        if OWN.contains(&name) {
            return Err(format!("{name} is set by the dispatcher alone: leave it out"));
        }
        if name.starts_with("x-task-") && !KNOWN.contains(&name) {
            return Err(format!("{name} is no header that Taskyard knows; is it misspelt?"));
        }
    }
    Ok(())
}

/// What headers say of a task, in a submission or a copy.
pub(super) fn read_headers(head: &mut Head, table: &Headers) -> Result<(), String> {
    let number = |name: &str, low: u64, high: u64| integer(table, name, low, high);
    let small = |name: &str, low: u64, high: u64| {
        Ok::<_, String>(integer(table, name, low, high)?.and_then(|n| u32::try_from(n).ok()))
    };
    head.max_attempts = small("x-task-max-attempts", 1, 100)?;
    head.max_losses = small("x-task-max-losses", 0, 100)?;
    head.timeout_ms = number("x-task-timeout", 1, MS_MAX)?;
    head.deadline = number("x-task-deadline", 0, u64::MAX)?.map(Timestamp::from_ms);
    head.slots = small("x-task-slots", 1, SLOTS_MAX)?.unwrap_or(1);
    head.estimate_ms = number("x-task-estimate", 0, MS_MAX)?;
    head.keep_ms = number("x-task-keep", 0, MS_MAX)?;
    head.backoff = parsed(table, "x-task-backoff")?;
    head.requires = parsed(table, "x-task-requires")?.unwrap_or_default();
    head.tenant = string(table, "x-task-tenant")?;
    if let Some(tenant) = &head.tenant {
        let is_wrong = tenant.is_empty() || tenant.chars().any(char::is_control);
        if is_wrong || tenant.chars().count() > TENANT_CHARS_MAX {
            return Err(format!(
                "x-task-tenant is not 1 to {TENANT_CHARS_MAX} printable characters: {tenant:?}"
            ));
        }
    }
    string(table, "traceparent").map(drop)
}

fn read_time(head: &mut Head, table: &Headers, now: Timestamp) -> Result<(), String> {
    let delay = integer(table, "x-task-delay", 0, MS_MAX)?;
    let eta = match table.inner().get("x-task-eta") {
        // Before 1970 is past like any other past.
        Some(value) if is_negative(value) => Some(0),
        _ => integer(table, "x-task-eta", 0, u64::MAX)?,
    };
    let eta = eta.map(Timestamp::from_ms);
    head.due_at = match (delay, eta) {
        (Some(_), Some(_)) => {
            return Err("x-task-delay and x-task-eta are both given: keep one".to_owned());
        }
        (Some(delay), None) => Some(now + std::time::Duration::from_millis(delay)),
        (None, eta) => eta,
    }
    .filter(|&due_at| due_at > now);
    match head.due_at.is_some_and(|due_at| due_at.since(now).as_millis() > u128::from(MS_MAX)) {
        true => {
            Err("x-task-eta is more than ten years away: is it in milliseconds since 1970?"
                .to_owned())
        }
        false => Ok(()),
    }
}

/// The headers that travel on with the task: all that the broker has not added itself.
#[must_use]
pub fn kept(table: &Headers) -> Headers {
    let is_brokers = |name: &str| {
        matches!(name, "x-death" | "x-delivery-count" | "CC" | "BCC")
            || name.starts_with("x-first-death-")
            || name.starts_with("x-last-death-")
    };
    let mut kept = Headers::default();
    for (name, value) in table {
        if !is_brokers(name.as_str()) {
            kept.insert(name.clone(), value.clone());
        }
    }
    kept
}

/// An integer header: any AMQP integer type, or a decimal string.
pub(super) fn integer(
    table: &Headers,
    name: &str,
    low: u64,
    high: u64,
) -> Result<Option<u64>, String> {
    let Some(value) = table.inner().get(name) else { return Ok(None) };
    let read = match value {
        Value::ShortShortInt(n) => u64::try_from(*n).ok(),
        Value::ShortShortUInt(n) => Some(u64::from(*n)),
        Value::ShortInt(n) => u64::try_from(*n).ok(),
        Value::ShortUInt(n) => Some(u64::from(*n)),
        Value::LongInt(n) => u64::try_from(*n).ok(),
        Value::LongUInt(n) => Some(u64::from(*n)),
        Value::LongLongInt(n) => u64::try_from(*n).ok(),
        Value::LongString(text) => {
            std::str::from_utf8(text.as_bytes()).ok().and_then(|text| text.trim().parse().ok())
        }
        Value::ShortString(text) => text.as_str().trim().parse().ok(),
        _ => None,
    };
    match read.filter(|n| (low..=high).contains(n)) {
        Some(n) => Ok(Some(n)),
        None if high == u64::MAX => Err(format!("{name} is not a whole number from {low}")),
        None => Err(format!("{name} is not a whole number from {low} to {high}")),
    }
}

fn is_negative(value: &Value) -> bool {
    match value {
        Value::ShortShortInt(n) => *n < 0,
        Value::ShortInt(n) => *n < 0,
        Value::LongInt(n) => *n < 0,
        Value::LongLongInt(n) => *n < 0,
        Value::LongString(text) => {
            let text = std::str::from_utf8(text.as_bytes()).unwrap_or_default();
            text.trim().parse::<i64>().is_ok_and(|n| n < 0)
        }
        _ => false,
    }
}

/// A text header.
pub(super) fn string(table: &Headers, name: &str) -> Result<Option<String>, String> {
    match table.inner().get(name) {
        None => Ok(None),
        Some(Value::LongString(text)) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(format!("{name} is not UTF-8")),
        },
        Some(Value::ShortString(text)) => Ok(Some(text.to_string())),
        Some(_) => Err(format!("{name} is not a text")),
    }
}

fn parsed<T>(table: &Headers, name: &str) -> Result<Option<T>, String>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let Some(text) = string(table, name)? else { return Ok(None) };
    text.parse().map(Some).map_err(|error| format!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(properties: Properties) -> Result<Submission, Refusal> {
        let now = Timestamp::from_ms(1_000);
        read_submission(&properties, "echo", 3, &Names::new("taskyard"), now, || {
            "fresh".parse().unwrap()
        })
    }

    fn with(name: &str, value: Value) -> Properties {
        let mut table = Headers::default();
        table.insert(name.into(), value);
        Properties::default().with_message_id("t1".into()).with_headers(table)
    }

    fn text(text: &str) -> Value {
        Value::LongString(text.into())
    }

    #[test]
    fn the_least_submission_is_a_routing_key() {
        let submission = read(Properties::default()).unwrap();
        assert!(!submission.is_named);
        assert_eq!(*submission.head, Head::new("fresh".parse().unwrap(), "echo".parse().unwrap()));
    }

    #[test]
    fn integers_come_in_any_type() {
        for value in [
            Value::LongInt(7),
            Value::ShortShortUInt(7),
            Value::LongLongInt(7),
            text("7"),
            text(" 7 "),
        ] {
            assert_eq!(
                read(with("x-task-max-attempts", value)).unwrap().head.max_attempts,
                Some(7)
            );
        }
    }

    #[test]
    fn what_breaks_a_rule_is_refused_with_its_id() {
        let cases = [
            ("x-task-max-attempts", Value::LongInt(0)),
            ("x-task-max-attempts", Value::LongInt(101)),
            ("x-task-max-attempts", Value::Double(1.0)),
            ("x-task-max-attempts", text("many")),
            ("x-task-backoff", text("sometimes")),
            ("x-task-delay", Value::LongInt(-1)),
            ("x-task-eta", text("tomorrow")),
            ("x-task-timeout", Value::LongInt(0)),
            ("x-task-slots", Value::LongInt(0)),
            ("x-task-tenant", text("")),
            ("x-task-requires", text("gpu,,")),
            ("x-task-attempt", Value::LongInt(1)),
            ("x-task-after", text("t0")),
            ("x-task-dealy", Value::LongInt(1)),
            ("x-task-user", text("root")),
            ("traceparent", Value::Boolean(true)),
        ];
        for (name, value) in cases {
            let refusal = read(with(name, value.clone())).unwrap_err();
            assert_eq!(refusal.id, Some("t1".parse().unwrap()), "{name}");
            assert!(refusal.reason.contains(name), "{name} {value:?}: {}", refusal.reason);
        }
    }

    #[test]
    fn broker_headers_do_not_travel_on() {
        let submission = read(with("x-death", text("forged"))).unwrap();
        assert!(submission.head.headers.inner().is_empty());
        let submission = read(with("mine", Value::Boolean(true))).unwrap();
        assert_eq!(submission.head.headers.inner().len(), 1);
    }

    #[test]
    fn types_of_our_own_messages_are_no_payloads() {
        let typed = |t: &str| read(Properties::default().with_content_type(t.into()));
        for own in ["application/vnd.taskyard.train", "Application/VND.Taskyard.new; x=1"] {
            assert!(typed(own).unwrap_err().reason.contains("content_type"), "{own}");
        }
        assert!(typed("application/vnd.taskyards+json").is_ok());
    }

    #[test]
    fn a_delay_in_the_past_is_now() {
        for past in [Value::LongInt(999), Value::LongLongInt(-5), text("-5")] {
            assert_eq!(read(with("x-task-eta", past)).unwrap().head.due_at, None);
        }
        let later = read(with("x-task-delay", Value::LongInt(5))).unwrap().head.due_at;
        assert_eq!(later, Some(Timestamp::from_ms(1_005)));
    }
}
