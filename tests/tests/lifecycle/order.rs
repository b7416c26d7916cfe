//! Which task goes next.

use anyhow::ensure;
use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};

use crate::{foreign::Foreign, now_ms};

/// Keeps the one slot busy while tasks are submitted, then runs them and returns their order.
async fn order_of(yard: &Yard, tasks: &[(&str, u8)]) -> anyhow::Result<Vec<String>> {
    let mut worker = Foreign::of("f1").start(yard).await?;
    yard.submit(&Submission::of("echo", "").id("blocker")).await?;
    let blocker = worker.next().await?;
    for (id, priority) in tasks {
        submit(yard, id, *priority).await?;
    }
    run(&mut worker, blocker, tasks.len()).await
}

async fn submit(yard: &Yard, id: &str, priority: u8) -> anyhow::Result<()> {
    yard.submit(&Submission::of("echo", "").id(id).priority(priority)).await?;
    yard.wait_state(id, "queued", EVENTUALLY).await?;
    Ok(())
}

async fn run(
    worker: &mut Foreign,
    blocker: crate::foreign::Given,
    count: usize,
) -> anyhow::Result<Vec<String>> {
    worker.succeed(blocker, b"").await?;
    let mut order = Vec::new();
    for _ in 0..count {
        let given = worker.next().await?;
        order.push(given.id.clone());
        worker.succeed(given, b"").await?;
    }
    Ok(order)
}

const TASKS: [(&str, u8); 6] = [("a", 0), ("b", 9), ("c", 5), ("d", 5), ("e", 0), ("f", 9)];

#[tokio::test]
async fn higher_priorities_go_first_and_equals_in_order() -> anyhow::Result<()> {
    let yard = Yard::builder().start().await?;
    assert_eq!(order_of(&yard, &TASKS).await?, ["b", "f", "c", "d", "a", "e"]);
    yard.finish()
}

#[tokio::test]
async fn first_come_first_served_looks_at_no_priority() -> anyhow::Result<()> {
    let yard = Yard::builder().each_dispatcher(|d| d.args(["--order", "fcfs"])).start().await?;
    assert_eq!(order_of(&yard, &TASKS).await?, ["a", "b", "c", "d", "e", "f"]);
    yard.finish()
}

#[tokio::test]
async fn waiting_raises_a_priority() -> anyhow::Result<()> {
    // Nine priorities are worth nine times 300 ms.
    let yard = Yard::builder().each_dispatcher(|d| d.args(["--ageing-ms", "300"])).start().await?;
    let mut worker = Foreign::of("f1").start(&yard).await?;
    yard.submit(&Submission::of("echo", "").id("blocker")).await?;
    let blocker = worker.next().await?;
    submit(&yard, "old", 0).await?;
    let old_at = yard.state("old").await?.number("submitted_at");
    wait_until("the old one has aged", EVENTUALLY, async || {
        let age_ms = now_ms() - old_at;
        ensure!(age_ms > 9 * 300, "{age_ms} ms");
        anyhow::Ok(())
    })
    .await?;
    submit(&yard, "young", 0).await?;
    submit(&yard, "urgent", 9).await?;
    assert_eq!(run(&mut worker, blocker, 3).await?, ["old", "urgent", "young"]);
    yard.finish()
}

#[tokio::test]
async fn a_kind_has_its_own_defaults() -> anyhow::Result<()> {
    let config = r#"
        [[kinds]]
        kind = "urgent.#"
        priority = 8
        max_attempts = 2
        max_losses = 1
        backoff = "fixed:10"
    "#;
    let yard = Yard::builder().each_dispatcher(|d| d.config(config)).start().await?;
    let mut worker = Foreign::of("f1").start(&yard).await?;
    yard.submit(&Submission::of("echo", "").id("blocker")).await?;
    let blocker = worker.next().await?;
    yard.submit(&Submission::of("echo", "").id("plain").priority(3)).await?;
    yard.submit(&Submission::of("urgent.mail", "").id("default")).await?;
    yard.submit(&Submission::of("urgent.mail", "").id("own").priority(9)).await?;
    let ids = ["plain", "default", "own"].map(String::from);
    yard.wait_all(&ids, "queued", EVENTUALLY).await?;
    assert_eq!(run(&mut worker, blocker, 3).await?, ["own", "default", "plain"]);
    let task = yard.wait_state("default", "succeeded", EVENTUALLY).await?;
    assert_eq!(task.number("priority"), 8);
    assert_eq!((task.number("max_attempts"), task.number("max_losses")), (2, 1));
    yard.finish()
}
