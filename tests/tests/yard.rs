//! A whole system comes up, takes tasks from any client, and fails tests that should fail.

use std::time::Duration;

use anyhow::ensure;
use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};

async fn small_yard() -> anyhow::Result<Yard> {
    Yard::builder().dispatchers(2).worker(|w| w.id("w1").slots(4).builtin()).start().await
}

#[tokio::test]
async fn task_of_any_amqp_client_is_run_and_its_state_read_by_any_redis_client()
-> anyhow::Result<()> {
    let yard = small_yard().await?;

    let id = yard.submit(&Submission::of("echo", b"from lapin").priority(9)).await?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert_eq!(task.bytes("result"), b"from lapin");
    assert_eq!((task.number("attempt"), task.number("failures")), (1, 0));

    let script = "
import os, pika
connection = pika.BlockingConnection(pika.URLParameters(os.environ['TASKYARD_AMQP_URL']))
channel = connection.channel()
channel.confirm_delivery()
properties = pika.BasicProperties(message_id='from-pika', delivery_mode=2)
channel.basic_publish('taskyard.tasks', 'echo', b'from python', properties, mandatory=True)
";
    yard.python(script, &[]).await?.ok()?;
    yard.wait_state("from-pika", "succeeded", EVENTUALLY).await?;
    let shown = yard.redis_cli(&["HGET", "taskyard:task:from-pika", "result"]).await?.ok()?;
    assert_eq!(shown.trim_end(), "from python");

    // Without an id, one is assigned.
    let args = ["-e", "taskyard.tasks", "-r", "echo", "-b", "from a shell"];
    yard.amqp_publish(&args).await?.ok()?;
    wait_until("third success", EVENTUALLY, async || {
        let recent =
            yard.redis_cli(&["ZRANGE", "taskyard:recent:succeeded", "0", "-1"]).await?.ok()?;
        ensure!(recent.lines().count() == 3, "{recent}");
        anyhow::Ok(())
    })
    .await?;
    yard.finish()
}

#[tokio::test]
async fn killed_worker_comes_back_and_goes_on() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    yard.worker("w1").kill9()?;
    let id = yard.submit(&Submission::of("echo", "later")).await?;
    yard.worker("w1").start()?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    yard.discard();
    Ok(())
}

#[tokio::test]
async fn waiting_for_a_state_that_cannot_come_ends_at_once() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let id = yard.submit(&Submission::of("echo", "done")).await?;
    let long = Duration::from_secs(100_000);
    let error = yard.wait_state(&id, "failed", long).await.expect_err("it succeeds");
    assert!(error.to_string().contains("will never be failed"), "{error}");
    yard.finish()
}

#[tokio::test]
async fn programs_end_in_order_and_with_0_on_sigterm() -> anyhow::Result<()> {
    small_yard().await?.shut_down().await
}
