//! A task that runs longer than the broker lets a delivery stay unacked.
//!
//! In a file of its own because it takes more than two minutes: RabbitMQ looks once a minute.

use std::time::Duration;

use taskyard_tests::{EVENTUALLY, Servers, Submission, Yard};

#[tokio::test]
async fn a_task_longer_than_the_consumer_timeout_completes_once() -> anyhow::Result<()> {
    let timeout = Duration::from_secs(70);
    let held = ["--held-after-ms", "20000"];
    let yard = Yard::builder()
        .own_servers(Servers::builder().consumer_timeout(timeout))
        .each_dispatcher(|d| d.args(["--hold-max-ms", "20000"]))
        .worker(|w| w.id("w1").slots(2).builtin().program(|p| p.args(held)))
        .start()
        .await?;
    // One runs, one waits for a worker that does not come, one is delayed: all past the timeout.
    yard.submit(&Submission::of("sleep", r#"{"ms":130000}"#).id("runs")).await?;
    yard.submit(&Submission::of("nobody.takes", "").id("waits")).await?;
    yard.submit(&Submission::of("echo", "").id("delayed").number("x-task-delay", 135_000)).await?;
    yard.wait_state("runs", "running", EVENTUALLY).await?;
    let task = yard.wait_state("runs", "succeeded", Duration::from_secs(130) + EVENTUALLY).await?;
    assert_eq!((task.number("attempt"), task.number("failures")), (1, 0));
    assert_eq!((task.number("losses"), task.text("worker")), (0, "w1".into()));
    assert_eq!(yard.state("waits").await?.state(), "queued");
    let task = yard.wait_state("delayed", "succeeded", EVENTUALLY).await?;
    assert_eq!(task.number("attempt"), 1);
    // No channel was closed: that would have been logged as a lost session.
    yard.finish()
}
