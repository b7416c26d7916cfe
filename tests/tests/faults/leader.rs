//! The leader is killed, frozen, asked to end.

use std::time::{Duration, Instant};

use anyhow::ensure;
use nix::sys::signal::Signal;
use taskyard_tests::{EVENTUALLY, Yard, wait_until};

use crate::ledger::Memory;
use crate::scene::{finish, leader, leads, other, report, under_load, yard};

/// Waits until that dispatcher leads; how long it took since `since`.
async fn replaced(yard: &Yard, by: usize, since: Instant) -> anyhow::Result<Duration> {
    wait_until("a new leader", EVENTUALLY, async || {
        ensure!(leads(yard, by).await?, "not yet");
        Ok(())
    })
    .await?;
    Ok(since.elapsed())
}

#[tokio::test]
async fn killed_leader_is_replaced_and_nothing_is_lost() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        for _ in 0..2 {
            let old = leader(yard).await?;
            let killed = Instant::now();
            yard.dispatcher(old).kill9()?;
            let took = replaced(yard, other(yard, old)?, killed).await?;
            report("killed leader", &format!("replaced within {took:?}"));
            ensure!(took < Duration::from_secs(15), "replaced after {took:?}");
            yard.dispatcher(old).start()?;
            yard.wait_ready().await?;
        }
        Ok(())
    })
    .await?;
    let cost = finish("killed leader", yard, &ledger, Memory::Whole).await?;
    ensure!(cost.losses == 0, "no worker died: {cost:?}");
    Ok(())
}

#[tokio::test]
async fn leader_that_is_asked_to_end_is_replaced() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        let old = leader(yard).await?;
        let asked = Instant::now();
        yard.dispatcher(old).signal(Signal::SIGTERM)?;
        let took = replaced(yard, other(yard, old)?, asked).await?;
        report("leaving leader", &format!("replaced within {took:?}"));
        let status = yard.dispatcher(old).wait_exit(EVENTUALLY).await?;
        ensure!(status.success(), "ended with {status}");
        yard.dispatcher(old).start()
    })
    .await?;
    let cost = finish("leaving leader", yard, &ledger, Memory::Whole).await?;
    ensure!(cost.losses == 0, "no worker died: {cost:?}");
    Ok(())
}

#[tokio::test]
async fn frozen_leader_is_replaced_and_harmless_when_it_wakes() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        let old = leader(yard).await?;
        let frozen = Instant::now();
        yard.dispatcher(old).signal(Signal::SIGSTOP)?;
        let took = replaced(yard, other(yard, old)?, frozen).await?;
        report("frozen leader", &format!("replaced within {took:?}"));
        // Long enough for the new one to be sure of itself before the old one wakes.
        let rest = Duration::from_secs(25).saturating_sub(frozen.elapsed());
        tokio::time::sleep(rest).await;
        yard.dispatcher(old).signal(Signal::SIGCONT)?;
        yard.wait_ready().await
    })
    .await?;
    let cost = finish("frozen leader", yard, &ledger, Memory::Whole).await?;
    ensure!(cost.losses == 0, "no worker died: {cost:?}");
    Ok(())
}
