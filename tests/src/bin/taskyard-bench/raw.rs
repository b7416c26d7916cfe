//! The raw limit: the same client library on the same broker, relaying the same messages.
//!
//! Persistent messages with an id, published with confirms through quorum queues; what
//! follows from a message is confirmed before the message is acked. A connection to consume and one to
//! publish for each role. Nothing is scheduled, nothing is remembered: a scheduler that sends a message
//! for each task to its worker, durably, and does nothing else, would be as fast as [`two`].

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures_util::{FutureExt, StreamExt};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    PublisherConfirm,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::sync::mpsc;

use crate::load::{PAYLOAD_BYTES, WINDOW};

/// Unacked messages of a consumer at once.
const PREFETCH: u16 = 1_000;
/// Messages that one cumulative ack covers at most.
const ACKED_AT_ONCE: usize = 100;
const QUEUES: [&str; 3] = ["raw.submit", "raw.worker", "raw.outcome"];

/// Submit, relay, worker, as fast as it goes: first publish to last message at the worker.
pub(crate) async fn two(url: &str, messages: usize, bytes: usize) -> anyhow::Result<Duration> {
    let queues = Queues::declare(url).await?;
    let mut worker = Consuming::open(url, QUEUES[1], PREFETCH).await?;
    let relay = Relay::open(url, QUEUES[0], QUEUES[1], PREFETCH).await?;
    let publishing = Publishing::open(url).await?;
    let relay = tokio::spawn(relay.run(messages));
    let begun = Instant::now();
    let submit = tokio::spawn(async move { publishing.all(QUEUES[0], messages, bytes).await });
    let mut unacked = 0;
    for received in 1..=messages {
        let tag = worker.next().await?.delivery_tag;
        unacked += 1;
        if unacked == ACKED_AT_ONCE || received == messages {
            unacked = 0;
            worker.ack(tag).await?;
        }
    }
    let took = begun.elapsed();
    submit.await??;
    relay.await??;
    queues.delete().await?;
    Ok(took)
}

/// Submit, relay, worker, outcome, so many messages at once: how long each took.
pub(crate) async fn three(
    url: &str,
    messages: usize,
    at_once: u16,
) -> anyhow::Result<Vec<Duration>> {
    let queues = Queues::declare(url).await?;
    let mut outcomes = Consuming::open(url, QUEUES[2], at_once).await?;
    let relay = Relay::open(url, QUEUES[0], QUEUES[1], at_once).await?;
    let relay = tokio::spawn(relay.run(messages));
    let worker = Relay::open(url, QUEUES[1], QUEUES[2], at_once).await?;
    let worker = tokio::spawn(worker.run(messages));
    let publishing = Publishing::open(url).await?;
    let mut begun = Vec::with_capacity(messages);
    let mut took = Vec::with_capacity(messages);
    let mut confirms = VecDeque::new();
    while took.len() < messages {
        while begun.len() < messages && begun.len() - took.len() < usize::from(at_once) {
            begun.push(Instant::now());
            let id = id(begun.len() - 1);
            confirms.push_back(publishing.one(QUEUES[0], &id, &[b'x'; PAYLOAD_BYTES]).await?);
        }
        let outcome = outcomes.next().await?;
        let number = outcome.properties.message_id().as_ref().context("an id")?.as_str();
        let began: Instant = *begun.get(number.parse::<usize>()?).context("an id of ours")?;
        took.push(began.elapsed());
        outcomes.ack(outcome.delivery_tag).await?;
        if let Some(confirm) = confirms.pop_front() {
            confirmed(confirm).await?;
        }
    }
    relay.await??;
    worker.await??;
    queues.delete().await?;
    Ok(took)
}

/// As long as the ids that Taskyard gives.
fn id(number: usize) -> String {
    format!("{number:036}")
}

async fn connect(url: &str) -> anyhow::Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

async fn confirmed(confirm: PublisherConfirm) -> anyhow::Result<()> {
    let confirmation = confirm.await?;
    ensure!(matches!(confirmation, Confirmation::Ack(None)), "the broker says {confirmation:?}");
    Ok(())
}

/// The queues, empty at first.
struct Queues {
    _connection: Connection,
    channel: Channel,
}

impl Queues {
    async fn declare(url: &str) -> anyhow::Result<Self> {
        let (connection, channel) = connect(url).await?;
        for queue in QUEUES {
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            let options = QueueDeclareOptions { durable: true, ..Default::default() };
            channel.queue_declare(queue.into(), options, arguments).await?;
        }
        Ok(Self { _connection: connection, channel })
    }

    async fn delete(self) -> anyhow::Result<()> {
        for queue in QUEUES {
            self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
        }
        Ok(())
    }
}

struct Consuming {
    _connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

impl Consuming {
    async fn open(url: &str, queue: &str, prefetch: u16) -> anyhow::Result<Self> {
        let (connection, channel) = connect(url).await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let arguments = FieldTable::default();
        let consumer =
            channel.basic_consume(queue.into(), "raw".into(), options, arguments).await?;
        Ok(Self { _connection: connection, channel, consumer })
    }

    async fn next(&mut self) -> anyhow::Result<lapin::message::Delivery> {
        Ok(self.consumer.next().await.context("the broker ended the consumer")??)
    }

    async fn ack(&self, up_to: u64) -> anyhow::Result<()> {
        Ok(self.channel.basic_ack(up_to, BasicAckOptions { multiple: true }).await?)
    }
}

struct Publishing {
    _connection: Connection,
    channel: Channel,
}

impl Publishing {
    async fn open(url: &str) -> anyhow::Result<Self> {
        let (connection, channel) = connect(url).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { _connection: connection, channel })
    }

    async fn one(&self, queue: &str, id: &str, body: &[u8]) -> anyhow::Result<PublisherConfirm> {
        let properties =
            BasicProperties::default().with_delivery_mode(2).with_message_id(id.into());
        let options = BasicPublishOptions::default();
        Ok(self.channel.basic_publish("".into(), queue.into(), options, body, properties).await?)
    }

    async fn all(&self, queue: &str, messages: usize, bytes: usize) -> anyhow::Result<()> {
        let body = vec![b'x'; bytes];
        let mut unconfirmed = VecDeque::with_capacity(WINDOW);
        for number in 0..messages {
            if unconfirmed.len() == WINDOW
                && let Some(oldest) = unconfirmed.pop_front()
            {
                confirmed(oldest).await?;
            }
            unconfirmed.push_back(self.one(queue, &id(number), &body).await?);
        }
        for confirm in unconfirmed {
            confirmed(confirm).await?;
        }
        Ok(())
    }
}

/// Moves messages from one queue to another.
struct Relay {
    consuming: Consuming,
    publishing: Publishing,
    to: &'static str,
}

impl Relay {
    async fn open(url: &str, from: &str, to: &'static str, prefetch: u16) -> anyhow::Result<Self> {
        let consuming = Consuming::open(url, from, prefetch).await?;
        let publishing = Publishing::open(url).await?;
        Ok(Self { consuming, publishing, to })
    }

    async fn run(mut self, messages: usize) -> anyhow::Result<()> {
        let (under_way, mut published) = mpsc::unbounded_channel::<(PublisherConfirm, u64)>();
        let channel = self.consuming.channel.clone();
        let acking = tokio::spawn(async move {
            while let Some((confirm, mut tag)) = published.recv().await {
                confirmed(confirm).await?;
                for _ in 1..ACKED_AT_ONCE {
                    let Some(Some((confirm, next))) = published.recv().now_or_never() else {
                        break;
                    };
                    confirmed(confirm).await?;
                    tag = next;
                }
                channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
            }
            anyhow::Ok(())
        });
        for _ in 0..messages {
            let delivery = self.consuming.next().await?;
            let id = delivery.properties.message_id().as_ref().context("an id")?.as_str();
            let confirm = self.publishing.one(self.to, id, &delivery.data).await?;
            // It has ended only when it failed, which it says itself.
            let _ = under_way.send((confirm, delivery.delivery_tag));
        }
        drop(under_way);
        acking.await?
    }
}
