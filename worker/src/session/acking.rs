use crate::engine::Settle;
use taskyard_common::amqp::{AmqpError, Channel, Settled, ack, nack};

/// Tells the broker what has been settled, in order.
///
/// # Errors
/// The channel is lost.
pub(super) async fn settle(channel: &Channel, settles: Vec<Settle>) -> Result<(), AmqpError> {
    for settle in settles {
        match settle {
            Settle::Ack(Settled { up_to, single }) => {
                if let Some(tag) = up_to {
                    ack(channel, tag, true).await?;
                }
                for tag in single {
                    ack(channel, tag, false).await?;
                }
            }
            Settle::Reject(tag) => nack(channel, tag, false).await?,
        }
    }
    Ok(())
}
