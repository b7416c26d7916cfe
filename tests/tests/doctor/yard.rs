//! What may be wrong with a yard that runs.

use crate::patient::{Patient, redis};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions};
use lapin::{BasicProperties, Channel};
use nix::sys::signal::Signal;
use taskyard_tests::{EVENTUALLY, Servers, Submission, Yard};

async fn publish(channel: &Channel, queue: &str, count: u32) -> anyhow::Result<()> {
    let options = ConfirmSelectOptions::default();
    channel.confirm_select(options).await?;
    let mut confirms = Vec::new();
    for _ in 0..count {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent = channel.basic_publish("".into(), queue.into(), options, b"", properties);
        confirms.push(sent.await?);
    }
    for confirm in confirms {
        confirm.await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_goes_wrong_in_a_running_yard_is_found() -> anyhow::Result<()> {
    let yard = Yard::builder()
        .own_servers(Servers::builder().management())
        .worker(|w| w.id("w1").slots(2).builtin())
        .worker(|w| w.id("w2").slots(2).builtin())
        .start()
        .await?;
    let patient = Patient::at(yard.servers(), yard.place());
    patient.wait_for(&[], "", ("dispatchers", "warning", "nobody stands by")).await?;
    patient.wait_for(&[], "", ("waiting", "ok", "")).await?;

    yard.submit(&Submission::of("nobody.takes", "").id("waits")).await?;
    yard.wait_state("waits", "queued", EVENTUALLY).await?;
    patient.wait_for(&[], "", ("waiting", "warning", "kind nobody.takes wait")).await?;

    let channel = yard.channel().await?;
    publish(&channel, "taskyard.dead", 1_000).await?;
    patient.wait_for(&[], "", ("dead-letters", "warning", "dead letters")).await?;
    publish(&channel, "taskyard.rejected", 1).await?;
    patient.wait_for(&[], "", ("dead-letters", "warning", "rejected submissions")).await?;
    let options = QueueDeleteOptions::default();
    channel.queue_delete("taskyard.lane.default.3".into(), options).await?;
    patient.wait_for(&[], "", ("queues", "problem", "taskyard.lane.default.3 does")).await?;

    yard.worker("w1").kill9()?;
    patient.wait_for(&[], "", ("workers", "warning", "the worker w1 is suspect")).await?;
    patient.wait_for(&[], "", ("workers", "warning", "the worker w1 is lost")).await?;
    yard.worker("w2").kill9()?;
    patient.wait_for(&[], "", ("workers", "problem", "has no worker")).await?;

    // A dispatcher that is frozen keeps its token until RabbitMQ notices.
    yard.dispatcher(0).signal(Signal::SIGSTOP)?;
    patient.wait_for(&[], "", ("dispatchers", "problem", "")).await?;
    yard.dispatcher(0).kill9()?;
    patient.wait_for(&[], "", ("dispatchers", "problem", "no dispatcher serves")).await?;

    // Nobody writes over these any more.
    let url = yard.place().redis_url();
    redis(url, &["HSET", "taskyard:worker:w2", "version", "0.0.1", "state", "up"]).await?;
    patient.wait_for(&[], "", ("workers", "warning", "has version 0.0.1")).await?;
    let tomorrow = "9999999999999";
    redis(url, &["ZADD", "taskyard:workers", tomorrow, "w2"]).await?;
    patient.wait_for(&[], "", ("clocks", "problem", "saw the worker w2")).await?;
    yard.discard();
    Ok(())
}

#[tokio::test]
async fn parked_tasks_are_counted() -> anyhow::Result<()> {
    let yard = Yard::builder().start().await?;
    let patient = Patient::at(yard.servers(), yard.place());
    // More than the window keeps of what no worker takes.
    for n in 0..300 {
        yard.submit(&Submission::of("nobody.takes", "").id(&format!("p{n}"))).await?;
    }
    patient.wait_for(&[], "", ("waiting", "warning", "are parked")).await?;
    yard.finish()
}
