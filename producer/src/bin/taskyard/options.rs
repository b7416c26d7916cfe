use crate::when;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use taskyard_model::{Backoff, Timestamp};
use taskyard_producer::{HeaderValue, Submission};

/// What there is to say of a task besides kind, id and payload: on the command line, and with the
/// same names (with `_`) in a line of a file.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TaskOptions {
    /// 0 to 9, 9 first [default: the kind's or pool's]
    #[arg(long, value_name = "N")]
    priority: Option<u8>,
    /// Not to be started before so long from now
    #[arg(long, value_name = "DURATION", value_parser = when::duration, conflicts_with = "eta")]
    #[serde(deserialize_with = "a_duration")]
    delay: Option<Duration>,
    /// Not to be started before this instant
    #[arg(long, value_name = "INSTANT", value_parser = when::instant)]
    #[serde(deserialize_with = "an_instant")]
    eta: Option<Timestamp>,
    /// Not started within this time: expired, never run
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    #[serde(deserialize_with = "a_duration")]
    expires: Option<Duration>,
    /// How long one attempt may run (how long to wait is --wait-timeout)
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    #[serde(deserialize_with = "a_duration")]
    timeout: Option<Duration>,
    /// Attempts, 1 to 100 [default: the kind's, else 5]
    #[arg(long, value_name = "N")]
    #[serde(alias = "max-attempts")]
    max_attempts: Option<u32>,
    /// Wait before the next attempt: fixed:MS, linear:MS or exponential:MS:CAP_MS
    #[arg(long, value_name = "BACKOFF")]
    #[serde(deserialize_with = "a_backoff")]
    backoff: Option<Backoff>,
    /// Attempts that may be lost with their worker, 0 to 100 [default: 5]
    #[arg(long, value_name = "N")]
    #[serde(alias = "max-losses")]
    max_losses: Option<u32>,
    /// Who it is charged to; recorded, not used by the present orders
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Worker labels, all needed: gpu,zone=eu
    #[arg(long, value_name = "LABELS")]
    requires: Option<String>,
    /// Worker slots that it takes [default: 1]
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// When it should be finished: kills nothing; recorded, not used by the present orders
    #[arg(long, value_name = "INSTANT", value_parser = when::instant)]
    #[serde(deserialize_with = "an_instant")]
    deadline: Option<Timestamp>,
    /// Expected run time; recorded, not used by the present orders
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    #[serde(deserialize_with = "a_duration")]
    estimate: Option<Duration>,
    /// How long the final state is remembered [default: 1 h after success, else 7 d]
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    #[serde(deserialize_with = "a_duration")]
    keep: Option<Duration>,
    /// Type of the payload
    #[arg(long, value_name = "TYPE")]
    #[serde(alias = "content-type")]
    pub(crate) content_type: Option<String>,
    /// Encoding of the payload
    #[arg(long, value_name = "ENCODING")]
    #[serde(alias = "content-encoding")]
    content_encoding: Option<String>,
    /// A header of your own; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    #[serde(skip)]
    header: Vec<(String, String)>,
    /// W3C trace context
    #[arg(long, value_name = "TRACEPARENT")]
    traceparent: Option<String>,
    /// Queue that hears of the end
    #[arg(long, value_name = "QUEUE", conflicts_with = "wait")]
    #[serde(alias = "reply-to")]
    reply_to: Option<String>,
    /// Comes back with the reply
    #[arg(long, value_name = "ID")]
    #[serde(alias = "correlation-id")]
    correlation_id: Option<String>,
    /// Headers, in a line of a file.
    #[arg(skip)]
    headers: BTreeMap<String, AnyHeader>,
}

/// The value of a header in a line of a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum AnyHeader {
    Boolean(bool),
    Integer(i64),
    Text(String),
}

impl TaskOptions {
    /// Says all of it of a task; what the task said before is overruled.
    pub(crate) fn apply(&self, mut task: Submission) -> Submission {
        macro_rules! say {
            ($($field:ident => $setter:ident),+ $(,)?) => {
                $(if let Some(value) = self.$field.clone() { task = task.$setter(value); })+
            };
        }
        say!(
            priority => priority, delay => delay, expires => expires_after, timeout => timeout,
            max_attempts => max_attempts, backoff => backoff, max_losses => max_losses,
            tenant => tenant, requires => requires, slots => slots, estimate => estimate,
            keep => keep, content_type => content_type, content_encoding => content_encoding,
            traceparent => traceparent, reply_to => reply_to, correlation_id => correlation_id,
        );
        if let Some(at) = self.eta {
            task = task.eta(clock(at));
        }
        if let Some(at) = self.deadline {
            task = task.deadline(clock(at));
        }
        for (name, value) in &self.header {
            task = task.header(name, value.as_str());
        }
        for (name, value) in &self.headers {
            task = task.header(name, value.clone());
        }
        task
    }
}

/// How the text of a cell is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Text,
    Number,
}

/// What a table's column of this name says of a task; `None` if it is none of a line's options.
pub(crate) fn cell(name: &str) -> Option<Cell> {
    if ["kind", "id", "data", "data_base64"].contains(&name) {
        return Some(Cell::Text);
    }
    // The options themselves know, so that there is no second list of them.
    let takes = |value: Value| {
        let line = Value::Object([(name.to_owned(), value)].into_iter().collect());
        TaskOptions::deserialize(line).is_ok()
    };
    match (takes(Value::Null), takes(1.into()), takes("1".into())) {
        (false, ..) => None,
        (true, true, false) => Some(Cell::Number),
        (true, ..) => Some(Cell::Text),
    }
}

impl From<AnyHeader> for HeaderValue {
    fn from(value: AnyHeader) -> Self {
        match value {
            AnyHeader::Boolean(b) => b.into(),
            AnyHeader::Integer(n) => n.into(),
            AnyHeader::Text(text) => text.into(),
        }
    }
}

fn clock(at: Timestamp) -> SystemTime {
    // Far beyond what a submission may name, and within what the clock can hold.
    const LATEST_MS: u64 = 1 << 53;
    UNIX_EPOCH + Duration::from_millis(at.as_ms().min(LATEST_MS))
}

fn header(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((parts.0.to_owned(), parts.1.to_owned()))
}

/// A number of milliseconds or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Time {
    Ms(u64),
    Text(String),
}

fn a_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    match Option::<Time>::deserialize(from)? {
        None => Ok(None),
        Some(Time::Ms(ms)) => Ok(Some(Duration::from_millis(ms))),
        Some(Time::Text(text)) => when::duration(&text).map(Some).map_err(serde::de::Error::custom),
    }
}

fn an_instant<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    match Option::<Time>::deserialize(from)? {
        None => Ok(None),
        Some(Time::Ms(ms)) => Ok(Some(Timestamp::from_ms(ms))),
        Some(Time::Text(text)) => when::instant(&text).map(Some).map_err(serde::de::Error::custom),
    }
}

fn a_backoff<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Backoff>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_with_the_names_of_options_are_known() {
        for name in ["priority", "max_attempts", "max-losses", "slots"] {
            assert_eq!(cell(name), Some(Cell::Number), "{name}");
        }
        let texts = ["kind", "id", "data", "delay", "eta", "timeout", "backoff", "tenant", "keep"];
        for name in texts {
            assert_eq!(cell(name), Some(Cell::Text), "{name}");
        }
        for name in ["file", "", "header", "headers", "Priority"] {
            assert_eq!(cell(name), None, "{name}");
        }
    }
}
