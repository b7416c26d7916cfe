//! Cancel, wherever a task is.

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use serde_json::{Value, json};
use taskyard_tests::{EVENTUALLY, Submission, TaskHash, Yard, wait_until};

use crate::{
    counts,
    foreign::{Foreign, text},
    mailbox::Mailbox,
    small_yard, yard_without_workers,
};

async fn cancel(yard: &Yard, id: &str) -> anyhow::Result<Value> {
    Mailbox::open(yard).await?.command(&json!({"do": "cancel", "id": id})).await
}

#[track_caller]
fn assert_cancelled(task: &TaskHash) {
    assert_eq!(task.text("error_kind"), "cancelled", "{task:?}");
    assert_eq!(task.text("next_at"), "", "{task:?}");
    assert!(task.number("finished_at") >= task.number("submitted_at"), "{task:?}");
}

#[tokio::test]
async fn what_waits_ends_at_once_and_never_runs() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let submission = |id: &str| Submission::of("echo", "").id(id);
    yard.submit(&submission("queued")).await?;
    yard.submit(&submission("soon").number("x-task-delay", 1_500)).await?;
    yard.submit(&submission("later").number("x-task-delay", 4_000)).await?;
    for (id, state) in [("queued", "queued"), ("soon", "delayed"), ("later", "delayed")] {
        yard.wait_state(id, state, EVENTUALLY).await?;
        let answer = cancel(&yard, id).await?;
        assert_eq!((&answer["ok"], &answer["state"]), (&json!(true), &json!("cancelled")));
        let task = yard.wait_state(id, "cancelled", EVENTUALLY).await?;
        assert_cancelled(&task);
        assert_eq!(counts(&task), (0, 0, 0));
    }
    let again = cancel(&yard, "queued").await?;
    assert_eq!(again["ok"], false, "{again}");
    assert!(again["error"].as_str().is_some_and(|error| error.contains("cancelled")), "{again}");
    assert_eq!(cancel(&yard, "nobody").await?["ok"], false);

    // Whatever was to come, came before this one.
    yard.submit(&submission("marker").number("x-task-delay", 4_500)).await?;
    let mut worker = Foreign::of("f1").slots(9).start(&yard).await?;
    let given = worker.next().await?;
    assert_eq!(given.id, "marker");
    yard.finish()
}

#[tokio::test]
async fn what_is_to_be_retried_is_not() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let mut worker = Foreign::of("f1").start(&yard).await?;
    for (id, wait) in [("soon", "fixed:1500"), ("later", "fixed:4000")] {
        yard.submit(&Submission::of("echo", "").id(id).text("x-task-backoff", wait)).await?;
        let given = worker.next().await?;
        worker.fail(given, "no").await?;
        yard.wait_state(id, "retrying", EVENTUALLY).await?;
        assert_eq!(cancel(&yard, id).await?["ok"], true);
        let task = yard.wait_state(id, "cancelled", EVENTUALLY).await?;
        assert_cancelled(&task);
        assert_eq!(counts(&task), (1, 1, 0));
    }
    yard.submit(&Submission::of("echo", "").id("marker").number("x-task-delay", 4_500)).await?;
    assert_eq!(worker.next().await?.id, "marker");
    yard.finish()
}

#[tokio::test]
async fn what_runs_is_ended_by_its_worker() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let mut mailbox = Mailbox::open(&yard).await?;
    let long = Submission::of("sleep", r#"{"ms":120000}"#).id("r1");
    yard.submit(&long.reply_to(mailbox.address(), "c")).await?;
    yard.wait_state("r1", "running", EVENTUALLY).await?;
    let answer = cancel(&yard, "r1").await?;
    assert_eq!((&answer["ok"], &answer["state"]), (&json!(true), &json!("asked")));
    let task = yard.wait_state("r1", "cancelled", EVENTUALLY).await?;
    assert_cancelled(&task);
    assert_eq!(counts(&task), (1, 0, 0));
    assert_eq!(mailbox.next().await?.about(), ("cancelled".into(), "r1".into(), "c".into()));
    yard.finish()
}

#[tokio::test]
async fn a_worker_of_another_make_is_told_until_it_lets_go() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let mut worker = Foreign::of("f1").slots(2).start(&yard).await?;
    let mut control = worker.control(&yard).await?;
    for id in ["obeys", "finishes"] {
        yard.submit(&Submission::of("echo", "").id(id)).await?;
        let given = worker.next().await?;
        worker.report(&given, "started", &[], b"").await?;
        yard.wait_state(id, "running", EVENTUALLY).await?;
        assert_eq!(cancel(&yard, id).await?["state"], "asked");
        let mut told = 0;
        while told < 2 {
            let next = tokio::time::timeout(EVENTUALLY, control.next()).await;
            let delivery = next.context("it is told twice")?.context("the consumer ended")??;
            let errand: Value = serde_json::from_slice(&delivery.data)?;
            ensure!(errand["do"] == "cancel", "{errand}");
            if errand["id"] == id {
                assert_eq!(errand["attempt"], 1, "{errand}");
                told += 1;
            }
        }
        if id == "obeys" {
            worker.report(&given, "failed", &[("x-task-error", text("stopped"))], b"").await?;
            worker.nack(given).await?;
            let task = yard.wait_state(id, "cancelled", EVENTUALLY).await?;
            assert_cancelled(&task);
            assert_eq!(counts(&task), (1, 0, 0));
        } else {
            worker.succeed(given, b"done anyway").await?;
            let task = yard.wait_state(id, "succeeded", EVENTUALLY).await?;
            assert_eq!(task.text("result"), "done anyway");
        }
    }
    // Both slots are free again.
    for id in ["n1", "n2"] {
        yard.submit(&Submission::of("echo", "").id(id)).await?;
        worker.next().await?;
    }
    wait_until("both slots taken", EVENTUALLY, async || {
        let busy = yard.worker_field("f1", "busy").await?;
        ensure!(busy == "2", "{busy}");
        anyhow::Ok(())
    })
    .await?;
    yard.finish()
}
