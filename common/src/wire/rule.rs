//! What every head and report must keep to, whoever wrote it: what breaks these rules would break us.

use super::submission::{HEADERS_BYTES_MAX, MS_MAX, SLOTS_MAX, headers_bytes};
use super::{Head, Report};
use crate::amqp::{Headers, Value};
use taskyard_model::PRIORITY_MAX;

/// AMQP's short strings hold no more; our library panics over longer ones.
const SHORT_BYTES_MAX: usize = 255;
/// Dispatches, failures and losses of one task: never reached, and far from overflowing.
const COUNT_MAX: u32 = 1_000_000_000;
/// Headers that dispatchers add to those of a submission may take so many bytes besides.
const OWN_BYTES_MAX: usize = 16 * 1024;

impl Head {
    /// Checks what a dispatcher relies on; a head that it wrote itself passes.
    ///
    /// # Errors
    /// Says which rule it breaks.
    pub fn check(&self) -> Result<(), String> {
        if self.priority.is_some_and(|priority| priority > PRIORITY_MAX) {
            return Err(format!("its priority is not 0 to {PRIORITY_MAX}"));
        }
        if self.slots == 0 || u64::from(self.slots) > SLOTS_MAX {
            return Err(format!("its slots are not 1 to {SLOTS_MAX}"));
        }
        if [self.attempt, self.failures, self.losses, self.rounds].iter().any(|&n| n > COUNT_MAX) {
            return Err(format!("one of its counts is larger than {COUNT_MAX}"));
        }
        let times = [self.timeout_ms, self.estimate_ms, self.keep_ms];
        if times.iter().flatten().any(|&ms| ms > MS_MAX) {
            return Err("one of its times is longer than ten years".to_owned());
        }
        let texts = [
            ("reply_to", &self.reply_to),
            ("correlation_id", &self.correlation_id),
            ("content_type", &self.content_type),
            ("content_encoding", &self.content_encoding),
        ];
        short("reply_to and the like", texts.iter().filter_map(|(_, text)| text.as_deref()))?;
        match headers_bytes(&self.headers) > HEADERS_BYTES_MAX + OWN_BYTES_MAX {
            true => Err("its headers are too large".to_owned()),
            false => names(&self.headers),
        }
    }
}

impl Report {
    /// Checks what a dispatcher relies on, the task that it carries included.
    ///
    /// # Errors
    /// Says which rule it breaks.
    pub fn check(&self) -> Result<(), String> {
        if self.attempt == 0 || self.attempt > COUNT_MAX {
            return Err(format!("its attempt is not 1 to {COUNT_MAX}"));
        }
        if self.progress.is_some_and(|percent| percent > 100) {
            return Err("its progress is not 0 to 100".to_owned());
        }
        let texts = [&self.reply_to, &self.correlation_id, &self.content_type];
        short("reply_to and the like", texts.into_iter().filter_map(Option::as_deref))?;
        let Some(head) = &self.task else { return Ok(()) };
        match head.id == self.id {
            true => head.check(),
            false => Err("it carries another task than it reports".to_owned()),
        }
    }
}

fn short<'a>(what: &str, mut texts: impl Iterator<Item = &'a str>) -> Result<(), String> {
    match texts.any(|text| text.len() > SHORT_BYTES_MAX) {
        true => Err(format!("{what} must not have more than {SHORT_BYTES_MAX} bytes")),
        false => Ok(()),
    }
}

fn names(table: &Headers) -> Result<(), String> {
    short("names of headers", table.inner().keys().map(|name| name.as_str()))?;
    table.inner().values().try_for_each(value)
}

fn value(value: &Value) -> Result<(), String> {
    match value {
        Value::FieldTable(table) => names(table),
        Value::FieldArray(array) => array.as_slice().iter().try_for_each(self::value),
        Value::ShortString(text) => short("short strings", std::iter::once(text.as_str())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ReportKind;

    fn head() -> Head {
        Head::new("t1".parse().unwrap(), "echo".parse().unwrap())
    }

    #[test]
    fn heads_that_would_break_us_are_refused() {
        assert_eq!(head().check(), Ok(()));
        let broken: [fn(&mut Head); 7] = [
            |head| head.priority = Some(10),
            |head| head.slots = 0,
            |head| head.attempt = u32::MAX,
            |head| head.timeout_ms = Some(u64::MAX),
            |head| head.correlation_id = Some("x".repeat(256)),
            |head| {
                let nested: Headers = serde_json::from_str("{}").unwrap();
                head.headers.insert("n".into(), Value::FieldTable(nested));
                head.headers.insert("b".into(), Value::LongString("x".repeat(100_000).into()));
            },
            |head| head.reply_to = Some("x".repeat(300)),
        ];
        for (number, change) in broken.iter().enumerate() {
            let mut head = head();
            change(&mut head);
            assert!(head.check().is_err(), "{number}");
        }
    }

    #[test]
    fn reports_about_another_task_than_they_carry_are_refused() {
        let mut report = Report::new(ReportKind::Held, "t1".parse().unwrap(), 1, None);
        report.task = Some(Box::new(head()));
        assert_eq!(report.check(), Ok(()));
        report.id = "t2".parse().unwrap();
        assert!(report.check().is_err());
        report.task = None;
        report.attempt = 0;
        assert!(report.check().is_err());
    }
}
