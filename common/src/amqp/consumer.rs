use super::connection::within;
use super::{AmqpError, Headers, Properties, Value};
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};

/// How to consume a queue.
#[derive(Clone, Copy, Debug)]
pub struct ConsumeOptions {
    /// How many messages may be unacked at once; lapin's own buffer is bounded by nothing else.
    pub prefetch: u16,
    /// Whether deliveries count as acked when they are sent.
    pub no_ack: bool,
    /// Preferred over consumers of lower priority.
    pub priority: i32,
}

impl ConsumeOptions {
    /// Acked one by one, this many at once.
    #[must_use]
    pub fn prefetch(prefetch: u16) -> Self {
        Self { prefetch, no_ack: false, priority: 0 }
    }

    /// Not acked at all.
    #[must_use]
    pub fn no_ack() -> Self {
        Self { prefetch: 0, no_ack: true, priority: 0 }
    }
}

/// A message as it was delivered.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its number on the channel: what an ack refers to.
    pub tag: u64,
    /// The exchange it was published to.
    pub exchange: String,
    /// The key it was published with.
    pub routing_key: String,
    /// Whether it may have been delivered before.
    pub is_redelivered: bool,
    /// Properties, headers among them.
    pub properties: Properties,
    /// The body.
    pub body: Bytes,
}

/// A stream of deliveries of one queue.
pub struct Consumer {
    inner: lapin::Consumer,
}

impl Consumer {
    /// Begins to consume `queue` on `channel`.
    ///
    /// `tag` must be new on this channel: RabbitMQ 3.10 closes the connection when one is used
    /// again while deliveries are under way.
    ///
    /// # Errors
    /// [`AmqpError::NotFound`] where the queue does not exist (the channel is closed then), or the
    /// session is lost.
    pub async fn start(
        channel: &lapin::Channel,
        queue: &str,
        tag: &str,
        options: ConsumeOptions,
    ) -> Result<Self, AmqpError> {
        if options.prefetch > 0 {
            within("basic.qos", channel.basic_qos(options.prefetch, BasicQosOptions::default()))
                .await?;
        }
        let consume = BasicConsumeOptions { no_ack: options.no_ack, ..Default::default() };
        let mut arguments = Headers::default();
        if options.priority != 0 {
            arguments.insert("x-priority".into(), Value::LongInt(options.priority));
        }
        let what = format!("queue {queue}");
        let inner =
            within(&what, channel.basic_consume(queue.into(), tag.into(), consume, arguments))
                .await?;
        Ok(Self { inner })
    }

    /// The next delivery; `None` when the broker ended the consumer (the queue is gone, or it was
    /// cancelled).
    ///
    /// # Errors
    /// The session is lost.
    ///
    /// # Cancel safety
    /// Safe: nothing is taken unless it is returned.
    pub async fn next(&mut self) -> Result<Option<Delivery>, AmqpError> {
        match self.inner.next().await {
            None => Ok(None),
            Some(Err(error)) => Err(AmqpError::Lost(error)),
            Some(Ok(delivery)) => Ok(Some(Delivery {
                tag: delivery.delivery_tag,
                exchange: delivery.exchange.into(),
                routing_key: delivery.routing_key.into(),
                is_redelivered: delivery.redelivered,
                properties: delivery.properties,
                body: Bytes::from(delivery.data),
            })),
        }
    }
}
