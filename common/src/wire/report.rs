use super::submission::{integer, string};
use super::train::{self, TrainError, TrainWriter};
use super::{Head, headers, text};
use crate::amqp::{Properties, Value};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use taskyard_model::{ErrorKind, Kind, TaskId, WorkerId};

/// What a report says of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportKind {
    /// It began.
    Started,
    /// How far it is.
    Progress,
    /// Lines of its log; the body is the text.
    Log,
    /// Done; the body is the result.
    Succeeded,
    /// Failed.
    Failed,
    /// Not started: give it to someone else.
    Returned,
    /// Let go of, not finished; the body is the payload and a checkpoint.
    Yielded,
    /// Still running; the body is the payload, which the dispatcher keeps from now on.
    Held,
}

impl ReportKind {
    const ALL: [(&'static str, ReportKind); 8] = [
        ("started", ReportKind::Started),
        ("progress", ReportKind::Progress),
        ("log", ReportKind::Log),
        ("succeeded", ReportKind::Succeeded),
        ("failed", ReportKind::Failed),
        ("returned", ReportKind::Returned),
        ("yielded", ReportKind::Yielded),
        ("held", ReportKind::Held),
    ];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// What a worker says of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What it says.
    #[serde(rename = "t")]
    pub kind: ReportKind,
    /// The task.
    #[serde(with = "text")]
    pub id: TaskId,
    /// The attempt.
    #[serde(rename = "a")]
    pub attempt: u32,
    /// Who says it.
    #[serde(rename = "w", default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// How long the handler ran, in microseconds.
    #[serde(rename = "us", default, skip_serializing_if = "Option::is_none")]
    pub ran_us: Option<u64>,
    /// How long the worker had it, waiting included, in microseconds.
    #[serde(rename = "hu", default, skip_serializing_if = "Option::is_none")]
    pub had_us: Option<u64>,
    /// Text of the error.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Kind of the error, where it is not simply `failed`.
    #[serde(
        rename = "ek",
        default,
        with = "text::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub error_kind: Option<ErrorKind>,
    /// Set for a failure that retrying cannot mend.
    #[serde(rename = "perm", default, skip_serializing_if = "is_false")]
    pub is_permanent: bool,
    /// How long the next attempt has to wait at least, in milliseconds, where the failure says so.
    #[serde(rename = "ra", default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Set for a delivery that this life of the worker does not know.
    #[serde(rename = "orph", default, skip_serializing_if = "is_false")]
    pub is_orphan: bool,
    /// Percent done.
    #[serde(rename = "pr", default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<u8>,
    /// A line about progress.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When each line of the log was written, in milliseconds since the epoch; without it, when the
    /// report is read.
    #[serde(rename = "at", default, skip_serializing_if = "Vec::is_empty")]
    pub logged_at_ms: Vec<u64>,
    /// Where the checkpoint begins in the body.
    #[serde(rename = "cp", default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_at: Option<u64>,
    /// Type of the result.
    #[serde(rename = "ct", default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The task's kind, so that a lost record can be written anew.
    #[serde(rename = "k", default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub task_kind: Option<Kind>,
    /// The task's reply address, for the same reason.
    #[serde(rename = "rt", default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Comes back with the reply.
    #[serde(rename = "ci", default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The whole task, where the body is its payload: this report is then the copy.
    #[serde(rename = "task", default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Box<Head>>,
    /// The result, or the payload, or lines of the log, or empty.
    #[serde(skip)]
    pub body: Bytes,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(b: &bool) -> bool {
    !*b
}

/// A message that is no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A native report breaks a rule.
    #[error("not a report: {0}")]
    Native(String),
    /// A report of a train breaks a rule.
    #[error("not a report: {0}")]
    Car(String),
    /// A train of reports cannot be read.
    #[error("not a train of reports: {0}")]
    Train(#[from] TrainError),
}

impl Report {
    /// A report that says nothing but its kind.
    #[must_use]
    pub fn new(kind: ReportKind, id: TaskId, attempt: u32, worker: Option<WorkerId>) -> Self {
        Self {
            kind,
            id,
            attempt,
            worker,
            ran_us: None,
            had_us: None,
            error: None,
            error_kind: None,
            is_permanent: false,
            retry_after_ms: None,
            is_orphan: false,
            progress: None,
            note: None,
            logged_at_ms: Vec::new(),
            checkpoint_at: None,
            content_type: None,
            task_kind: None,
            reply_to: None,
            correlation_id: None,
            task: None,
            body: Bytes::new(),
        }
    }
}

/// One message of many reports; publish it with `content_type` [`train::REPORTS`].
#[must_use]
pub fn write_reports<'a>(reports: impl IntoIterator<Item = &'a Report>) -> Bytes {
    let mut train = TrainWriter::new();
    for report in reports {
        train.push(report, &report.body);
    }
    train.finish()
}

/// Reads a message of reports: a train of our workers', or a native one.
///
/// # Errors
/// Says what is wrong with it.
pub fn read_reports(properties: &Properties, body: &Bytes) -> Result<Vec<Report>, ReportError> {
    let content_type = properties.content_type().as_ref().map(|t| t.as_str());
    if content_type == Some(train::REPORTS) {
        let cars = train::read::<Report>(body)?.into_iter();
        let reports: Vec<_> = cars.map(|(report, body)| Report { body, ..report }).collect();
        let check = |report: &Report| report.check().map_err(ReportError::Car);
        return reports.iter().try_for_each(check).map(|()| reports);
    }
    read_native(properties, body).map(|report| vec![report]).map_err(ReportError::Native)
}

fn read_native(properties: &Properties, body: &Bytes) -> Result<Report, String> {
    let kind = properties.kind().as_ref().ok_or("its type is missing")?.as_str();
    let kind = ReportKind::ALL
        .iter()
        .find(|(name, _)| *name == kind)
        .ok_or_else(|| format!("its type {kind:?} is none of succeeded, failed, started, …"))?
        .1;
    let id = properties.message_id().as_ref().ok_or("its message_id is missing")?;
    let id = TaskId::new(id.as_str()).map_err(|error| format!("its message_id: {error}"))?;
    let table = properties.headers().as_ref().ok_or("its header x-task-attempt is missing")?;
    let attempt = integer(table, headers::ATTEMPT, 1, u32::MAX.into())?;
    let attempt = attempt.ok_or("its header x-task-attempt is missing")?;
    let worker = match string(table, headers::WORKER)? {
        None => None,
        Some(worker) => {
            Some(WorkerId::new(&worker).map_err(|error| format!("x-task-worker: {error}"))?)
        }
    };
    let attempt = u32::try_from(attempt).map_err(|_| "x-task-attempt is too large")?;
    let mut report = Report::new(kind, id, attempt, worker);
    report.error = string(table, headers::ERROR)?;
    report.error_kind = string(table, headers::ERROR_KIND)?.and_then(|kind| kind.parse().ok());
    report.is_permanent = truth(table.inner().get(headers::RETRYABLE)) == Some(false);
    report.retry_after_ms = integer(table, headers::RETRY_AFTER, 0, u64::MAX)?;
    report.is_orphan = truth(table.inner().get(headers::ORPHAN)) == Some(true);
    report.progress = integer(table, headers::PROGRESS, 0, 100)?.and_then(|n| u8::try_from(n).ok());
    report.note = string(table, headers::NOTE)?;
    report.ran_us = integer(table, headers::RAN_US, 0, u64::MAX)?;
    report.checkpoint_at = integer(table, headers::CHECKPOINT_AT, 0, u64::MAX)?;
    report.content_type = properties.content_type().as_ref().map(ToString::to_string);
    report.body = body.clone();
    report.check()?;
    Ok(report)
}

/// A boolean header: AMQP's own, a number, or a text.
fn truth(value: Option<&Value>) -> Option<bool> {
    match value? {
        Value::Boolean(value) => Some(*value),
        Value::LongString(text) => match text.as_bytes() {
            b"true" | b"True" | b"1" => Some(true),
            b"false" | b"False" | b"0" => Some(false),
            _ => None,
        },
        Value::LongInt(n) => Some(*n != 0),
        Value::ShortShortInt(n) => Some(*n != 0),
        Value::LongLongInt(n) => Some(*n != 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::Headers;

    #[test]
    fn reports_travel_together() {
        let mut done = Report::new(
            ReportKind::Succeeded,
            "t1".parse().unwrap(),
            2,
            Some("w1".parse().unwrap()),
        );
        done.body = Bytes::from("result");
        done.ran_us = Some(17);
        let mut failed = Report::new(ReportKind::Failed, "t2".parse().unwrap(), 1, None);
        failed.error = Some("no".into());
        failed.error_kind = Some(ErrorKind::Timeout);
        failed.is_permanent = true;
        let mut log = Report::new(ReportKind::Log, "t3".parse().unwrap(), 1, None);
        log.body = Bytes::from("one\ntwo\n");
        log.logged_at_ms = vec![1_767_225_600_000, 1_767_225_600_001];
        failed.retry_after_ms = Some(2_000);
        let body = write_reports([&done, &failed, &log]);
        let properties = Properties::default().with_content_type(train::REPORTS.into());
        assert_eq!(read_reports(&properties, &body).unwrap(), [done, failed, log]);
    }

    #[test]
    fn a_foreign_worker_reports_in_headers() {
        let mut table = Headers::default();
        table.insert("x-task-attempt".into(), Value::LongInt(1));
        table.insert("x-task-worker".into(), Value::LongString("py".into()));
        table.insert("x-task-retryable".into(), Value::Boolean(false));
        table.insert("x-task-retry-after".into(), Value::LongString("1500".into()));
        let properties = Properties::default()
            .with_type("failed".into())
            .with_message_id("t1".into())
            .with_headers(table);
        let report = &read_reports(&properties, &Bytes::new()).unwrap()[0];
        assert!(report.is_permanent);
        assert_eq!(report.retry_after_ms, Some(1_500));
        assert_eq!(report.worker, Some("py".parse().unwrap()));
    }

    #[test]
    fn what_is_no_report_says_why() {
        let read = |p: Properties| read_reports(&p, &Bytes::new()).unwrap_err().to_string();
        assert!(read(Properties::default()).contains("type"));
        assert!(read(Properties::default().with_type("gone".into())).contains("none of"));
        assert!(read(Properties::default().with_type("failed".into())).contains("message_id"));
        let p = Properties::default().with_type("failed".into()).with_message_id("t".into());
        assert!(read(p).contains("x-task-attempt"));
    }
}
