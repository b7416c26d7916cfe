mod error;
mod header;
mod write;

pub use error::SubmissionError;
pub use header::HeaderValue;
pub(crate) use write::fresh_id;

use bytes::Bytes;
use serde::Serialize;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use taskyard_common::amqp::{Headers, Properties, ShortString, Value};
use taskyard_model::{Backoff, Kind, Labels, PAYLOAD_BYTES_MAX, PRIORITY_MAX, TaskId};

/// The longest duration that a submission may name: ten years.
const MS_MAX: u64 = 10 * 366 * 86_400_000;
/// The latest instant that fits an AMQP integer.
const INSTANT_MAX: u64 = i64::MAX.unsigned_abs();

/// A task to be submitted: a kind, a payload, and what else there is to say.
///
/// Every setter checks its rule at once and keeps the first one broken, which
/// [`check`](Self::check) shows and every way to submit returns before anything is sent; so a chain
/// needs no `?`. What is not set is the kind's, the pool's or the contract's default.
///
/// ```
/// use std::time::Duration;
/// use taskyard_producer::{Backoff, Submission};
///
/// let task = Submission::new("report.monthly")
///     .payload(r#"{"month":"2024-02"}"#)
///     .id("report-2024-02") // submitting it again changes nothing
///     .timeout(Duration::from_secs(600))
///     .backoff(Backoff::Fixed { base_ms: 5_000 })
///     .requires("zone=eu");
/// assert!(task.check().is_ok());
///
/// let wrong = Submission::new("report.monthly").priority(10);
/// assert_eq!(wrong.check().unwrap_err().to_string(), "priority is 10, and must be 0 to 9");
/// ```
#[derive(Clone, Debug)]
pub struct Submission {
    pub(crate) kind: String,
    pub(crate) id: Option<TaskId>,
    pub(crate) payload: Bytes,
    pub(crate) properties: Properties,
    pub(crate) headers: Headers,
    problem: Option<SubmissionError>,
}

impl Submission {
    /// A task of this kind (`image.resize`), with an empty payload and everything else by default.
    #[must_use]
    pub fn new(kind: impl Into<String>) -> Self {
        let kind = kind.into();
        let problem = Kind::new(&kind).err().map(SubmissionError::Kind);
        Self {
            kind,
            id: None,
            payload: Bytes::new(),
            properties: Properties::default(),
            headers: Headers::default(),
            problem,
        }
    }

    /// The payload: opaque bytes, at most 16 MiB.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = payload.into();
        match self.payload.len() {
            0..=PAYLOAD_BYTES_MAX => self,
            bytes => self.broken(SubmissionError::PayloadTooLarge(bytes)),
        }
    }

    /// The payload as JSON, with content type `application/json`.
    ///
    /// # Errors
    /// The value cannot be written as JSON (a map whose keys are not texts, say), or a setter before
    /// this one broke its rule.
    pub fn json<T: Serialize + ?Sized>(self, payload: &T) -> Result<Self, SubmissionError> {
        self.check()?;
        let json = serde_json::to_vec(payload);
        let json = json.map_err(|error| SubmissionError::Json(Arc::new(error)))?;
        let task = self.payload(json).content_type("application/json");
        task.check().map(|()| task)
    }

    /// The id, 1 to 128 characters of `A-Z a-z 0-9 . _ : -`. Default: a new UUIDv7.
    ///
    /// While the id is remembered, submitting it again changes nothing.
    #[must_use]
    pub fn id(mut self, id: impl AsRef<str>) -> Self {
        match TaskId::new(id.as_ref()) {
            Ok(id) => {
                self.id = Some(id);
                self
            }
            Err(error) => self.broken(SubmissionError::Id(error)),
        }
    }

    /// The kind where it differs from the routing key: the message goes to the pool of the routing
    /// key first, and from there to the pool of the kind.
    #[must_use]
    pub fn type_property(mut self, kind: impl AsRef<str>) -> Self {
        if let Err(error) = Kind::new(kind.as_ref()) {
            return self.broken(SubmissionError::Kind(error));
        }
        self.properties = self.properties.with_type(ShortString::from(kind.as_ref()));
        self
    }

    /// 0 to 9; 9 goes first.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.properties = self.properties.with_priority(priority);
        self.in_range("priority", priority.into(), 0, PRIORITY_MAX.into())
    }

    /// Not started within this time: `expired`, and never run. At most ten years.
    #[must_use]
    pub fn expires_after(mut self, after: Duration) -> Self {
        let ms = after.as_millis();
        self.properties = self.properties.with_expiration(ms.to_string().as_str().into());
        self.in_range("expires_after in ms", ms, 0, MS_MAX)
    }

    /// Attempts that may fail before the task has failed, 1 to 100. Default: the kind's, else 5.
    #[must_use]
    pub fn max_attempts(self, attempts: u32) -> Self {
        self.integer("max_attempts", "x-task-max-attempts", attempts.into(), 1, 100)
    }

    /// The wait before the next attempt. Default: the kind's, else exponential from 1 s to 10 min.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        let text = backoff.to_string();
        match text.parse::<Backoff>() {
            Ok(_) => self.header_text("x-task-backoff", &text),
            Err(error) => self.broken(SubmissionError::Backoff(error)),
        }
    }

    /// Attempts whose worker died under them that the task survives, 0 to 100. Default: 5.
    #[must_use]
    pub fn max_losses(self, losses: u32) -> Self {
        self.integer("max_losses", "x-task-max-losses", losses.into(), 0, 100)
    }

    /// Not to be started before so long after its intake. Excludes [`eta`](Self::eta).
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        self.integer("delay in ms", "x-task-delay", delay.as_millis(), 0, MS_MAX)
    }

    /// Not to be started before this instant; in the past is now. Excludes [`delay`](Self::delay).
    #[must_use]
    pub fn eta(self, at: SystemTime) -> Self {
        self.integer("eta in ms since 1970", "x-task-eta", ms_of(at), 0, INSTANT_MAX)
    }

    /// How long one attempt may run; past it the attempt fails with `timeout`. At least 1 ms.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.integer("timeout in ms", "x-task-timeout", timeout.as_millis(), 1, MS_MAX)
    }

    /// The instant by which it should be finished: kills nothing. Dispatchers of this version record it,
    /// and their orders do not use it.
    #[must_use]
    pub fn deadline(self, at: SystemTime) -> Self {
        self.integer("deadline in ms since 1970", "x-task-deadline", ms_of(at), 0, INSTANT_MAX)
    }

    /// Who it is charged to, 1 to 128 printable characters. Dispatchers of this version record it, and
    /// their orders do not use it.
    #[must_use]
    pub fn tenant(self, tenant: impl AsRef<str>) -> Self {
        let tenant = tenant.as_ref();
        match is_printable(tenant, 128) {
            true => self.header_text("x-task-tenant", tenant),
            false => self.text_problem("tenant", "1 to 128 printable characters"),
        }
    }

    /// Worker labels, all needed, separated by commas: `gpu,zone=eu`.
    #[must_use]
    pub fn requires(self, labels: impl AsRef<str>) -> Self {
        match labels.as_ref().parse::<Labels>() {
            Ok(labels) => self.header_text("x-task-requires", &labels.to_string()),
            Err(error) => self.broken(SubmissionError::Requires(error)),
        }
    }

    /// Worker slots that it takes, 1 to 10,000. Default: 1.
    #[must_use]
    pub fn slots(self, slots: u32) -> Self {
        self.integer("slots", "x-task-slots", slots.into(), 1, 10_000)
    }

    /// Expected run time. Dispatchers of this version record it, and their orders do not use it.
    #[must_use]
    pub fn estimate(self, estimate: Duration) -> Self {
        self.integer("estimate in ms", "x-task-estimate", estimate.as_millis(), 0, MS_MAX)
    }

    /// How long the final state is remembered; zero = as short as safety allows.
    #[must_use]
    pub fn keep(self, keep: Duration) -> Self {
        self.integer("keep in ms", "x-task-keep", keep.as_millis(), 0, MS_MAX)
    }

    /// Same value, same worker while it lives. Dispatchers of this version refuse it.
    #[must_use]
    pub fn affinity(self, value: impl AsRef<str>) -> Self {
        self.later_text("affinity", "x-task-affinity", value.as_ref())
    }

    /// Resources that it takes (`cpu=2,memory=4g`). Dispatchers of this version refuse it.
    #[must_use]
    pub fn needs(self, resources: impl AsRef<str>) -> Self {
        self.later_text("needs", "x-task-needs", resources.as_ref())
    }

    /// While a task with this key is not final, another one is rejected as a duplicate. Dispatchers
    /// of this version refuse it.
    #[must_use]
    pub fn unique(self, key: impl AsRef<str>) -> Self {
        self.later_text("unique", "x-task-unique", key.as_ref())
    }

    /// Tasks that must succeed first. Dispatchers of this version refuse it.
    #[must_use]
    pub fn after<'a>(self, ids: impl IntoIterator<Item = &'a TaskId>) -> Self {
        let ids: Vec<&str> = ids.into_iter().map(TaskId::as_str).collect();
        self.later_text("after", "x-task-after", &ids.join(","))
    }

    /// W3C trace context.
    #[must_use]
    pub fn traceparent(self, traceparent: impl AsRef<str>) -> Self {
        let text = traceparent.as_ref();
        match is_printable(text, 256) {
            true => self.header_text("traceparent", text),
            false => self.text_problem("traceparent", "a W3C trace context"),
        }
    }

    /// Where to send the final state, besides Redis: a queue of your own.
    #[must_use]
    pub fn reply_to(mut self, queue: impl AsRef<str>) -> Self {
        if !is_printable(queue.as_ref(), 255) {
            return self.text_problem("reply_to", "the name of a queue, 1 to 255 bytes");
        }
        self.properties = self.properties.with_reply_to(ShortString::from(queue.as_ref()));
        self
    }

    /// Comes back with the reply, untouched. At most 255 bytes.
    #[must_use]
    pub fn correlation_id(mut self, id: impl AsRef<str>) -> Self {
        if id.as_ref().len() > 255 {
            return self.text_problem("correlation_id", "at most 255 bytes");
        }
        self.properties = self.properties.with_correlation_id(ShortString::from(id.as_ref()));
        self
    }

    /// The user that the connection logs in as: RabbitMQ checks it, and closes the channel if it is
    /// another.
    #[must_use]
    pub fn user_id(mut self, user: impl AsRef<str>) -> Self {
        if !is_printable(user.as_ref(), 255) {
            return self.text_problem("user_id", "the user of the connection");
        }
        self.properties = self.properties.with_user_id(ShortString::from(user.as_ref()));
        self
    }

    /// The payload's type, passed on untouched.
    #[must_use]
    pub fn content_type(mut self, content_type: impl AsRef<str>) -> Self {
        if !is_printable(content_type.as_ref(), 255) {
            return self.text_problem("content_type", "1 to 255 printable bytes");
        }
        self.properties = self.properties.with_content_type(content_type.as_ref().into());
        self
    }

    /// The payload's encoding, passed on untouched.
    #[must_use]
    pub fn content_encoding(mut self, encoding: impl AsRef<str>) -> Self {
        if !is_printable(encoding.as_ref(), 255) {
            return self.text_problem("content_encoding", "1 to 255 printable bytes");
        }
        self.properties = self.properties.with_content_encoding(encoding.as_ref().into());
        self
    }

    /// A header of your own, passed on to the worker untouched.
    #[must_use]
    pub fn header(mut self, name: impl Display, value: impl Into<HeaderValue>) -> Self {
        let name = name.to_string();
        if let Some(why) = header::problem(&name) {
            return self.broken(SubmissionError::Header { name, why });
        }
        self.headers.insert(name.as_str().into(), value.into().into());
        self
    }

    /// The id that it was given; without one it gets a new one when it is submitted.
    #[must_use]
    pub fn given_id(&self) -> Option<&TaskId> {
        self.id.as_ref()
    }

    /// Gives it its id now if it has none yet, for those who write it down before they submit.
    pub fn fix_id(&mut self) -> TaskId {
        self.id.get_or_insert_with(fresh_id).clone()
    }

    /// The payload.
    #[must_use]
    pub fn payload_bytes(&self) -> &Bytes {
        &self.payload
    }

    /// Whether every setter's rule is kept.
    ///
    /// # Errors
    /// The first rule that was broken.
    pub fn check(&self) -> Result<(), SubmissionError> {
        self.problem.clone().map_or(Ok(()), Err)
    }

    fn broken(mut self, problem: SubmissionError) -> Self {
        self.problem.get_or_insert(problem);
        self
    }

    fn text_problem(self, what: &'static str, rule: &'static str) -> Self {
        self.broken(SubmissionError::Text { what, rule })
    }

    fn in_range(self, what: &'static str, given: u128, low: u64, high: u64) -> Self {
        match (u128::from(low)..=u128::from(high)).contains(&given) {
            true => self,
            false => self.broken(SubmissionError::OutOfRange { what, given, low, high }),
        }
    }

    fn integer(
        mut self,
        what: &'static str,
        header: &str,
        given: u128,
        low: u64,
        high: u64,
    ) -> Self {
        let value = Value::LongLongInt(i64::try_from(given).unwrap_or(i64::MAX));
        self.headers.insert(header.into(), value);
        self.in_range(what, given, low, high)
    }

    fn header_text(mut self, header: &str, text: &str) -> Self {
        self.headers.insert(header.into(), Value::LongString(text.into()));
        self
    }

    fn later_text(self, what: &'static str, header: &str, text: &str) -> Self {
        match text.is_empty() || text.chars().any(char::is_control) {
            true => self.text_problem(what, "printable and not empty"),
            false => self.header_text(header, text),
        }
    }
}

impl<T: Into<String>> From<T> for Submission {
    fn from(kind: T) -> Self {
        Self::new(kind)
    }
}

fn is_printable(text: &str, bytes_max: usize) -> bool {
    !text.is_empty() && text.len() <= bytes_max && !text.chars().any(char::is_control)
}

fn ms_of(at: SystemTime) -> u128 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

#[cfg(test)]
mod tests;
