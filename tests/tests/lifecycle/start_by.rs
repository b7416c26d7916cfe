//! Start-by: what is not started in time never runs.

use anyhow::ensure;
use nix::sys::signal::Signal;
use taskyard_tests::{EVENTUALLY, Submission, TaskHash, Yard, wait_until};

use crate::{
    counts,
    foreign::Foreign,
    mailbox::{Mailbox, depth},
    now_ms, small_yard, yard_without_workers,
};

fn hurried(id: &str, ms: u32) -> Submission {
    Submission::of("echo", id)
        .id(id)
        .properties(|properties| properties.with_expiration(ms.to_string().into()))
}

#[track_caller]
fn assert_never_ran(task: &TaskHash) {
    assert_eq!(task.text("error_kind"), "expired", "{task:?}");
    assert_eq!((task.text("started_at"), task.text("result")), (String::new(), String::new()));
    assert!(task.number("finished_at") >= task.number("submitted_at"), "{task:?}");
}

#[tokio::test]
async fn without_a_dispatcher_the_broker_counts() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let mut mailbox = Mailbox::open(&yard).await?;
    yard.dispatcher(0).kill9()?;
    yard.submit(&hurried("b1", 100).reply_to(mailbox.address(), "late")).await?;
    wait_until("expired in the queue", EVENTUALLY, async || {
        let left = depth(&yard, "taskyard.submit.default").await?;
        let dead = depth(&yard, "taskyard.outcomes.default").await?;
        // Besides it there may be a message by which the killed dispatcher wanted to see itself.
        ensure!(left == 0 && dead >= 1, "{left} left, {dead} dead-lettered");
        anyhow::Ok(())
    })
    .await?;
    yard.dispatcher(0).start()?;
    let task = yard.wait_state("b1", "expired", EVENTUALLY).await?;
    assert_never_ran(&task);
    assert_eq!((counts(&task), task.text("kind")), ((0, 0, 0), "echo".into()));
    let letter = mailbox.next().await?;
    assert_eq!(letter.about(), ("expired".into(), "b1".into(), "late".into()));
    assert_eq!(letter.header("x-task-error-kind"), "expired");
    yard.finish()
}

#[tokio::test]
async fn a_second_submission_that_expired_says_nothing_about_the_first() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let mut mailbox = Mailbox::open(&yard).await?;
    // Long enough for the first copy to lie in a delay, where no dispatcher holds it.
    let first = Submission::of("echo", "first").id("s1").number("x-task-delay", 12_000);
    yard.submit(&first).await?;
    yard.wait_state("s1", "delayed", EVENTUALLY).await?;
    wait_until("the first lies in a delay alone", EVENTUALLY, async || {
        let (_, metrics) = yard.http_get(0, "/metrics").await?;
        let is_let_go = metrics.lines().any(|line| line == "taskyard_held_tasks 0");
        let delayed = depth(&yard, "taskyard.delay.6").await?;
        ensure!(is_let_go && delayed == 1, "{delayed} delayed");
        anyhow::Ok(())
    })
    .await?;
    yard.dispatcher(0).kill9()?;
    yard.submit(&hurried("s1", 100).reply_to(mailbox.address(), "second")).await?;
    wait_until("expired in the queue", EVENTUALLY, async || {
        let left = depth(&yard, "taskyard.submit.default").await?;
        ensure!(left == 0, "{left} left");
        anyhow::Ok(())
    })
    .await?;
    yard.dispatcher(0).start()?;
    let task = yard.wait_state("s1", "succeeded", EVENTUALLY).await?;
    assert_eq!((counts(&task), task.bytes("result")), ((1, 0, 0), b"first".as_slice()));
    assert_eq!(mailbox.next().await?.about(), ("succeeded".into(), "s1".into(), "second".into()));
    yard.finish()
}

#[tokio::test]
async fn while_it_is_queued_the_dispatcher_counts() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let mut mailbox = Mailbox::open(&yard).await?;
    yard.submit(&hurried("q1", 1_000).reply_to(mailbox.address(), "late")).await?;
    let queued = yard.wait_state("q1", "queued", EVENTUALLY).await?;
    let task = yard.wait_state("q1", "expired", EVENTUALLY).await?;
    assert_never_ran(&task);
    assert!(task.number("finished_at") >= queued.number("submitted_at") + 1_000, "{task:?}");
    assert_eq!(mailbox.next().await?.about().0, "expired");
    // It is gone for good: a worker is given something else.
    let mut worker = Foreign::of("f1").start(&yard).await?;
    yard.submit(&Submission::of("echo", "").id("q2")).await?;
    let given = worker.next().await?;
    assert_eq!(given.id, "q2");
    yard.finish()
}

#[tokio::test]
async fn in_a_delay_it_counts_too() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    for (id, delay) in [("memory", 1_500), ("queues", 5_000)] {
        yard.submit(&hurried(id, 700).number("x-task-delay", delay)).await?;
        let task = yard.wait_state(id, "expired", EVENTUALLY).await?;
        assert_never_ran(&task);
        let lived = task.number("finished_at") - task.number("submitted_at");
        assert!(lived < delay, "{lived} ms: {task:?}");
    }
    yard.finish()
}

#[tokio::test]
async fn a_worker_refuses_what_it_would_start_too_late() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let worker = yard.worker("w1");
    worker.signal(Signal::SIGSTOP)?;
    yard.submit(&hurried("w1", 500)).await?;
    let task = yard.wait_state("w1", "dispatched", EVENTUALLY).await?;
    let start_by = task.number("submitted_at") + 500;
    wait_until("its start-by has passed", EVENTUALLY, async || {
        ensure!(now_ms() > start_by + 10, "not yet");
        anyhow::Ok(())
    })
    .await?;
    worker.signal(Signal::SIGCONT)?;
    let task = yard.wait_state("w1", "expired", EVENTUALLY).await?;
    assert_never_ran(&task);
    assert_eq!((task.number("failures"), task.number("losses")), (0, 0));
    still_runs(&yard).await?;
    yard.finish()
}

#[tokio::test]
async fn what_starts_in_time_runs_and_is_retried_past_it() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let task = Submission::of("fail", r#"{"failures":2}"#)
        .text("x-task-backoff", "fixed:3000")
        .properties(|properties| properties.with_expiration("4000".into()));
    let id = yard.submit(&task).await?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert_eq!(counts(&task), (3, 2, 0));
    assert!(task.number("finished_at") > task.number("submitted_at") + 4_000, "{task:?}");
    yard.finish()
}

async fn still_runs(yard: &Yard) -> anyhow::Result<()> {
    let id = yard.submit(&Submission::of("echo", "after")).await?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    Ok(())
}
