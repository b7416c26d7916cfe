use super::connection::within;
use super::topology::declare;
use super::{AmqpError, Connection, Exchange, Headers, Properties, Value};
use lapin::Channel;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions,
};
use std::time::Duration;

/// Longest wait for a message to be refused: one of the largest size has to get there first.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(60);

/// Looks at what is on a broker, and what this user may do there, and changes nothing: for people to look
/// at, and to wait for what somebody else has yet to declare.
///
/// Most questions are asked by asking for something that RabbitMQ must refuse: which refusal comes
/// says what is so, since permissions are checked first. RabbitMQ closes the channel with each, and
/// writes a line to its log.
pub struct Probe {
    connection: Connection,
    channel: Option<Channel>,
}

/// What a queue holds, as far as its leader said; both are 0 where it is slow to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages that wait.
    pub messages: u32,
    /// Consumers that are served; of a single active consumer's queue that one.
    pub consumers: u32,
}

/// How what exists compares with what has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is the same.
    Same,
    /// It differs, in the broker's words.
    Differs(String),
    /// This user may not declare it, so it cannot be compared.
    Forbidden,
}

/// How RabbitMQ refuses a message that it would not route in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// For the message's own fault: this user may publish there.
    Faulty,
    /// This user may not publish there.
    Forbidden,
    /// It is larger than what is allowed, in the broker's words.
    TooLarge(String),
    /// Not at all: it reads nothing that is published, because of an alarm (memory or disk). This
    /// connection is of no further use.
    Blocked,
}

impl Probe {
    /// On a connection that nobody else needs.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection, channel: None }
    }

    /// The connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// A channel that is open: the last refusal may have closed it.
    async fn channel(&mut self) -> Result<Channel, AmqpError> {
        if let Some(channel) = &self.channel
            && channel.status().connected()
        {
            return Ok(channel.clone());
        }
        let channel = self.connection.confirming_channel().await?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    /// Whether a queue exists, and what it holds.
    ///
    /// # Errors
    /// The session is lost.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn queue(&mut self, name: &str) -> Result<Option<Counts>, AmqpError> {
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let declare = channel.queue_declare(name.into(), options, Headers::default());
        match within(&format!("queue {name}"), declare).await {
            Ok(queue) => Ok(Some(Counts {
                messages: queue.message_count(),
                consumers: queue.consumer_count(),
            })),
            Err(AmqpError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether an exchange exists.
    ///
    /// # Errors
    /// The session is lost.
    pub async fn has_exchange(&mut self, name: &str) -> Result<bool, AmqpError> {
        let channel = self.channel().await?;
        let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let kind = lapin::ExchangeKind::Direct;
        let declare = channel.exchange_declare(name.into(), kind, options, Headers::default());
        match within(&format!("exchange {name}"), declare).await {
            Ok(()) => Ok(true),
            Err(AmqpError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a queue **that exists** has these arguments: to declare it again says so. What does
    /// not exist would be made.
    ///
    /// # Errors
    /// The session is lost.
    pub async fn compare_queue(
        &mut self,
        name: &str,
        arguments: Headers,
    ) -> Result<Comparison, AmqpError> {
        let channel = self.channel().await?;
        compared(declare(&channel, name, arguments).await)
    }

    /// Whether an exchange **that exists** is as it has to be; as [`Probe::compare_queue`].
    ///
    /// # Errors
    /// The session is lost.
    pub async fn compare_exchange(&mut self, exchange: &Exchange) -> Result<Comparison, AmqpError> {
        let channel = self.channel().await?;
        compared(exchange.declare(&channel).await)
    }

    /// Whether this user may consume a queue: RabbitMQ checks that before it finds fault with the
    /// priority of the consumer, or with a queue that does not exist.
    ///
    /// # Errors
    /// The session is lost.
    pub async fn may_read(&mut self, queue: &str) -> Result<bool, AmqpError> {
        let channel = self.channel().await?;
        let mut arguments = Headers::default();
        arguments.insert("x-priority".into(), Value::LongString("none".into()));
        let options = BasicConsumeOptions::default();
        let consume = channel.basic_consume(queue.into(), "probe".into(), options, arguments);
        match within(&format!("queue {queue}"), consume).await {
            Err(AmqpError::Denied { why, .. }) => Ok(!is_forbidden(&why)),
            Err(AmqpError::NotFound(_)) => Ok(true),
            Err(error) => Err(error),
            Ok(_) => {
                // A broker that takes any priority: the consumer goes with the channel, at once.
                let _ = channel.close(200, "done".into()).await;
                Ok(true)
            }
        }
    }

    /// Whether this user may publish to an exchange, with a body of this size: by a message that
    /// RabbitMQ must refuse before it routes it, for it claims another user's name, and its
    /// expiration is no number. Size and permission are checked before these.
    ///
    /// An alarm may be noticed with the second message only: RabbitMQ reads the first one, and then
    /// nothing more.
    ///
    /// # Errors
    /// The session is lost, or there was no answer.
    pub async fn publish(
        &mut self,
        exchange: &str,
        body_bytes: usize,
    ) -> Result<Refusal, AmqpError> {
        let mut blocked = self.connection.blocked();
        let refused = tokio::select! {
            biased;
            Ok(_) = blocked.wait_for(|is_blocked| *is_blocked) => return Ok(Refusal::Blocked),
            refused = self.publish_faulty(exchange, body_bytes) => refused,
            () = tokio::time::sleep(PUBLISH_TIMEOUT) => Err(AmqpError::Timeout(PUBLISH_TIMEOUT)),
        };
        match refused {
            Err(AmqpError::Denied { why, .. }) if is_forbidden(&why) => Ok(Refusal::Forbidden),
            Err(AmqpError::Denied { why, .. }) if why.contains("larger than") => {
                Ok(Refusal::TooLarge(why))
            }
            // An exchange that does not exist is looked up after the permission.
            Ok(()) | Err(AmqpError::Denied { .. } | AmqpError::NotFound(_)) => Ok(Refusal::Faulty),
            Err(error) => Err(error),
        }
    }

    async fn publish_faulty(&mut self, exchange: &str, bytes: usize) -> Result<(), AmqpError> {
        let channel = self.channel().await?;
        let properties = Properties::default()
            .with_user_id("taskyard-doctor-is-nobody".into())
            .with_expiration("never".into());
        let body = vec![0; bytes];
        let published = async {
            let (exchange, key) = (exchange.into(), "taskyard.doctor.nowhere".into());
            let options = BasicPublishOptions::default();
            channel.basic_publish(exchange, key, options, &body, properties).await?.await
        };
        published.await.map(drop).map_err(|error| AmqpError::from_lapin(exchange, error))
    }
}

fn compared(declared: Result<(), AmqpError>) -> Result<Comparison, AmqpError> {
    match declared {
        Ok(()) => Ok(Comparison::Same),
        Err(AmqpError::Denied { why, .. }) if is_forbidden(&why) => Ok(Comparison::Forbidden),
        Err(AmqpError::Denied { why, .. }) => Ok(Comparison::Differs(why)),
        Err(error) => Err(error),
    }
}

/// RabbitMQ's texts begin with the code's name.
fn is_forbidden(why: &str) -> bool {
    why.starts_with("ACCESS_REFUSED")
}
