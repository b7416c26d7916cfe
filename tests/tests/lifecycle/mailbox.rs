//! A queue of the test's own, for replies and answers; and looks into queues.

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Consumer,
    message::{BasicGetMessage, Delivery},
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use serde_json::Value;
use taskyard_tests::{EVENTUALLY, Yard, wait_until};

/// Where replies arrive.
#[derive(Debug)]
pub(crate) struct Mailbox {
    name: String,
    channel: Channel,
    letters: Consumer,
}

impl Mailbox {
    /// A queue that only this connection can use.
    pub(crate) async fn open(yard: &Yard) -> anyhow::Result<Self> {
        let channel = yard.channel().await?;
        let private =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), private, FieldTable::default()).await?;
        Self::consume(channel, queue.name().as_str()).await
    }

    /// RabbitMQ's direct reply-to, which is no queue; publish on [`Self::publish`].
    pub(crate) async fn direct(yard: &Yard) -> anyhow::Result<Self> {
        Self::consume(yard.channel().await?, "amq.rabbitmq.reply-to").await
    }

    async fn consume(channel: Channel, name: &str) -> anyhow::Result<Self> {
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let letters =
            channel.basic_consume(name.into(), "".into(), options, FieldTable::default()).await?;
        Ok(Self { name: name.to_owned(), channel, letters })
    }

    /// Its address.
    pub(crate) fn address(&self) -> &str {
        &self.name
    }

    /// Publishes on the channel that waits for the reply.
    pub(crate) async fn publish(
        &self,
        exchange: &str,
        key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> anyhow::Result<()> {
        let properties = properties.with_reply_to(self.name.as_str().into());
        let options = BasicPublishOptions::default();
        self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?;
        Ok(())
    }

    /// The next letter.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Letter> {
        let next = tokio::time::timeout(EVENTUALLY, self.letters.next()).await;
        Ok(Letter(next.context("no letter")?.context("the consumer ended")??))
    }

    /// A command by section 4 of the contract, and its answer.
    pub(crate) async fn command(&mut self, command: &Value) -> anyhow::Result<Value> {
        let properties = BasicProperties::default();
        let body = command.to_string();
        self.publish("taskyard.commands", "", properties, body.as_bytes()).await?;
        Ok(serde_json::from_slice(&self.next().await?.0.data)?)
    }
}

/// A reply.
#[derive(Debug)]
pub(crate) struct Letter(pub(crate) Delivery);

impl Letter {
    /// The final state that it tells, of which task, and whose question it answers.
    pub(crate) fn about(&self) -> (String, String, String) {
        let properties = &self.0.properties;
        let text = |property: &Option<lapin::types::ShortString>| {
            property.as_ref().map(ToString::to_string).unwrap_or_default()
        };
        (text(properties.kind()), text(properties.message_id()), text(properties.correlation_id()))
    }

    pub(crate) fn header(&self, name: &str) -> String {
        header(&self.0.properties, name)
    }
}

/// A header as text, empty where there is none.
pub(crate) fn header(properties: &BasicProperties, name: &str) -> String {
    use lapin::types::AMQPValue;
    let value = properties.headers().as_ref().and_then(|table| table.inner().get(name));
    match value {
        None => String::new(),
        Some(AMQPValue::LongString(text)) => text.to_string(),
        Some(AMQPValue::LongLongInt(n)) => n.to_string(),
        Some(AMQPValue::LongInt(n)) => n.to_string(),
        Some(other) => format!("{other:?}"),
    }
}

/// How many messages a queue has ready.
pub(crate) async fn depth(yard: &Yard, queue: &str) -> anyhow::Result<u32> {
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let channel = yard.channel().await?;
    let declared = channel.queue_declare(queue.into(), passive, FieldTable::default()).await?;
    Ok(declared.message_count())
}

/// Takes the next message out of a queue, as soon as there is one.
pub(crate) async fn take(yard: &Yard, queue: &str) -> anyhow::Result<BasicGetMessage> {
    let channel = yard.channel().await?;
    let message = wait_until(&format!("a message in {queue}"), EVENTUALLY, async || {
        let message = channel.basic_get(queue.into(), BasicGetOptions::default()).await?;
        message.context("empty")
    })
    .await?;
    message.delivery.acker.ack(BasicAckOptions::default()).await?;
    ensure!(channel.status().connected(), "the ack closed the channel");
    Ok(message)
}
