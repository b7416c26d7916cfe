//! A worker is killed, frozen.

use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::sys::signal::Signal;
use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};

use crate::ledger::Memory;
use crate::scene::{finish, report, under_load, yard};

#[tokio::test]
async fn killed_workers_lose_nothing() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        yard.worker("w1").kill9()?;
        yard.wait_worker("w1", "suspect").await?;
        yard.worker("w1").start()?;
        yard.wait_worker("w1", "up").await?;
        // At once under a supervisor, too.
        yard.worker("w2").kill9()?;
        yard.worker("w2").start()
    })
    .await?;
    let cost = finish("killed workers", yard, &ledger, Memory::Whole).await?;
    // At most what ran in their slots.
    ensure!(cost.losses <= 16, "{cost:?}");
    Ok(())
}

/// How long until a task that is on the killed worker has got elsewhere.
async fn moved(yard: &Yard, id: &str, from: &str, since: Instant) -> anyhow::Result<Duration> {
    let limit = Duration::from_secs(120);
    wait_until(&format!("{id} off {from}"), limit, async || {
        let task = yard.state(id).await?;
        ensure!(task.text("worker") != from && task.state() == "running", "{task:?}");
        Ok(())
    })
    .await?;
    Ok(since.elapsed())
}

#[tokio::test]
async fn tasks_of_a_killed_worker_run_elsewhere_soon() -> anyhow::Result<()> {
    let mut yard =
        Yard::builder().dispatchers(2).worker(|w| w.id("w1").slots(1).builtin()).start().await?;
    let started = yard.submit(&Submission::of("sleep", r#"{"ms":200}"#).id("first")).await?;
    yard.wait_state(&started, "succeeded", EVENTUALLY).await?;
    let running = yard.submit(&Submission::of("sleep", r#"{"ms":60000}"#).id("running")).await?;
    yard.wait_state(&running, "running", EVENTUALLY).await?;
    yard.add_worker(|w| w.id("w2").slots(4).builtin()).await?;
    yard.worker("w1").signal(Signal::SIGSTOP)?;
    // It has a slot in the books, and takes nothing up: what is sent there was never started.
    let killed = Instant::now();
    yard.worker("w1").kill9()?;
    let took = moved(&yard, &running, "w1", killed).await?;
    report("killed worker", &format!("what it ran runs elsewhere after {took:?}"));
    ensure!(took < Duration::from_secs(75), "{took:?}");
    let task = yard.state(&running).await?;
    ensure!(task.number("losses") == 1 && task.number("failures") == 0, "{task:?}");
    yard.discard();
    Ok(())
}

#[tokio::test]
async fn tasks_that_a_killed_worker_had_not_started_run_elsewhere_at_once() -> anyhow::Result<()> {
    let mut yard =
        Yard::builder().dispatchers(2).worker(|w| w.id("w1").slots(8).builtin()).start().await?;
    // Frozen, it still counts as up for some seconds, and takes up nothing that it is given.
    yard.worker("w1").signal(Signal::SIGSTOP)?;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(yard.submit(&Submission::of("echo", "x")).await?);
    }
    yard.wait_all(&ids, "dispatched", EVENTUALLY).await?;
    let killed = Instant::now();
    yard.worker("w1").kill9()?;
    yard.add_worker(|w| w.id("w2").slots(8).builtin()).await?;
    yard.wait_all(&ids, "succeeded", EVENTUALLY).await?;
    let took = killed.elapsed();
    report("killed worker", &format!("what it had not started ran elsewhere after {took:?}"));
    ensure!(took < Duration::from_secs(20), "{took:?}");
    for id in &ids {
        let task = yard.state(id).await?;
        ensure!(task.number("losses") == 0 && task.number("failures") == 0, "{task:?}");
    }
    yard.discard();
    Ok(())
}

#[tokio::test]
async fn worker_frozen_beyond_suspicion_goes_on_when_it_wakes() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        yard.worker("w1").signal(Signal::SIGSTOP)?;
        yard.wait_worker("w1", "suspect").await?;
        // So long that the broker, too, gives its connections up (twice the heartbeat of 10 s).
        yard.wait_worker("w1", "lost").await?;
        yard.worker("w1").signal(Signal::SIGCONT)?;
        yard.wait_worker("w1", "up").await
    })
    .await?;
    let cost = finish("frozen worker", yard, &ledger, Memory::Whole).await?;
    ensure!(cost.losses <= 8, "{cost:?}");
    Ok(())
}
