//! A worker's queue is purged, deleted.

use anyhow::ensure;

use crate::ledger::Memory;
use crate::scene::{finish, under_load, yard};

#[tokio::test]
async fn purged_worker_queues_lose_nothing() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        let vhost = yard.place().vhost();
        for worker in ["w1", "w2", "w3", "w1", "w2"] {
            let queue = format!("taskyard.worker.{worker}");
            let purge = ["purge_queue", "-p", vhost, &queue];
            // Frozen, so that something lies in it.
            yard.worker(worker).signal(nix::sys::signal::Signal::SIGSTOP)?;
            let purged = yard.servers().rabbitmq().rabbitmqctl(&purge).await;
            yard.worker(worker).signal(nix::sys::signal::Signal::SIGCONT)?;
            purged?;
        }
        Ok(())
    })
    .await?;
    let cost = finish("purged worker queues", yard, &ledger, Memory::Whole).await?;
    ensure!(cost.losses == 0, "no worker died: {cost:?}");
    Ok(())
}

#[tokio::test]
async fn deleted_worker_queues_lose_nothing() -> anyhow::Result<()> {
    let yard = yard().await?;
    let ledger = under_load(&yard, async |yard| {
        let vhost = yard.place().vhost();
        for worker in ["w1", "w2", "w3"] {
            let queue = format!("taskyard.worker.{worker}");
            yard.servers().rabbitmq().rabbitmqctl(&["delete_queue", "-p", vhost, &queue]).await?;
            yard.wait_ready().await?;
        }
        Ok(())
    })
    .await?;
    finish("deleted worker queues", yard, &ledger, Memory::Whole).await?;
    Ok(())
}
