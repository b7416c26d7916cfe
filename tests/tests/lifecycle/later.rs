//! Delays: in memory when they are short, by the delay queues when they are long.

use lapin::types::AMQPValue;
use taskyard_tests::{EVENTUALLY, Submission};

use crate::{counts, mailbox::take, now_ms, small_yard};

/// How much later than due a task may start here, where everything shares two processors.
const LATENESS_MS: i64 = 5_000;

#[tokio::test]
async fn a_delayed_task_waits_for_its_time() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let delays = [("memory", 300), ("queues", 6_000)];
    for (id, delay) in delays {
        yard.submit(&Submission::of("echo", id).id(id).number("x-task-delay", delay)).await?;
    }
    let long = yard.wait_state("queues", "delayed", EVENTUALLY).await?;
    assert_eq!(long.number("next_at"), long.number("submitted_at") + 6_000);
    assert_eq!(counts(&long), (0, 0, 0));
    for (id, delay) in delays {
        let task = yard.wait_state(id, "succeeded", EVENTUALLY).await?;
        let waited = task.number("dispatched_at") - task.number("submitted_at");
        assert!((delay..delay + LATENESS_MS).contains(&waited), "{waited} ms: {task:?}");
        assert_eq!((counts(&task), task.text("next_at")), ((1, 0, 0), String::new()));
        assert_eq!(task.text("result"), id);
    }
    yard.finish()
}

#[tokio::test]
async fn an_eta_is_an_instant_and_one_in_the_past_is_now() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let eta = now_ms() + 3_000;
    let task = Submission::of("echo", "").text("x-task-eta", &eta.to_string());
    let future = yard.submit(&task).await?;
    let past = yard.submit(&Submission::of("echo", "").number("x-task-eta", 1_000)).await?;
    let past = yard.wait_state(&past, "succeeded", EVENTUALLY).await?;
    assert!(past.number("dispatched_at") < eta, "{past:?}");
    let future = yard.wait_state(&future, "succeeded", EVENTUALLY).await?;
    let late = future.number("dispatched_at") - eta;
    assert!((0..LATENESS_MS).contains(&late), "{late} ms: {future:?}");
    yard.finish()
}

#[tokio::test]
async fn delay_and_eta_together_are_rejected() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let both = Submission::of("echo", "both").id("both").number("x-task-delay", 10);
    yard.submit(&both.header("x-task-eta", AMQPValue::LongLongInt(now_ms()))).await?;
    let task = yard.wait_state("both", "rejected", EVENTUALLY).await?;
    assert_eq!(task.text("error_kind"), "rejected");
    assert!(task.text("error").contains("x-task-eta"), "{task:?}");
    let rejected = take(&yard, "taskyard.rejected").await?;
    assert_eq!(rejected.delivery.data, b"both");

    // A rejected id may be submitted again.
    yard.submit(&Submission::of("echo", "right").id("both")).await?;
    let task = wait_for_success(&yard, "both").await?;
    assert_eq!((task.text("result"), task.text("error")), ("right".into(), String::new()));
    yard.finish()
}

/// Also where the task was final before.
async fn wait_for_success(
    yard: &taskyard_tests::Yard,
    id: &str,
) -> anyhow::Result<taskyard_tests::TaskHash> {
    taskyard_tests::wait_until("success", EVENTUALLY, async || {
        let task = yard.state(id).await?;
        anyhow::ensure!(task.state() == "succeeded", "{task:?}");
        anyhow::Ok(task)
    })
    .await
}
