use crate::Settings;
use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use taskyard_common::amqp::{AmqpError, AmqpSettings, Connection, Publisher};
use tokio::sync::Mutex;

/// After so many seconds of silence, doubled, a peer is believed dead.
pub(crate) const HEARTBEAT_S: u16 = 10;

/// Makes publishing channels for the pool, all on one connection, and tells the living from the
/// dead. A connection that is lost is made anew by whoever needs the next channel.
pub(crate) struct Channels {
    amqp: AmqpSettings,
    name: String,
    connection: Mutex<Option<Connection>>,
}

/// A publishing channel and the connection that it hangs on.
pub(crate) struct Channel {
    pub(crate) publisher: Publisher,
    connection: Connection,
}

impl Channel {
    /// Whether it can still be published on, as far as this side knows.
    pub(crate) fn is_open(&self) -> bool {
        self.connection.is_open() && !self.publisher.is_closed()
    }
}

impl Channels {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            amqp: settings.amqp.clone(),
            name: settings.name.clone(),
            connection: Mutex::default(),
        }
    }

    /// The connection; a new one if there is none or the last one is lost.
    async fn connection(&self) -> Result<Connection, AmqpError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        let connection = Connection::open(&self.amqp, &self.name, HEARTBEAT_S).await?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// A connection that has nothing to do with the others, for a look at the broker.
    pub(crate) async fn separate_connection(&self) -> Result<Connection, AmqpError> {
        Connection::open(&self.amqp, &format!("{} (probe)", self.name), HEARTBEAT_S).await
    }

    /// Whether RabbitMQ has blocked the connection (memory or disk alarm).
    pub(crate) async fn is_blocked(&self) -> bool {
        self.connection.lock().await.as_ref().is_some_and(Connection::is_blocked)
    }

    /// Says goodbye.
    pub(crate) async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            connection.close().await;
        }
    }
}

impl managed::Manager for Channels {
    type Type = Channel;
    type Error = AmqpError;

    async fn create(&self) -> Result<Channel, AmqpError> {
        let connection = self.connection().await?;
        let publisher = Publisher::open(&connection).await?;
        Ok(Channel { publisher, connection })
    }

    async fn recycle(&self, channel: &mut Channel, _: &Metrics) -> RecycleResult<AmqpError> {
        match channel.is_open() {
            true => Ok(()),
            false => Err(RecycleError::message("the channel is closed")),
        }
    }
}
