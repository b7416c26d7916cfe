use super::{SessionError, SessionEvent, Sessions, Waits};
use taskyard_common::amqp::{
    AmqpError, Connection, ConsumeOptions, Consumer, Delivery, private_queue,
};
use taskyard_common::wire::{Control, Errand};
use tracing::warn;

impl Sessions {
    /// Passes on what is said to this worker, until the session ends.
    pub(super) async fn listen(&self, connection: &Connection) -> SessionError {
        match self.try_listen(connection).await {
            Ok(end) => end,
            Err(error) => error.into(),
        }
    }

    async fn try_listen(&self, connection: &Connection) -> Result<SessionError, AmqpError> {
        let (exchange, key) = (self.names.control(), self.worker.as_str());
        let mut waits = Waits::new();
        let (channel, queue) = loop {
            let channel = connection.channel().await?;
            match private_queue(&channel, Some((exchange.as_str(), key))).await {
                Ok(queue) => break (channel, queue),
                // No dispatcher has ever run here; the heartbeats say so in the log.
                Err(AmqpError::NotFound(_)) => waits.wait().await,
                Err(error) => return Err(error),
            }
        };
        let options = ConsumeOptions::no_ack();
        let mut consumer = Consumer::start(&channel, &queue, "control", options).await?;
        while let Some(Delivery { body, .. }) = consumer.next().await? {
            match serde_json::from_slice::<Control>(&body) {
                Ok(Control { errand: Errand::Consume, .. }) => return Ok(SessionError::Deaf),
                Ok(control) => {
                    if self.events.send(SessionEvent::Control(control)).await.is_err() {
                        break;
                    }
                }
                // A newer dispatcher may know errands that we don't.
                Err(error) => warn!(%error, "a control message cannot be read"),
            }
        }
        Ok(SessionError::ConsumerEnded("the control queue".to_owned()))
    }
}
