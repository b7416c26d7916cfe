//! A flood of tasks that nobody takes stands in nobody's way.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use taskyard_tests::{EVENTUALLY, Submission, Yard};

/// How many; and how many of them are not yet confirmed at once.
const FLOOD: usize = 100_000;
const UNCONFIRMED: usize = 1_000;
/// Taking up a hundred thousand tasks takes a while on a busy machine.
const LONG: Duration = Duration::from_secs(600);
/// Memory that a dispatcher may take for it: its window and buffers, not the flood.
const MEMORY_MAX_KIB: u64 = 400 * 1024;

async fn publish_flood(yard: &Yard) -> anyhow::Result<Vec<String>> {
    let channel = yard.channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let ids: Vec<_> = (0..FLOOD).map(|n| format!("flood.{n}")).collect();
    for ids in ids.chunks(UNCONFIRMED) {
        let mut confirms = Vec::with_capacity(ids.len());
        for id in ids {
            let properties = BasicProperties::default()
                .with_message_id(id.as_str().into())
                .with_priority(9)
                .with_delivery_mode(2);
            let (to, options) = ("taskyard.tasks".into(), BasicPublishOptions::default());
            let key = "echo".into();
            confirms.push(channel.basic_publish(to, key, options, b"drop", properties).await?);
        }
        try_join_all(confirms).await?;
    }
    Ok(ids)
}

/// How long a task of another kind and of priority 0 takes from the publish to its success.
async fn other(yard: &Yard) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let id = yard.submit(&Submission::of("other", "through").priority(0)).await?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    Ok(began.elapsed())
}

fn memory_kib(yard: &Yard) -> anyhow::Result<u64> {
    let pid = yard.dispatcher(0).pid().context("it does not run")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

#[tokio::test]
async fn tasks_that_nobody_takes_delay_no_other_kind() -> anyhow::Result<()> {
    // For now nobody takes `echo`.
    let handlers = "[[handler]]\nkind = \"other\"\nexec = [\"cat\"]\n";
    let mut yard =
        Yard::builder().worker(|w| w.id("w1").slots(2).handlers(handlers)).start().await?;
    let calm = other(&yard).await?;
    let ids = publish_flood(&yard).await?;

    // At once, behind all of them, with the lowest priority; and again and again while the flood is
    // taken in and put where it does not stand in the way.
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        slowest = slowest.max(other(&yard).await?);
    }
    ensure!(slowest < calm + Duration::from_secs(1), "{slowest:?}; before the flood {calm:?}");
    let last = ids.last().context("no flood")?;
    let waiting = yard.wait_state(last, "queued", LONG).await?;
    ensure!(waiting.text("reason").contains("no worker"), "{waiting:?}");
    let memory = memory_kib(&yard)?;
    ensure!(memory < MEMORY_MAX_KIB, "the dispatcher takes {memory} KiB");

    // Somebody takes them after all.
    yard.add_worker(|w| w.id("taker").slots(64).builtin()).await?;
    yard.wait_all(&ids, "succeeded", LONG).await?;
    yard.finish()
}
