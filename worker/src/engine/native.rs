//! Reports that are too large for a train: RabbitMQ refuses messages over 16 MiB, and a payload may
//! have all of them. Such a report travels as a foreign worker's would: in headers, and where it
//! would carry the payload along, the delivery itself is nacked to the dispatcher instead.

use bytes::Bytes;
use taskyard_common::amqp::{Headers, Properties, Value};
use taskyard_common::wire::{Report, ReportKind, headers};
use taskyard_model::PAYLOAD_BYTES_MAX;

/// From here on a report is native: a train needs room for the head, whose headers are bounded by
/// AMQP's frame (128 KiB, twice that as JSON).
const BODY_BYTES: usize = PAYLOAD_BYTES_MAX - 512 * 1024;

/// Whether a report is too large for a train.
pub(super) fn is_needed(report: &Report) -> bool {
    report.body.len() >= BODY_BYTES
}

/// Whether the delivery is the copy, and has to be nacked when this report is confirmed.
pub(super) fn needs_nack(report: &Report) -> bool {
    is_needed(report) && matches!(report.kind, ReportKind::Failed | ReportKind::Returned)
}

/// Properties and body of a native report.
pub(super) fn write(report: &Report) -> (Properties, Bytes) {
    let mut table = Headers::default();
    let text = |text: &str| Value::LongString(text.into());
    table.insert(headers::ATTEMPT.into(), Value::LongLongInt(report.attempt.into()));
    if let Some(worker) = &report.worker {
        table.insert(headers::WORKER.into(), text(worker.as_str()));
    }
    if let Some(error) = &report.error {
        table.insert(headers::ERROR.into(), text(error));
    }
    if let Some(kind) = report.error_kind {
        table.insert(headers::ERROR_KIND.into(), text(kind.as_str()));
    }
    if report.is_permanent {
        table.insert(headers::RETRYABLE.into(), Value::Boolean(false));
    }
    if let Some(ms) = report.retry_after_ms {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        table.insert(headers::RETRY_AFTER.into(), Value::LongLongInt(ms));
    }
    if report.is_orphan {
        table.insert(headers::ORPHAN.into(), Value::Boolean(true));
    }
    if let Some(ran_us) = report.ran_us {
        let ran_us = i64::try_from(ran_us).unwrap_or(i64::MAX);
        table.insert(headers::RAN_US.into(), Value::LongLongInt(ran_us));
    }
    let mut properties = Properties::default()
        .with_type(report.kind.as_str().into())
        .with_message_id(report.id.as_str().into())
        .with_headers(table);
    if let Some(content_type) = &report.content_type {
        properties = properties.with_content_type(content_type.as_str().into());
    }
    let body = if needs_nack(report) { Bytes::new() } else { report.body.clone() };
    (properties, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use taskyard_common::wire::read_reports;

    #[test]
    fn a_huge_failure_leaves_the_payload_in_its_delivery() {
        let mut report = Report::new(ReportKind::Failed, "t".parse().unwrap(), 2, None);
        report.worker = Some("w".parse().unwrap());
        report.error = Some("no".into());
        report.is_permanent = true;
        report.retry_after_ms = Some(9);
        assert!(!is_needed(&report));
        report.body = vec![0; PAYLOAD_BYTES_MAX].into();
        assert!(needs_nack(&report));
        let (properties, body) = write(&report);
        report.body = Bytes::new();
        assert_eq!(read_reports(&properties, &body).unwrap(), [report]);
    }

    #[test]
    fn a_huge_result_is_sent_as_it_is() {
        let mut report = Report::new(ReportKind::Succeeded, "t".parse().unwrap(), 2, None);
        report.content_type = Some("text/plain".into());
        report.ran_us = Some(7);
        report.body = vec![0; PAYLOAD_BYTES_MAX].into();
        assert!(!needs_nack(&report));
        let (properties, body) = write(&report);
        assert_eq!(read_reports(&properties, &body).unwrap(), [report]);
    }
}
