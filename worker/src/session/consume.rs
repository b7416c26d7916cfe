use super::acking::settle;
use super::{SessionError, SessionEvent, Sessions, Waits};
use crate::engine::{Incoming, Settle};
use std::time::Duration;
use taskyard_common::amqp::{
    AmqpError, Channel, Connection, ConsumeOptions, Consumer, Delivery, Probe, Properties, cancel,
};
use taskyard_common::wire::train::TASKS;
use taskyard_common::wire::{Head, Task, read_copy, train};
use tokio::sync::mpsc;
use tracing::info;

/// Messages that may be unacked at once. What a worker gets is bounded by the dispatcher, which
/// counts tasks; this only bounds what a confused one could do.
const PREFETCH: u16 = 256;
/// Name of the consumer on its channel. Each try to consume has a channel of its own, so no name is
/// ever used twice on one.
const CONSUMER: &str = "tasks";
/// Wait before a queue that was just seen is consumed: it may be an instant old, and RabbitMQ 3.10 closes
/// the connection (541) of who consumes a quorum queue that it is still making. Measured: 9 of 60 without
/// it, none of 60 with it.
const SETTLING: Duration = Duration::from_millis(100);

impl Sessions {
    /// Passes deliveries to the engine and settles what it says, until both have ended.
    pub(super) async fn consume(
        &self,
        connection: &Connection,
        mut orders: mpsc::Receiver<Vec<Settle>>,
    ) -> Result<(), SessionError> {
        let waits = self.start_consuming(connection);
        let (channel, mut consumer) = tokio::select! {
            started = waits => started?,
            // Nothing was delivered, so nothing is settled: the engine has gone.
            _ = orders.recv() => return Ok(()),
        };
        let mut consuming = Some(self.health.consuming());
        let (mut is_cancelled, mut is_over) = (false, false);
        loop {
            tokio::select! {
                delivery = consumer.next(), if !is_over => match delivery? {
                    Some(delivery) => self.deliver(delivery).await,
                    None if is_cancelled => {
                        is_over = true;
                        self.tell(SessionEvent::Dry).await;
                    }
                    None => return Err(SessionError::ConsumerEnded(self.names.worker(&self.worker))),
                },
                settles = orders.recv() => match settles {
                    Some(settles) => settle(&channel, settles).await?,
                    None => return Ok(()),
                },
                () = self.drain.cancelled(), if !is_cancelled => {
                    is_cancelled = true;
                    drop(consuming.take());
                    cancel(&channel, CONSUMER).await?;
                }
            }
        }
    }

    /// Consumes the queue as soon as it exists and has settled.
    async fn start_consuming(
        &self,
        connection: &Connection,
    ) -> Result<(Channel, Consumer), AmqpError> {
        let queue = self.names.worker(&self.worker);
        let mut waits = Waits::new();
        loop {
            let mut probe = Probe::new(connection.clone());
            while probe.queue(&queue).await?.is_none() {
                waits.wait().await;
            }
            tokio::time::sleep(SETTLING).await;
            let channel = connection.channel().await?;
            let options = ConsumeOptions::prefetch(PREFETCH);
            match Consumer::start(&channel, &queue, CONSUMER, options).await {
                Ok(consumer) => {
                    info!(queue, "consuming");
                    return Ok((channel, consumer));
                }
                Err(AmqpError::NotFound(_)) => waits.wait().await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn deliver(&self, delivery: Delivery) {
        let Delivery { tag, is_redelivered, properties, body, .. } = delivery;
        let tasks = read(&properties, body);
        self.tell(SessionEvent::Delivered(Incoming { tag, is_redelivered, tasks })).await;
    }

    async fn tell(&self, event: SessionEvent) {
        // The engine is gone: the session ends soon, and what is unacked goes back.
        let _ = self.events.send(event).await;
    }
}

/// Reads a delivery: a train of tasks, or a native one.
fn read(properties: &Properties, body: bytes::Bytes) -> Result<Vec<Task>, String> {
    let content_type = properties.content_type().as_ref();
    if content_type.is_some_and(|content_type| content_type.as_str() == TASKS) {
        let cars = train::read::<Box<Head>>(&body).map_err(|error| error.to_string())?;
        return Ok(cars.into_iter().map(|(head, payload)| Task { head, payload }).collect());
    }
    let head = read_copy(properties).map_err(|error| error.to_string())?;
    Ok(vec![Task { head: Box::new(head), payload: body }])
}
