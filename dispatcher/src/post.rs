//! The publishing channel: everything that leaves, and what becomes of it.

use crate::pool::Input;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::time::Duration;
use taskyard_common::amqp::{Message, Publication, Publisher};
use taskyard_scheduler::OpId;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Wait before what the broker refused is published again: a queue that elects its leader, or one
/// that is full.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A queue that was just declared refuses while it elects its leader: only what goes on for about a
/// second is worth a warning, once.
const REFUSALS_WARNED: u32 = 10;

/// Something to publish, and whom it concerns.
pub(crate) struct Parcel {
    pub(crate) message: Message,
    /// Told what became of it.
    pub(crate) ops: Vec<OpId>,
    /// Whether a missing queue is for the scheduler to judge; else it is declared, and the message
    /// published again.
    pub(crate) tells_returned: bool,
}

/// Publishes parcels until the channel closes or the session fails.
pub(crate) async fn run(
    publisher: Publisher,
    mut parcels: mpsc::UnboundedReceiver<Parcel>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some((parcel, publication)) = next(&mut under_way), if !under_way.is_empty() => {
                let Parcel { message, ops, tells_returned } = parcel;
                let outcome = match publication {
                    Publication::Unknown => Err("the broker did not confirm"),
                    Publication::Returned(_) if !tells_returned => {
                        warn!(queue = message.routing_key, "a queue of ours is gone");
                        Err("a queue of ours is gone")
                    }
                    other => Ok(other),
                };
                let input = match outcome {
                    Ok(Publication::Refused) => unreachable!("refused messages are published again"),
                    Ok(publication) => Input::Posted(ops, publication),
                    Err(why) => Input::Failed(why),
                };
                if inputs.send(input).is_err() {
                    return;
                }
            }
            parcel = parcels.recv() => {
                let Some(parcel) = parcel else { return };
                let first = publisher.send(parcel.message.clone()).await;
                under_way.push(until_taken(publisher.clone(), parcel, first));
            }
        }
    }
}

async fn next<F: Future<Output = (Parcel, Publication)>>(
    under_way: &mut FuturesUnordered<F>,
) -> Option<(Parcel, Publication)> {
    under_way.next().await
}

/// Publishes again what the broker refuses for now.
async fn until_taken(
    publisher: Publisher,
    parcel: Parcel,
    first: impl Future<Output = Publication>,
) -> (Parcel, Publication) {
    let mut publication = first.await;
    let mut refusals = 0_u32;
    while publication == Publication::Refused {
        refusals += 1;
        let queue = &parcel.message.routing_key;
        match refusals {
            REFUSALS_WARNED => warn!(queue, "the broker refuses a message for now"),
            _ => debug!(queue, refusals, "the broker refuses a message for now"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        publication = publisher.publish(parcel.message.clone()).await;
    }
    (parcel, publication)
}
