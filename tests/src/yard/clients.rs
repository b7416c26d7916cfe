//! The test's own connections: AMQP, Redis, HTTP.

use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use redis::{
    AsyncConnectionConfig, FromRedisValue,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Mutex,
    time::timeout,
};

use super::{Submission, TaskHash, Yard, elsewhere};
use crate::wait::wait_until;

/// How long one request to a server may take; a killed one fails at once.
const REQUEST: Duration = Duration::from_secs(20);

/// Tasks whose states are asked for in one round trip.
const PIPELINE: usize = 1_000;

/// Connections that are made at the first use, and again after a failure.
#[derive(Debug, Default)]
pub(super) struct Clients {
    amqp: Mutex<Option<Connection>>,
    publisher: Mutex<Option<Channel>>,
    redis: Mutex<Option<MultiplexedConnection>>,
}

impl Yard {
    /// A new channel on the test's connection, without confirms.
    ///
    /// # Errors
    ///
    /// When RabbitMQ cannot be reached.
    pub async fn channel(&self) -> anyhow::Result<Channel> {
        let mut connection = self.clients.amqp.lock().await;
        if connection.as_ref().is_none_or(|connection| !connection.status().connected()) {
            let url = self.place.amqp_url();
            let connecting = Connection::connect(url, ConnectionProperties::default());
            *connection = Some(timeout(REQUEST, connecting).await??);
        }
        let connection = connection.as_ref().context("it was just made")?;
        Ok(timeout(REQUEST, connection.create_channel()).await??)
    }

    /// Publishes anything anywhere, mandatory, and returns what RabbitMQ answered:
    /// `Ack(Some(message))` is a message that could not be routed.
    ///
    /// # Errors
    ///
    /// When RabbitMQ cannot be reached or does not answer: the message may be there or not.
    pub async fn submit_raw(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> anyhow::Result<Confirmation> {
        let mut publisher = self.clients.publisher.lock().await;
        if publisher.as_ref().is_none_or(|channel| !channel.status().connected()) {
            let channel = self.channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            *publisher = Some(channel);
        }
        let channel = publisher.as_ref().context("it was just made")?;
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let sent = channel
            .basic_publish(exchange.into(), routing_key.into(), options, body, properties)
            .await?;
        Ok(timeout(REQUEST, sent).await.context("no confirm")??)
    }

    /// Submits a task and returns its id; once this returns, the task is accepted.
    ///
    /// # Errors
    ///
    /// When RabbitMQ did not confirm it, or could not route it.
    pub async fn submit(&self, task: &Submission) -> anyhow::Result<String> {
        let (properties, body) = (task.all_properties(), &task.body);
        let confirmation = self.submit_raw("taskyard.tasks", &task.kind, properties, body).await?;
        ensure!(matches!(confirmation, Confirmation::Ack(None)), "not accepted: {confirmation:?}");
        Ok(task.id_text())
    }

    /// Runs one Redis command.
    ///
    /// # Errors
    ///
    /// When Redis does not answer, or answers with an error.
    pub async fn redis<T: FromRedisValue>(&self, command: &redis::Cmd) -> anyhow::Result<T> {
        let mut connection = self.redis_connection().await?;
        let answer = connection.req_packed_command(command).await;
        self.keep_if_good(answer.is_ok()).await;
        Ok(redis::from_redis_value(answer?)?)
    }

    /// The task as Redis shows it; without fields when it is unknown.
    ///
    /// # Errors
    ///
    /// When Redis does not answer.
    pub async fn state(&self, id: &str) -> anyhow::Result<TaskHash> {
        let key = format!("taskyard:task:{id}");
        self.redis(redis::cmd("HGETALL").arg(key)).await.map(TaskHash::new)
    }

    /// Waits until the task is in `state` and returns its hash. Fails at once when it got into another
    /// final state.
    ///
    /// # Errors
    ///
    /// With the last hash seen.
    pub async fn wait_state(
        &self,
        id: &str,
        state: &str,
        limit: Duration,
    ) -> anyhow::Result<TaskHash> {
        wait_until(&format!("task {id} {state}"), limit, async || {
            let task = self.state(id).await?;
            if task.state() == state {
                return Ok(Ok(task));
            }
            if task.is_final() {
                return Ok(Err(elsewhere(id, state, &task)));
            }
            Err(anyhow!("{task:?}"))
        })
        .await?
    }

    /// The states of many tasks, in their order; empty for the unknown.
    ///
    /// # Errors
    ///
    /// When Redis does not answer.
    pub async fn states(&self, ids: &[String]) -> anyhow::Result<Vec<String>> {
        let mut states = Vec::with_capacity(ids.len());
        for ids in ids.chunks(PIPELINE) {
            let mut pipeline = redis::pipe();
            for id in ids {
                pipeline.hget(format!("taskyard:task:{id}"), "state");
            }
            let mut connection = self.redis_connection().await?;
            let answer: Result<Vec<Option<String>>, _> =
                pipeline.query_async(&mut connection).await;
            self.keep_if_good(answer.is_ok()).await;
            states.extend(answer?.into_iter().map(Option::unwrap_or_default));
        }
        Ok(states)
    }

    /// Waits until all tasks are in `state`.
    ///
    /// # Errors
    ///
    /// With how many are in which state, and one that is not in `state`.
    pub async fn wait_all(
        &self,
        ids: &[String],
        state: &str,
        limit: Duration,
    ) -> anyhow::Result<()> {
        wait_until(&format!("{} tasks {state}", ids.len()), limit, async || {
            let states = self.states(ids).await?;
            let Some(other) = states.iter().position(|now| now != state) else { return Ok(()) };
            let mut counts = std::collections::BTreeMap::<_, u32>::new();
            for now in &states {
                *counts.entry(now.as_str()).or_default() += 1;
            }
            let example = self.state(&ids[other]).await?;
            bail!("{counts:?}; {} is {example:?}", ids[other])
        })
        .await
    }

    async fn redis_connection(&self) -> anyhow::Result<MultiplexedConnection> {
        let mut connection = self.clients.redis.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(REQUEST));
        let client = redis::Client::open(self.place.redis_url())?;
        let new = client.get_multiplexed_async_connection_with_config(&config).await?;
        *connection = Some(new.clone());
        Ok(new)
    }

    async fn keep_if_good(&self, is_good: bool) {
        if !is_good {
            *self.clients.redis.lock().await = None;
        }
    }
}

/// `GET` over HTTP/1.0, so that the end of the connection is the end of the answer.
pub(super) async fn http_get(address: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = timeout(REQUEST, exchange).await.context("no answer")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the head")?;
    let status = head.split_whitespace().nth(1).context("no status line")?;
    Ok((status.parse().context("no status")?, body.to_owned()))
}
