//! Two processes call themselves the same worker.

use anyhow::{Context, ensure};
use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};

#[tokio::test]
async fn newer_of_two_workers_with_one_id_is_told_and_the_older_goes_on() -> anyhow::Result<()> {
    let mut yard = Yard::builder().worker(|w| w.id("twin").slots(2).builtin()).start().await?;
    yard.add_worker(|w| {
        let again = w.id("other").slots(2).builtin();
        again.program(|program| program.args(["--id", "twin"]))
    })
    .await
    .err()
    .context("nobody called other is there")?;
    let newer = yard.processes().last().context("it was just started")?;
    newer.wait_exit(EVENTUALLY).await?;
    let log = newer.log();
    ensure!(log.contains("another process has this worker id"), "{log}");

    // The older one is heard, and works.
    wait_until("the older one up", EVENTUALLY, async || {
        let state = yard.worker_field("twin", "state").await?;
        ensure!(state == "up", "{state}");
        Ok(())
    })
    .await?;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(yard.submit(&Submission::of("echo", "x")).await?);
    }
    yard.wait_all(&ids, "succeeded", EVENTUALLY).await?;
    yard.discard();
    Ok(())
}
