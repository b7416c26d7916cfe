//! The job: one task per file.

use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, LongString},
};
use taskyard_tests::wait_until;

use crate::tree::File;

/// Messages on their way to RabbitMQ that are not confirmed yet.
const WINDOW: usize = 500;
/// One task in so many fails at its first attempt.
const FLAKY_EVERY: usize = 100;

/// The task of one file.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) is_flaky: bool,
    priority: u8,
    payload: Vec<u8>,
}

/// A task for each file; ids begin with `run`.
pub(crate) fn tasks(run: &str, files: &[File]) -> Vec<Task> {
    let task = |(number, file): (usize, &File)| {
        let is_flaky = number % FLAKY_EVERY == 0;
        let mark = if is_flaky { "-flaky" } else { "" };
        Task {
            id: format!("{run}-{number}{mark}"),
            is_flaky,
            priority: rand::random_range(0..=9),
            payload: file.path.as_os_str().as_bytes().to_vec(),
        }
    };
    files.iter().enumerate().map(task).collect()
}

/// Publishes all tasks; when it returns, every one is accepted.
pub(crate) async fn submit(amqp_url: &str, tasks: &[Task]) -> anyhow::Result<()> {
    let connection = Connection::connect(amqp_url, ConnectionProperties::default())
        .await
        .context("cannot reach RabbitMQ")?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    stream::iter(tasks)
        .map(|task| submit_one(&channel, task))
        .buffered(WINDOW)
        .try_collect::<()>()
        .await?;
    connection.close(200, "all submitted".into()).await?;
    Ok(())
}

async fn submit_one(channel: &Channel, task: &Task) -> anyhow::Result<()> {
    let what = format!("submission of {}", task.id);
    // A nack means "not now".
    wait_until(&what, taskyard_tests::EVENTUALLY, async || match publish(channel, task).await {
        Ok(Confirmation::Ack(None)) => Ok(Ok(())),
        Ok(Confirmation::Ack(Some(_))) => Ok(Err(anyhow::anyhow!("{what}: nobody takes it"))),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Ok(Err(error.into())),
    })
    .await?
}

async fn publish(channel: &Channel, task: &Task) -> lapin::Result<Confirmation> {
    let mut headers = FieldTable::default();
    let backoff = AMQPValue::LongString(LongString::from("fixed:200"));
    headers.insert("x-task-backoff".into(), backoff);
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id(task.id.as_str().into())
        .with_priority(task.priority)
        .with_headers(headers);
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let (exchange, kind) = ("taskyard.tasks".into(), "file.sha256".into());
    channel.basic_publish(exchange, kind, options, &task.payload, properties).await?.await
}

/// What Redis says about a finished task.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) state: String,
    pub(crate) result: Vec<u8>,
    pub(crate) error: String,
    pub(crate) failures: u32,
    pub(crate) worker: String,
}

/// Reads how all tasks ended, a batch a round trip.
pub(crate) async fn collect(redis_url: &str, tasks: &[Task]) -> anyhow::Result<Vec<Done>> {
    const BATCH: usize = 500;
    type Fields = (String, Vec<u8>, String, u32, String);
    let client = redis::Client::open(redis_url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let mut all = Vec::with_capacity(tasks.len());
    for batch in tasks.chunks(BATCH) {
        let mut pipeline = redis::pipe();
        for task in batch {
            let fields = ["state", "result", "error", "failures", "worker"];
            pipeline.cmd("HMGET").arg(format!("taskyard:task:{}", task.id)).arg(&fields);
        }
        let answers: Vec<Fields> = pipeline.query_async(&mut connection).await?;
        all.extend(answers.into_iter().map(|(state, result, error, failures, worker)| Done {
            state,
            result,
            error,
            failures,
            worker,
        }));
    }
    if all.len() != tasks.len() {
        bail!("Redis answered for {} of {} tasks", all.len(), tasks.len());
    }
    Ok(all)
}
