//! RabbitMQ is killed, loses its connections, is short of memory.

use anyhow::ensure;

use crate::ledger::Memory;
use crate::scene::{finish, leader, under_load, yard};

#[tokio::test]
async fn killed_broker_loses_nothing() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        yard.servers().rabbitmq().kill9()?;
        yard.servers().rabbitmq().start().await?;
        yard.wait_ready().await?;
        leader(yard).await.map(drop)
    })
    .await?;
    finish("killed broker", yard, &ledger, Memory::Whole).await?;
    Ok(())
}

#[tokio::test]
async fn restarted_broker_loses_nothing() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        yard.servers().rabbitmq().stop().await?;
        yard.servers().rabbitmq().start().await?;
        leader(yard).await.map(drop)
    })
    .await?;
    finish("restarted broker", yard, &ledger, Memory::Whole).await?;
    Ok(())
}

#[tokio::test]
async fn closed_connections_are_made_again() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        for _ in 0..3 {
            let args = ["close_all_connections", "a test"];
            yard.servers().rabbitmq().rabbitmqctl(&args).await?;
            leader(yard).await?;
        }
        Ok(())
    })
    .await?;
    let cost = finish("closed connections", yard, &ledger, Memory::Whole).await?;
    ensure!(cost.losses == 0, "no worker died: {cost:?}");
    Ok(())
}

#[tokio::test]
async fn memory_alarm_only_delays() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        let watermark = |share: &'static str| ["set_vm_memory_high_watermark", share];
        yard.servers().rabbitmq().rabbitmqctl(&watermark("0.0001")).await?;
        // Longer than a publisher waits for a confirm, and than a silent worker counts as alive.
        tokio::time::sleep(std::time::Duration::from_secs(40)).await;
        yard.servers().rabbitmq().rabbitmqctl(&watermark("0.6")).await?;
        leader(yard).await.map(drop)
    })
    .await?;
    let cost = finish("memory alarm", yard, &ledger, Memory::Whole).await?;
    ensure!(cost.losses == 0, "no worker died: {cost:?}");
    Ok(())
}
