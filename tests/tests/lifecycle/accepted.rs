//! Intake: what the record shows from the start, ids, repeated ids.

use taskyard_tests::{EVENTUALLY, Submission, TaskHash, wait_until};

use crate::{counts, foreign::Foreign, mailbox::Mailbox, now_ms, small_yard, yard_without_workers};

/// Every field of section 2 of the contract.
const FIELDS: [&str; 25] = [
    "state",
    "id",
    "kind",
    "pool",
    "priority",
    "tenant",
    "attempt",
    "failures",
    "losses",
    "max_attempts",
    "max_losses",
    "worker",
    "submitted_at",
    "dispatched_at",
    "started_at",
    "finished_at",
    "next_at",
    "progress",
    "progress_note",
    "result",
    "result_type",
    "result_bytes",
    "error",
    "error_kind",
    "reason",
];

#[track_caller]
fn assert_has_all_fields(task: &TaskHash) {
    for field in FIELDS {
        assert!(task.fields().any(|name| name == field), "{field} is not there: {task:?}");
    }
}

#[track_caller]
fn assert_empty(task: &TaskHash, fields: &[&str]) {
    for field in fields {
        assert_eq!(task.text(field), "", "{field} of {task:?}");
    }
}

#[tokio::test]
async fn every_field_is_there_from_intake_on_and_right_at_the_end() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let before = now_ms();
    let task = Submission::of("image.resize", "payload").id("f:1").priority(7);
    yard.submit(&task.text("x-task-tenant", "shop").text("x-task-max-attempts", "3")).await?;

    let task = yard.wait_state("f:1", "queued", EVENTUALLY).await?;
    assert_has_all_fields(&task);
    assert_eq!((task.text("id"), task.text("kind")), ("f:1".into(), "image.resize".into()));
    assert_eq!((task.text("pool"), task.text("tenant")), ("default".into(), "shop".into()));
    assert_eq!((task.number("priority"), task.number("max_attempts")), (7, 3));
    assert_eq!((counts(&task), task.number("max_losses")), ((0, 0, 0), 5));
    assert!((before..=now_ms()).contains(&task.number("submitted_at")), "{task:?}");
    assert_eq!(task.text("reason"), "no worker takes this kind");
    let unknown = ["worker", "dispatched_at", "started_at", "finished_at", "next_at", "error"];
    assert_empty(&task, &unknown);
    assert_empty(&task, &["result", "result_type", "error_kind", "progress_note"]);

    let mut worker = Foreign::of("f1").start(&yard).await?;
    let given = worker.next().await?;
    let task = yard.wait_state("f:1", "dispatched", EVENTUALLY).await?;
    assert_has_all_fields(&task);
    assert_eq!((counts(&task), task.text("worker")), ((1, 0, 0), "f1".into()));
    assert_empty(&task, &["reason", "started_at", "finished_at"]);

    worker.report(&given, "started", &[], b"").await?;
    yard.wait_state("f:1", "running", EVENTUALLY).await?;
    let progress = [("x-task-progress", lapin::types::AMQPValue::LongInt(40))];
    worker.report(&given, "progress", &progress, b"").await?;
    wait_until("progress", EVENTUALLY, async || {
        let task = yard.state("f:1").await?;
        anyhow::ensure!(task.text("progress") == "40", "{task:?}");
        anyhow::Ok(())
    })
    .await?;
    worker.succeed(given, b"result").await?;
    let task = yard.wait_state("f:1", "succeeded", EVENTUALLY).await?;
    assert_has_all_fields(&task);
    assert_eq!((counts(&task), task.bytes("result")), ((1, 0, 0), &b"result"[..]));
    assert_eq!((task.text("worker"), task.number("priority")), ("f1".into(), 7));
    let times = ["submitted_at", "dispatched_at", "started_at", "finished_at"];
    assert!(times.map(|name| task.number(name)).is_sorted(), "{task:?}");
    assert_empty(&task, &["next_at", "error", "error_kind", "reason"]);
    yard.finish()
}

#[tokio::test]
async fn a_task_of_our_worker_shows_the_same() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let submission = Submission::of("sleep", r#"{"ms":300}"#);
    let id = yard.submit(&submission).await?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert_has_all_fields(&task);
    assert_eq!((task.text("worker"), counts(&task)), ("w1".into(), (1, 0, 0)));
    assert_eq!((task.text("tenant"), task.number("priority")), ("default".into(), 0));
    let times = ["submitted_at", "dispatched_at", "started_at", "finished_at"];
    assert!(times.map(|name| task.number(name)).is_sorted(), "{task:?}");
    assert!(task.number("finished_at") - task.number("dispatched_at") >= 300, "{task:?}");
    yard.finish()
}

#[tokio::test]
async fn a_task_without_an_id_gets_one() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let mut mailbox = Mailbox::open(&yard).await?;
    let nameless = Submission::of("echo", "hi").without_id().reply_to(mailbox.address(), "mine");
    yard.submit(&nameless).await?;
    let (state, id, correlation_id) = mailbox.next().await?.about();
    assert_eq!((state.as_str(), correlation_id.as_str()), ("succeeded", "mine"));
    let id: uuid::Uuid = id.parse()?;
    assert_eq!(id.get_version_num(), 7);
    assert_eq!(yard.state(&id.to_string()).await?.bytes("result"), b"hi");
    yard.finish()
}

#[tokio::test]
async fn a_repeated_id_changes_nothing_and_is_answered() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let mut first = Mailbox::open(&yard).await?;
    let mut second = Mailbox::open(&yard).await?;
    let again = |number: &str, mailbox: &Mailbox| {
        Submission::of("other.kind", number).id("r1").reply_to(mailbox.address(), number)
    };
    let original = Submission::of("echo", "original").id("r1").reply_to(first.address(), "0");
    yard.submit(&original).await?;
    yard.wait_state("r1", "queued", EVENTUALLY).await?;

    // While it waits, and while it runs: the latest address wins.
    yard.submit(&again("1", &first)).await?;
    let mut worker = Foreign::of("f1").start(&yard).await?;
    let given = worker.next().await?;
    assert_eq!(given.delivery.data, b"original");
    worker.report(&given, "started", &[], b"").await?;
    yard.wait_state("r1", "running", EVENTUALLY).await?;
    yard.submit(&again("2", &second)).await?;
    wait_until("the later address", EVENTUALLY, async || {
        let task = yard.state("r1").await?;
        anyhow::ensure!(task.text("correlation_id") == "2", "{task:?}");
        anyhow::Ok(())
    })
    .await?;
    worker.succeed(given, b"done").await?;
    let letter = second.next().await?;
    assert_eq!(letter.about(), ("succeeded".into(), "r1".into(), "2".into()));
    assert_eq!(letter.0.data, b"done");

    // When it is final: at once.
    yard.submit(&again("3", &first)).await?;
    let letter = first.next().await?;
    assert_eq!(letter.about(), ("succeeded".into(), "r1".into(), "3".into()));
    assert_eq!(letter.0.data, b"done");
    let task = yard.state("r1").await?;
    assert_eq!((task.text("kind"), counts(&task)), ("echo".into(), (1, 0, 0)));
    // Nothing else was given out: the next task is another one.
    yard.submit(&Submission::of("echo", "").id("r2")).await?;
    assert_eq!(worker.next().await?.id, "r2");
    yard.finish()
}
