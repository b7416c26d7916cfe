use super::*;
use taskyard_common::names::Names;

fn names() -> Names {
    Names::new("taskyard")
}

fn message(task: &Submission) -> Result<taskyard_common::amqp::Message, SubmissionError> {
    task.message(&task.id_or_fresh(), &names())
}

fn every_setter() -> Submission {
    Submission::new("image.resize")
        .json(&serde_json::json!({"a": 1}))
        .unwrap()
        .id("t1")
        .priority(7)
        .expires_after(Duration::from_secs(60))
        .max_attempts(3)
        .backoff("exponential:10:1000".parse().unwrap())
        .max_losses(0)
        .delay(Duration::from_millis(1_500))
        .timeout(Duration::from_secs(5))
        .deadline(UNIX_EPOCH + Duration::from_secs(4_000_000_000))
        .tenant("shop")
        .requires("zone=eu,gpu")
        .slots(2)
        .estimate(Duration::from_millis(20))
        .keep(Duration::ZERO)
        .traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .reply_to("mine")
        .correlation_id("c1")
        .content_encoding("identity")
        .header("mine", "text")
        .header("number", 7)
        .header("flag", true)
}

#[test]
fn what_the_setters_write_is_what_the_dispatcher_reads() {
    let message = message(&every_setter()).unwrap();
    assert_eq!((&*message.exchange, &*message.routing_key), ("taskyard.tasks", "image.resize"));
    assert!(message.is_mandatory);
    assert_eq!(message.body, r#"{"a":1}"#);
    let now = taskyard_common::now();
    let read = taskyard_common::wire::read_submission(
        &message.properties,
        &message.routing_key,
        message.body.len(),
        &names(),
        now,
        || unreachable!("it has an id"),
    );
    let head = read.unwrap().head;
    assert_eq!((head.id.as_str(), head.kind.as_str()), ("t1", "image.resize"));
    assert_eq!((head.priority, head.max_attempts, head.max_losses), (Some(7), Some(3), Some(0)));
    assert_eq!(head.backoff.unwrap().to_string(), "exponential:10:1000");
    assert_eq!(head.due_at, Some(now + Duration::from_millis(1_500)));
    assert_eq!(head.start_by, Some(now + Duration::from_secs(60)));
    assert_eq!((head.timeout_ms, head.estimate_ms, head.keep_ms), (Some(5_000), Some(20), Some(0)));
    assert_eq!(head.deadline.unwrap().as_ms(), 4_000_000_000_000);
    assert_eq!((head.tenant.as_deref(), head.slots), (Some("shop"), 2));
    assert_eq!(head.requires.to_string(), "gpu,zone=eu");
    assert_eq!(head.reply_to.as_deref(), Some("mine"));
    assert_eq!(head.correlation_id.as_deref(), Some("c1"));
    assert_eq!(head.content_type.as_deref(), Some("application/json"));
    assert_eq!(head.content_encoding.as_deref(), Some("identity"));
    let mine = |name: &str| head.headers.inner().get(name).cloned();
    assert_eq!(mine("mine"), Some(Value::LongString("text".into())));
    assert_eq!(mine("number"), Some(Value::LongLongInt(7)));
    assert_eq!(mine("flag"), Some(Value::Boolean(true)));
}

#[test]
fn the_setters_and_the_dispatcher_have_the_same_limits() {
    let new = || Submission::new("echo");
    let long = Duration::from_millis(MS_MAX);
    let most = [
        new().priority(9),
        new().max_attempts(100).max_losses(100).slots(10_000),
        new().expires_after(long).timeout(long).estimate(long).keep(long),
        new().delay(long),
        new().tenant("t".repeat(128)),
        new().id("i".repeat(128)),
        new().payload(vec![0; PAYLOAD_BYTES_MAX]),
    ];
    for task in most {
        message(&task).unwrap();
    }
    let least = new().max_attempts(1).max_losses(0).slots(1).timeout(Duration::from_millis(1));
    message(&least.expires_after(Duration::ZERO).delay(Duration::ZERO)).unwrap();
}

#[test]
fn a_broken_rule_is_known_at_once_and_says_which() {
    let new = || Submission::new("echo");
    let too_long = Duration::from_millis(MS_MAX + 1);
    let cases = [
        (Submission::new(""), "kind"),
        (Submission::new("a b"), "kind"),
        (Submission::new("a.#"), "kind"),
        (new().id(""), "id"),
        (new().id("a/b"), "id"),
        (new().priority(10), "priority"),
        (new().max_attempts(0), "max_attempts"),
        (new().max_attempts(101), "max_attempts"),
        (new().max_losses(101), "max_losses"),
        (new().backoff(Backoff::Fixed { base_ms: u64::MAX }), "backoff"),
        (new().delay(too_long), "delay"),
        (new().timeout(Duration::ZERO), "timeout"),
        (new().expires_after(too_long), "expires_after"),
        (new().slots(0), "slots"),
        (new().tenant(""), "tenant"),
        (new().requires("gpu,,"), "requires"),
        (new().payload(vec![0; PAYLOAD_BYTES_MAX + 1]), "16 MiB"),
        (new().reply_to(""), "reply_to"),
        (new().correlation_id("c".repeat(256)), "correlation_id"),
        (new().content_type("\n"), "content_type"),
        (new().header("x-task-delay", "5"), "setter"),
        (new().header("CC", "5"), "second"),
        (new().header("", "5"), "header"),
    ];
    for (task, word) in cases {
        let error = task.check().unwrap_err().to_string();
        assert!(error.contains(word), "{error}: {word}");
        assert_eq!(message(&task).unwrap_err().to_string(), error);
    }
}

#[test]
fn the_first_broken_rule_is_kept() {
    let task = Submission::new("echo").slots(0).priority(99);
    assert!(task.check().unwrap_err().to_string().contains("slots"));
    assert!(task.json("x").unwrap_err().to_string().contains("slots"));
}

#[test]
fn what_the_dispatcher_would_refuse_is_refused_here() {
    let new = || Submission::new("echo");
    let id = TaskId::new("first").unwrap();
    let cases = [
        (new().delay(Duration::from_secs(1)).eta(UNIX_EPOCH), "both"),
        (new().reply_to("taskyard.dead"), "reply_to"),
        (new().after([&id]), "x-task-after"),
        (new().unique("k"), "x-task-unique"),
        (new().affinity("k"), "x-task-affinity"),
        (new().needs("cpu=2"), "x-task-needs"),
        (new().content_type("application/vnd.taskyard.tasks"), ""),
    ];
    for (task, word) in cases {
        assert!(task.check().is_ok());
        let result = message(&task);
        assert!(word.is_empty() || result.unwrap_err().to_string().contains(word), "{word}");
    }
}

#[test]
fn json_that_cannot_be_written_is_an_error() {
    let map = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(matches!(Submission::new("echo").json(&map), Err(SubmissionError::Json(_))));
}

#[test]
fn a_bulk_refuses_what_it_cannot_carry() {
    let message = |task: Submission| task.bulk_message(&names());
    assert!(matches!(
        message(Submission::new("echo").content_type("text/plain")),
        Err(SubmissionError::NotInBulk(_))
    ));
    assert!(message(Submission::new("echo").id("one")).is_err());
    let bulk = message(Submission::new("echo").max_attempts(2)).unwrap();
    let content_type = bulk.properties.content_type().as_ref().unwrap().as_str();
    assert_eq!(content_type, taskyard_common::wire::train::BULK);
}
