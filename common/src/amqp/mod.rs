//! RabbitMQ as Taskyard uses it: the only place that names lapin.
//!
//! No automatic recovery: whoever opens a connection owns it, sees it fail, throws away everything
//! that hangs on it and opens a new one. Nothing waits without a limit, and a limit that passes
//! means *unknown*.

mod address;
mod connection;

mod acks;
mod consumer;
mod publisher;
mod rescue;

mod topology;

mod probe;
mod server;

pub use acks::{Acks, Settled};
pub use address::{Address, AddressError, AmqpSettings};
pub use connection::{Connection, Garbled, jittered_wait};
pub use consumer::{ConsumeOptions, Consumer, Delivery};
pub use lapin::BasicProperties as Properties;
pub use lapin::Channel;
pub use lapin::types::{
    AMQPValue as Value, FieldArray, FieldTable as Headers, LongString, ShortString,
};
pub use probe::{Comparison, Counts, Probe, Refusal};
pub use publisher::{Message, Publication, Publisher};
pub use rescue::{RescueError, Suspect, Unreadable, rescue};
pub use server::Server;
pub use topology::{
    Exchange, QueueKind, Topology, declare_worker_queue, exchanges, inner_queues, private_queue,
    shared_queues, ways_in,
};

/// What went wrong with the broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AmqpError {
    /// No host of the list could be reached: try again later.
    #[error("no broker of {hosts} could be reached")]
    Unreachable {
        /// The hosts tried, without credentials.
        hosts: String,
        /// What the last one said.
        #[source]
        last: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The broker refused user or password, or the vhost: mend the settings.
    #[error("the broker refused the connection: {0}")]
    Refused(String),
    /// A queue or exchange exists with other arguments, or a permission is missing: mend it.
    #[error("{what}: {why}")]
    Denied {
        /// What was asked for.
        what: String,
        /// What the broker said.
        why: String,
    },
    /// What was asked for does not exist (yet).
    #[error("{0} does not exist")]
    NotFound(String),
    /// The session ended: everything under way is unknown. Connect again.
    #[error("the session with the broker ended")]
    Lost(#[source] lapin::Error),
    /// The broker did not answer in time: unknown. Connect again.
    #[error("the broker did not answer within {0:?}")]
    Timeout(std::time::Duration),
    /// Queues hold messages that cannot be read, and could not be rid of them. Try again.
    #[error("queues could not be rid of unreadable messages")]
    Rescue(#[from] RescueError),
}

impl AmqpError {
    /// Whether trying again can help without anybody mending anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        !matches!(self, AmqpError::Refused(_) | AmqpError::Denied { .. })
    }

    /// Reads a lapin error that came back from `what`.
    pub(crate) fn from_lapin(what: &str, error: lapin::Error) -> Self {
        use lapin::ErrorKind;
        use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
        let ErrorKind::ProtocolError(protocol) = error.kind() else {
            return AmqpError::Lost(error);
        };
        let why = protocol.get_message().to_string();
        match protocol.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => AmqpError::NotFound(what.to_owned()),
            AMQPErrorKind::Soft(
                AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED,
            ) => AmqpError::Denied { what: what.to_owned(), why },
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => AmqpError::Refused(why),
            _ => AmqpError::Lost(error),
        }
    }
}

/// Acks a delivery, or everything up to it.
///
/// # Errors
/// The session is lost.
pub async fn ack(channel: &Channel, tag: u64, up_to: bool) -> Result<(), AmqpError> {
    let options = lapin::options::BasicAckOptions { multiple: up_to };
    channel.basic_ack(tag, options).await.map_err(AmqpError::Lost)
}

/// Gives a delivery back: to its queue, or to where its queue sends what is refused.
///
/// # Errors
/// The session is lost.
pub async fn nack(channel: &Channel, tag: u64, is_requeued: bool) -> Result<(), AmqpError> {
    let options = lapin::options::BasicNackOptions { multiple: false, requeue: is_requeued };
    channel.basic_nack(tag, options).await.map_err(AmqpError::Lost)
}

/// Ends a consumer; what it has delivered stays unacked.
///
/// # Errors
/// The session is lost.
pub async fn cancel(channel: &Channel, consumer_tag: &str) -> Result<(), AmqpError> {
    let options = lapin::options::BasicCancelOptions::default();
    channel.basic_cancel(consumer_tag.into(), options).await.map_err(AmqpError::Lost)
}

/// Drops what waits in a queue.
///
/// # Errors
/// The session is lost.
pub async fn purge(channel: &Channel, queue: &str) -> Result<(), AmqpError> {
    let options = lapin::options::QueuePurgeOptions::default();
    channel.queue_purge(queue.into(), options).await.map(drop).map_err(AmqpError::Lost)
}

/// Takes one message from a queue, if there is one.
///
/// # Errors
/// The session is lost.
pub async fn get(channel: &Channel, queue: &str) -> Result<Option<Delivery>, AmqpError> {
    let options = lapin::options::BasicGetOptions::default();
    let message = channel.basic_get(queue.into(), options).await.map_err(AmqpError::Lost)?;
    Ok(message.map(|message| {
        let delivery = message.delivery;
        Delivery {
            tag: delivery.delivery_tag,
            exchange: delivery.exchange.into(),
            routing_key: delivery.routing_key.into(),
            is_redelivered: delivery.redelivered,
            properties: delivery.properties,
            body: bytes::Bytes::from(delivery.data),
        }
    }))
}
