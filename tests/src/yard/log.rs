//! What the programs logged.

use crate::{Process, RabbitMq};

/// Lines of the broker's complaints that are shown.
const COMPLAINTS: usize = 40;

/// A fault of RabbitMQ 3.10: who begins to consume a queue at the instant of its declaration may lose the
/// connection by an internal error (541). Our programs connect anew, and are right to say so.
const FAULT_OF_THE_BROKER: &str = "INTERNAL_ERROR";

/// Lines at WARN or ERROR, and panics, that contain none of the expected texts.
pub(super) fn unexpected(process: &Process, expected: &[String]) -> Vec<String> {
    let log = process.log();
    log.lines()
        .filter(|line| is_warning(line))
        .filter(|line| !line.contains(FAULT_OF_THE_BROKER))
        .filter(|line| !expected.iter().any(|text| line.contains(text)))
        .map(|line| format!("{}: {line}", process.name()))
        .collect()
}

/// Text lines are `<time> <level> …`; JSON lines have a field for it.
fn is_warning(line: &str) -> bool {
    let level = line.split_whitespace().nth(1);
    matches!(level, Some("WARN" | "ERROR"))
        || line.contains(r#""level":"WARN""#)
        || line.contains(r#""level":"ERROR""#)
        || (line.starts_with("thread '") && line.contains("panicked at"))
}

/// Prints the ends of the logs, where the test's output goes.
#[expect(clippy::print_stderr, reason = "the only output that the test harness captures")]
pub(super) fn print<'a>(processes: impl Iterator<Item = &'a Process>, lines: usize) {
    for process in processes {
        eprintln!("==== {} ====\n{}", process.name(), process.log_tail(lines));
    }
}

/// Prints what the broker complained of, to the same place.
#[expect(clippy::print_stderr, reason = "the only output that the test harness captures")]
pub(super) fn print_complaints(rabbitmq: &RabbitMq) {
    eprintln!("==== rabbitmq ====\n{}", rabbitmq.complaints(COMPLAINTS));
}

#[cfg(test)]
mod tests {
    use super::is_warning;

    #[test]
    fn warnings_are_found_in_both_formats() {
        assert!(is_warning("2026-01-01T00:00:00.1Z  WARN queue gone task_id=1"));
        assert!(is_warning(r#"{"timestamp":"…","level":"ERROR","fields":{}}"#));
        assert!(is_warning("thread 'main' (12) panicked at src/main.rs:1:1:"));
        assert!(!is_warning("2026-01-01T00:00:00.1Z  INFO WARN is only a word here"));
        assert!(!is_warning(""));
    }
}
