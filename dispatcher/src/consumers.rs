//! Consumers: each a task that passes on what it gets, until the broker has no more for it.

use crate::intake::From;
use crate::pool::Input;
use taskyard_common::amqp::{AmqpError, Channel, ConsumeOptions, Consumer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Begins to consume a queue; deliveries go to `inputs` as `input` makes them.
///
/// Who cancels the consumer fires `stop` first: its end is expected then. What the broker had sent
/// before is still passed on: dropped here, it would stay unacked, or be acked unseen by a
/// cumulative ack of what came after it.
///
/// A queue that ends under the consumer, or a channel that fails, ends the session.
pub(crate) async fn consume(
    channel: &Channel,
    queue: &str,
    tag: &str,
    options: ConsumeOptions,
    inputs: mpsc::UnboundedSender<Input>,
    input: impl Fn(taskyard_common::amqp::Delivery) -> Input + Send + 'static,
    stop: CancellationToken,
) -> Result<(), AmqpError> {
    let mut consumer = Consumer::start(channel, queue, tag, options).await?;
    tokio::spawn(async move {
        loop {
            let input = match consumer.next().await {
                Ok(Some(delivery)) => input(delivery),
                Ok(None) if stop.is_cancelled() => return,
                Ok(None) => Input::Failed("a queue was deleted under us"),
                Err(_) => Input::Failed("the connection was lost"),
            };
            let is_over = matches!(input, Input::Failed(_));
            if inputs.send(input).is_err() || is_over {
                return;
            }
        }
    });
    Ok(())
}

/// The input that a task queue's delivery is.
pub(crate) fn delivered(from: From) -> impl Fn(taskyard_common::amqp::Delivery) -> Input {
    move |delivery| Input::Delivered(from, Box::new(delivery))
}
