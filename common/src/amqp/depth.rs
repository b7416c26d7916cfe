use super::connection::within;
use super::{AmqpError, Connection};
use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

/// Asks how many messages wait in queues: for people to look at, never to decide by.
///
/// A quorum queue that is merely slow to answer is said to be empty, and what is delivered and not acked
/// is not counted.
pub struct Depths {
    connection: Connection,
    /// RabbitMQ closes the channel on which somebody asks for a queue that is not there.
    channel: Option<Channel>,
}

impl Depths {
    /// On a connection of its own.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection, channel: None }
    }

    /// Messages ready in a queue, about; `None` if there is no such queue.
    ///
    /// # Errors
    /// The session ended, or nobody answered: ask on a new connection.
    ///
    /// # Cancel safety
    /// Dropping the future costs a channel at most.
    pub async fn of(&mut self, queue: &str) -> Result<Option<u64>, AmqpError> {
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => self.connection.channel().await?,
        };
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let asked = channel.queue_declare(queue.into(), options, FieldTable::default());
        match within(queue, asked).await {
            Ok(answer) => {
                self.channel = Some(channel);
                Ok(Some(answer.message_count().into()))
            }
            Err(AmqpError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
