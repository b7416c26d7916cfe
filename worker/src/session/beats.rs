use super::{SessionError, Sessions, Waits};
use taskyard_common::amqp::{Connection, Message, Properties, Publication, Publisher};
use tracing::{debug, info};

impl Sessions {
    /// Publishes each heartbeat that the engine writes, for as long as the connection stands.
    ///
    /// The exchange may not exist before the first dispatcher has started: publishing then closes
    /// the channel, and only this one.
    pub(super) async fn beat(&self, connection: &Connection) -> SessionError {
        let mut beats = self.beats.clone();
        beats.mark_changed();
        let mut waits = Waits::new();
        let mut is_missing = false;
        while let Ok(publisher) = Publisher::open(connection).await {
            loop {
                if beats.changed().await.is_err() {
                    // The engine is gone. Its session ends in order, from the other side.
                    return std::future::pending().await;
                }
                let body = beats.borrow_and_update().clone();
                if body.is_empty() {
                    continue;
                }
                let exchange = self.names.heartbeats();
                let properties = Properties::default().with_content_type("application/json".into());
                let mut message = Message::to_exchange(exchange, "", properties, body);
                // Nobody listens, nobody cares.
                message.is_mandatory = false;
                match publisher.publish(message).await {
                    Publication::Unknown => break,
                    outcome => debug!(?outcome, "heartbeat"),
                }
                (is_missing, waits) = (false, Waits::new());
            }
            if !std::mem::replace(&mut is_missing, true) {
                info!(
                    exchange = self.names.heartbeats(),
                    "no heartbeat gets through; trying again"
                );
            }
            waits.wait().await;
            beats.mark_changed();
        }
        SessionError::Disconnected
    }
}
