//! Workers and leaders that go.

use anyhow::ensure;
use nix::sys::signal::Signal;
use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};

use crate::counts;

async fn submit_many(yard: &Yard, prefix: &str, count: u32) -> anyhow::Result<Vec<String>> {
    let mut ids = Vec::new();
    for n in 0..count {
        let task = Submission::of("sleep", r#"{"ms":40}"#).id(&format!("{prefix}{n}"));
        ids.push(yard.submit(&task).await?);
    }
    Ok(ids)
}

#[tokio::test]
async fn a_worker_that_drains_under_load_loses_nothing() -> anyhow::Result<()> {
    let yard = Yard::builder()
        .worker(|w| w.id("goes").slots(4).builtin())
        .worker(|w| w.id("stays").slots(4).builtin())
        .start()
        .await?;
    let ids = submit_many(&yard, "t", 400).await?;
    let leaving = yard.worker("goes");
    wait_until("it is at work", EVENTUALLY, async || {
        let states = yard.states(&ids).await?;
        let done = states.iter().filter(|state| *state == "succeeded").count();
        ensure!(done > 40, "{done} are done");
        anyhow::Ok(())
    })
    .await?;
    leaving.signal(Signal::SIGTERM)?;
    let status = leaving.wait_exit(EVENTUALLY).await?;
    assert!(status.success(), "{status}");
    yard.wait_all(&ids, "succeeded", EVENTUALLY).await?;
    let mut workers = std::collections::BTreeMap::<_, u32>::new();
    for id in &ids {
        let task = yard.state(id).await?;
        assert_eq!((task.number("failures"), task.number("losses")), (0, 0), "{task:?}");
        *workers.entry(task.text("worker")).or_default() += 1;
    }
    assert_eq!(workers.len(), 2, "both had some: {workers:?}");
    yard.finish()
}

#[tokio::test]
async fn a_long_task_is_given_back_at_the_end_of_the_grace() -> anyhow::Result<()> {
    let yard = Yard::builder()
        .worker(|w| w.id("goes").builtin().program(|p| p.args(["--grace-ms", "500"])))
        .start()
        .await?;
    let id = yard.submit(&Submission::of("sleep", r#"{"ms":4000}"#)).await?;
    yard.wait_state(&id, "running", EVENTUALLY).await?;
    yard.worker("goes").signal(Signal::SIGTERM)?;
    let status = yard.worker("goes").wait_exit(EVENTUALLY).await?;
    assert!(status.success(), "{status}");
    let task = yard.wait_state(&id, "queued", EVENTUALLY).await?;
    assert_eq!(counts(&task), (1, 0, 0));
    yard.worker("goes").start()?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert_eq!(counts(&task), (2, 0, 0));
    yard.finish()
}

#[tokio::test]
async fn when_the_leader_is_killed_the_other_goes_on() -> anyhow::Result<()> {
    let yard =
        Yard::builder().dispatchers(2).worker(|w| w.id("w1").slots(4).builtin()).start().await?;
    let mut ids = submit_many(&yard, "before", 50).await?;
    let late = Submission::of("echo", "").id("late").number("x-task-delay", 4_000);
    ids.push(yard.submit(&late).await?);
    let leader = wait_until("a leader", EVENTUALLY, async || leader_of(&yard).await).await?;
    yard.dispatcher(leader).kill9()?;
    ids.extend(submit_many(&yard, "after", 50).await?);
    yard.wait_all(&ids, "succeeded", EVENTUALLY).await?;
    for id in &ids {
        let task = yard.state(id).await?;
        assert_eq!((task.number("failures"), task.number("losses")), (0, 0), "{task:?}");
    }
    let (_, role) = yard.http_get(1 - leader, "/readyz").await?;
    assert_eq!(role, "leading\n");

    // The killed one comes back and stands by; then it is its turn.
    yard.dispatcher(leader).start()?;
    wait_until("a standby", EVENTUALLY, async || {
        let (status, role) = yard.http_get(leader, "/readyz").await?;
        ensure!((status, role.as_str()) == (200, "standing by\n"), "{status} {role}");
        anyhow::Ok(())
    })
    .await?;
    yard.dispatcher(1 - leader).kill9()?;
    let ids = submit_many(&yard, "again", 20).await?;
    yard.wait_all(&ids, "succeeded", EVENTUALLY).await?;
    // Two that start at once may declare one queue at once: RabbitMQ 3.10 then knows it and cannot find
    // it for a moment, and that session is made anew.
    yard.expect_warnings("is down or inaccessible");
    yard.expect_warnings("session lost; connecting again error=queue taskyard.");
    yard.finish()
}

async fn leader_of(yard: &Yard) -> anyhow::Result<usize> {
    for number in 0..yard.dispatcher_count() {
        let (_, role) = yard.http_get(number, "/readyz").await?;
        if role == "leading\n" {
            return Ok(number);
        }
    }
    anyhow::bail!("none leads")
}
