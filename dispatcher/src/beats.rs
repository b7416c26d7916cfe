//! Heartbeats, on a connection of their own: one that cannot be read ends that one alone.

use crate::pool::Input;
use taskyard_common::amqp::{
    AmqpError, AmqpSettings, Connection, ConsumeOptions, Consumer, private_queue,
};
use tokio::sync::mpsc;
use tracing::warn;

const HEARTBEAT_S: u16 = 5;

/// How to listen, for as long as the session lasts.
#[derive(Clone)]
pub(crate) struct Listening {
    pub(crate) amqp: AmqpSettings,
    /// What the connection is called.
    pub(crate) name: String,
    /// The exchange that heartbeats are published to.
    pub(crate) exchange: String,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
}

impl Listening {
    /// Begins to listen; deliveries go to the session, which ends if listening does.
    pub(crate) async fn begin(self) -> Result<(), AmqpError> {
        let ear = self.open().await?;
        tokio::spawn(async move {
            // Nobody listens: the session is over already.
            let _ = self.inputs.send(Input::Failed(self.run(ear).await));
        });
        Ok(())
    }

    async fn open(&self) -> Result<Ear, AmqpError> {
        let connection = Connection::open(&self.amqp, &self.name, HEARTBEAT_S).await?;
        let channel = connection.channel().await?;
        let queue = private_queue(&channel, Some((&self.exchange, ""))).await?;
        let consumer = Consumer::start(&channel, &queue, "beats", ConsumeOptions::no_ack()).await?;
        Ok(Ear { connection, consumer })
    }

    /// Passes heartbeats on until the session is over; why listening ended.
    async fn run(&self, mut ear: Ear) -> &'static str {
        loop {
            let next = tokio::select! {
                next = ear.consumer.next() => next,
                () = self.inputs.closed() => Ok(None),
            };
            match next {
                Ok(Some(delivery)) => {
                    // A closed channel is seen above.
                    let _ = self.inputs.send(Input::Beat(Box::new(delivery)));
                    continue;
                }
                _ if self.inputs.is_closed() => {
                    ear.connection.close().await;
                    return "the session is over";
                }
                Ok(None) => return "the queue of heartbeats was deleted",
                Err(_) => {}
            }
            ear.connection.lost().await;
            if !ear.connection.garbled().is_set() {
                return "the connection for heartbeats was lost";
            }
            // It is gone with its queue, and so are beats of this moment; workers beat again.
            warn!("a heartbeat that cannot be read: listening anew");
            match self.open().await {
                Ok(new) => ear = new,
                Err(_) => return "the connection for heartbeats cannot be opened again",
            }
        }
    }
}

/// The connection and what is consumed on it.
struct Ear {
    connection: Connection,
    consumer: Consumer,
}
