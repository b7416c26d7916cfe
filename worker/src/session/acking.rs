use crate::engine::Settle;
use taskyard_common::amqp::{AmqpError, Channel, Settled};

/// Tells the broker what has been settled, in order.
///
/// # Errors
/// The channel is lost.
pub(super) async fn settle(channel: &Channel, settles: Vec<Settle>) -> Result<(), AmqpError> {
    for settle in settles {
        match settle {
            Settle::Ack(Settled { up_to, single }) => {
                if let Some(tag) = up_to {
                    let ack = |options| channel.basic_ack(tag, options);
                    with(ack, |options| options.multiple = true).await.map_err(AmqpError::Lost)?;
                }
                for tag in single {
                    let acked = channel.basic_ack(tag, Default::default()).await;
                    acked.map_err(AmqpError::Lost)?;
                }
            }
            Settle::Reject(tag) => {
                // By default a reject does not put the message back into its queue.
                let rejected = channel.basic_reject(tag, Default::default()).await;
                rejected.map_err(AmqpError::Lost)?;
            }
        }
    }
    Ok(())
}

/// Calls with options that differ from the default.
///
/// The type of the options belongs to the AMQP library, which only `common` names.
fn with<O: Default, R>(call: impl FnOnce(O) -> R, set: impl FnOnce(&mut O)) -> R {
    let mut options = O::default();
    set(&mut options);
    call(options)
}
