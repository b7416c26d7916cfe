//! The books of attempts in flight, from the store.

use crate::pool::{Input, Pool};
use crate::post::Parcel;
use crate::session::Session;
use std::time::Duration;
use taskyard_common::amqp::{Message, Properties};
use taskyard_common::store::{Answer, Inflight, Op, Store};
use taskyard_common::wire::train;
use taskyard_model::{PoolName, State, TaskId};
use taskyard_scheduler::Event;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, warn};

/// Pause between pages of the scan: it is in nobody's way.
const PAGE_PAUSE: Duration = Duration::from_millis(20);
/// Wait before Redis is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// A new leader waits so long before it reads its books: workers' heartbeats come first.
const BOOKS_AFTER: Duration = Duration::from_secs(5);
/// The books are compared with the store again after so long: a Redis that went back shows attempts
/// as in flight that have ended since, and nobody else looks for them.
const BOOKS_INTERVAL: Duration = Duration::from_secs(300);

impl Pool {
    /// A new leader finds what is in flight by the payloads that are kept for it.
    pub(crate) fn read_books(&self, session: &Session) {
        let (store, inputs, pool) = (self.store.clone(), session.inputs.clone(), self.name.clone());
        tokio::spawn(async move {
            tokio::time::sleep(BOOKS_AFTER).await;
            let mut is_first = true;
            while read_once(&store, &pool, &inputs, is_first).await {
                is_first = false;
                tokio::time::sleep(BOOKS_INTERVAL).await;
            }
        });
    }

    /// Publishes the stored copy of an attempt to the way back in; the table decides there.
    pub(crate) fn reissue(&self, session: &Session, id: TaskId, attempt: u32) {
        let (store, inputs, parcels) =
            (self.store.clone(), session.inputs.clone(), session.parcels.clone());
        let queue = self.names.again_queue(&self.name);
        tokio::spawn(async move {
            let answer = loop {
                match store.run(&[Op::Payload(id.clone())]).await {
                    Ok(answers) => break answers.into_iter().next(),
                    Err(_) if inputs.is_closed() => return,
                    // Nobody asks a second time for what timed out.
                    Err(error) => warn!(%error, %id, "a copy cannot be read yet"),
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            };
            let Some(Answer::Payload(record, payload)) = answer else { return };
            // A task that failed for good needs it too: its dead letter is owed.
            let is_live = record
                .is_some_and(|r| r.attempt == attempt && (!r.state.is_final() || r.owed == "dead"));
            if is_live && payload.is_none() {
                // Too large to be kept: the worker's own copy meets the table when it comes. Until
                // then the attempt, which the worker does not have, takes none of its slots.
                warn!(%id, attempt, "no copy is kept; waiting for the worker's");
            }
            match payload {
                Some(copy) if is_live => {
                    let properties = Properties::default().with_content_type(train::TASKS.into());
                    let message = Message::to_queue(queue, properties, copy);
                    // A closed channel means that the session is over.
                    let _ =
                        parcels.send(Parcel { message, ops: Vec::new(), tells_returned: false });
                }
                _ => {
                    // A closed channel means that the session is over.
                    let _ = inputs
                        .send(Input::Event(Box::new(Event::NothingToReissue { id, attempt })));
                }
            }
        });
    }
}

/// Tells the scheduler what the store has in flight; whether anybody still listens.
///
/// What failed and waits is told once: the leader before may have died before its copy went round.
async fn read_once(
    store: &Store,
    pool: &PoolName,
    inputs: &UnboundedSender<Input>,
    is_first: bool,
) -> bool {
    let mut inflight = Inflight::new(store);
    let mut found = 0_usize;
    loop {
        match inflight.next_page().await {
            Ok(None) => break,
            Ok(Some(page)) => {
                for (id, record) in page {
                    let record = record.filter(|r| r.pool.as_ref() == Some(pool));
                    let Some(record) = record.map(crate::change::record_of) else { continue };
                    if !is_first && record.state == State::Retrying {
                        continue;
                    }
                    found += 1;
                    if inputs
                        .send(Input::Event(Box::new(Event::FoundInFlight { id, record })))
                        .is_err()
                    {
                        return false;
                    }
                }
            }
            Err(error) => warn!(%error, "the attempts in flight cannot be read yet"),
        }
        tokio::time::sleep(PAGE_PAUSE).await;
        if inputs.is_closed() {
            return false;
        }
    }
    debug!(found, "attempts in flight read from Redis");
    true
}
