//! Redis is killed, emptied, frozen.

use ::redis::cmd;

use crate::ledger::Memory;
use crate::scene::{finish, under_load, yard};

#[tokio::test]
async fn killed_redis_costs_no_task() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        yard.servers().redis().kill9()?;
        yard.servers().redis().start().await
    })
    .await?;
    finish("killed Redis", yard, &ledger, Memory::Torn).await?;
    Ok(())
}

#[tokio::test]
async fn emptied_redis_costs_no_task() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| yard.redis::<()>(&cmd("FLUSHALL")).await).await?;
    finish("FLUSHALL", yard, &ledger, Memory::Torn).await?;
    Ok(())
}

#[tokio::test]
async fn redis_that_starts_empty_costs_no_task() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        let redis = yard.servers().redis();
        // It hangs up instead of answering.
        let _ = yard.redis::<()>(cmd("SHUTDOWN").arg("NOSAVE")).await;
        redis.process().wait_exit(taskyard_tests::EVENTUALLY).await?;
        redis.lose_data()?;
        redis.start().await
    })
    .await?;
    finish("empty start of Redis", yard, &ledger, Memory::Torn).await?;
    Ok(())
}

#[tokio::test]
async fn paused_redis_only_delays() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        yard.redis::<()>(cmd("CLIENT").arg("PAUSE").arg(10_000).arg("ALL")).await
    })
    .await?;
    finish("paused Redis", yard, &ledger, Memory::Whole).await?;
    Ok(())
}
