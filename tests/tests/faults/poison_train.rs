//! A task that takes its process with it, among many that do not.

use std::time::Duration;

use anyhow::{Context, ensure};
use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};

use crate::scene::report;

/// Tasks that travel together.
const TRAIN: usize = 64;

#[tokio::test]
async fn poison_in_a_train_ends_failed_and_its_neighbours_succeed() -> anyhow::Result<()> {
    let yard = Yard::builder().worker(|w| w.id("w1").slots(64).builtin()).start().await?;
    // The dispatcher learns that both kinds are short: only then they share a message.
    let mut learned = Vec::new();
    for number in 0..200 {
        let kind = if number % 2 == 0 { "echo" } else { "fail" };
        learned.push(yard.submit(&Submission::of(kind, "{}")).await?);
    }
    yard.wait_all(&learned, "succeeded", EVENTUALLY).await?;

    // Nobody takes them while they gather, then all of them leave in one turn.
    yard.worker("w1").kill9()?;
    yard.wait_worker("w1", "suspect").await?;
    let mut neighbours = Vec::new();
    for number in 0..TRAIN - 1 {
        if number == TRAIN / 2 {
            let poison = Submission::of("fail", r#"{"abort":true}"#).id("poison");
            yard.submit(&poison.number("x-task-max-losses", 2)).await?;
        }
        neighbours.push(yard.submit(&Submission::of("fail", "{}")).await?);
    }
    let restarts = supervise(&yard, "poison").await?;
    report("poison in a train", &format!("it took {restarts} restarts of the worker"));

    let poison = yard.state("poison").await?;
    ensure!(poison.state() == "failed" && poison.text("error_kind") == "lost", "{poison:?}");
    ensure!(poison.number("losses") == 3 && poison.number("failures") == 0, "{poison:?}");
    yard.worker("w1").start()?;
    yard.wait_all(&neighbours, "succeeded", EVENTUALLY).await?;
    for id in &neighbours {
        let task = yard.state(id).await?;
        ensure!(task.number("losses") <= 1 && task.number("failures") == 0, "{task:?}");
    }
    let dead = yard.channel().await?.basic_get("taskyard.dead".into(), Default::default()).await?;
    let dead = dead.context("no dead letter")?;
    ensure!(dead.data == br#"{"abort":true}"#, "{dead:?}");
    yard.discard();
    Ok(())
}

/// Starts the worker whenever it has ended, as a supervisor does, until the task is final; how often.
async fn supervise(yard: &Yard, id: &str) -> anyhow::Result<u32> {
    let mut starts = 0;
    wait_until(&format!("the end of {id}"), Duration::from_secs(240), async || {
        if !yard.worker("w1").is_running()? {
            yard.worker("w1").start()?;
            starts += 1;
        }
        let task = yard.state(id).await?;
        ensure!(task.is_final(), "{task:?}");
        Ok(())
    })
    .await?;
    Ok(starts)
}
