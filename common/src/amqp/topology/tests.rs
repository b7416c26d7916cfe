use super::*;

/// One line for each argument, sorted.
fn lines(kind: QueueKind<'_>) -> Vec<String> {
    let table = kind.arguments(&Names::new("taskyard"));
    let show = |value: &Value| match value {
        Value::LongString(text) => text.to_string(),
        Value::LongLongInt(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        other => {
            panic!("another type of argument, which RabbitMQ would take for a change: {other:?}")
        }
    };
    let mut lines: Vec<String> =
        (&table).into_iter().map(|(name, value)| format!("{name}={}", show(value))).collect();
    lines.sort();
    lines
}

/// A queue that exists with other arguments cannot be declared: every installation would have to
/// empty and delete it. Who needs other arguments takes another name.
#[test]
fn arguments_never_change() {
    let pool = PoolName::default_pool();
    let quorum = ["x-delivery-limit=1000000", "x-queue-type=quorum"];
    let frozen: [(QueueKind<'_>, &[&str]); 8] = [
        (QueueKind::Plain, &["x-overflow=reject-publish"]),
        (
            QueueKind::ToOutcomes { pool: &pool, is_worker: false },
            &[
                "x-dead-letter-exchange=taskyard.outcomes",
                "x-dead-letter-routing-key=default",
                "x-dead-letter-strategy=at-least-once",
                "x-overflow=reject-publish",
            ],
        ),
        (
            QueueKind::ToOutcomes { pool: &pool, is_worker: true },
            &[
                "x-dead-letter-exchange=taskyard.outcomes",
                "x-dead-letter-routing-key=default",
                "x-dead-letter-strategy=at-least-once",
                "x-expires=604800000",
                "x-overflow=reject-publish",
            ],
        ),
        (
            QueueKind::Delay { level: 0 },
            &[
                "x-dead-letter-exchange=taskyard.again",
                "x-dead-letter-strategy=at-least-once",
                "x-message-ttl=125",
                "x-overflow=reject-publish",
            ],
        ),
        (
            QueueKind::Delay { level: 23 },
            &[
                "x-dead-letter-exchange=taskyard.again",
                "x-dead-letter-strategy=at-least-once",
                "x-message-ttl=1048576000",
                "x-overflow=reject-publish",
            ],
        ),
        (
            QueueKind::Rejected,
            &["x-max-length-bytes=1073741824", "x-max-length=100000", "x-overflow=drop-head"],
        ),
        (
            QueueKind::Leader,
            &["x-max-length=1", "x-overflow=drop-head", "x-single-active-consumer=true"],
        ),
        (QueueKind::Commands, &["x-message-ttl=60000", "x-overflow=reject-publish"]),
    ];
    for (kind, arguments) in frozen {
        let mut expected: Vec<&str> = arguments.iter().chain(&quorum).copied().collect();
        expected.sort_unstable();
        assert_eq!(lines(kind), expected, "{kind:?}");
    }
}
