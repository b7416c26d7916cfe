//! The worker's life on the broker: sessions, one after the other.
//!
//! A session is two connections and all that hangs on them. Anything wrong with any of it ends the
//! whole of it; nothing recovers inside. The engine hears of a session's beginning, of what comes
//! in it and of its end over one channel, in this order, so that nothing of one session is ever
//! taken for another's.

mod acking;
mod beats;
mod consume;
mod control;

use crate::engine::{Incoming, Settle};
use crate::health::Health;
use bytes::Bytes;
use std::time::Duration;
use taskyard_common::amqp::{AmqpError, AmqpSettings, Connection, Publisher, jittered_wait};
use taskyard_common::names::Names;
use taskyard_common::wire::Control;
use taskyard_model::WorkerId;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// AMQP's own heartbeat in seconds: a silent broker is given up after about twice as long.
const HEARTBEAT_S: u16 = 10;
/// A session that stood for so long makes the next waits short again.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// Orders to settle that may be under way to the channel's owner; the engine gathers meanwhile.
const SETTLES: usize = 64;

/// What the engine hears.
#[derive(Debug)]
pub(crate) enum SessionEvent {
    /// A session has begun.
    Up(Uplink),
    /// A delivery.
    Delivered(Incoming),
    /// After a drain: all that the broker had sent before has been delivered.
    Dry,
    /// A control message.
    Control(Control),
    /// The session is over.
    Down,
}

/// What the engine can do in a session; useless when it is over.
pub(crate) struct Uplink {
    /// For reports.
    pub(crate) publisher: Publisher,
    /// To the owner of the consuming channel. Dropped when nothing is left to settle: the session
    /// then ends in order.
    pub(crate) settles: mpsc::Sender<Vec<Settle>>,
    /// Fires where the engine knows that the session is broken.
    pub(crate) broken: CancellationToken,
}

impl std::fmt::Debug for Uplink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uplink").finish_non_exhaustive()
    }
}

/// All that sessions need.
pub(crate) struct Sessions {
    pub(crate) amqp: AmqpSettings,
    pub(crate) names: Names,
    pub(crate) worker: WorkerId,
    pub(crate) events: mpsc::Sender<SessionEvent>,
    /// The latest heartbeat; empty before the first.
    pub(crate) beats: watch::Receiver<Bytes>,
    /// Fires when nothing new is to be consumed.
    pub(crate) drain: CancellationToken,
    pub(crate) health: Health,
}

impl Sessions {
    /// Holds one session after the other, until the engine has gone.
    ///
    /// # Errors
    /// The broker refuses the very first one: the settings are wrong.
    pub(crate) async fn run(self) -> Result<(), AmqpError> {
        let (mut tries, mut has_stood) = (0, false);
        while !self.events.is_closed() {
            let begun = tokio::time::Instant::now();
            let (has_begun, outcome) = self.session(tries).await;
            has_stood |= has_begun;
            if has_begun && self.events.send(SessionEvent::Down).await.is_err() {
                return Ok(());
            }
            match outcome {
                Ok(()) => return Ok(()),
                Err(SessionError::Amqp(error)) if !has_stood && !error.is_transient() => {
                    return Err(error);
                }
                Err(error) if has_begun || tries == 0 => {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, "no session with the broker; trying again");
                }
                Err(error) => debug!(%error, tries, "no session with the broker"),
            }
            tries = if has_begun && begun.elapsed() > STEADY_AFTER { 0 } else { tries + 1 };
            tokio::select! {
                () = tokio::time::sleep(jittered_wait(tries)) => {}
                () = self.events.closed() => {}
            }
        }
        Ok(())
    }

    /// One session: whether it began, and how it ended. `Ok` is the end in order.
    async fn session(&self, tries: u32) -> (bool, Result<(), SessionError>) {
        let (consume, publish, publisher) = match self.open().await {
            Ok(opened) => opened,
            Err(error) => return (false, Err(error.into())),
        };
        let (settles, orders) = mpsc::channel(SETTLES);
        let broken = CancellationToken::new();
        let uplink = Uplink { publisher, settles, broken: broken.clone() };
        if self.events.send(SessionEvent::Up(uplink)).await.is_err() {
            return (false, Ok(()));
        }
        info!(hosts = self.amqp.address.hosts(), tries, "connected");
        // Whether the connections stand is not asked: each has a consumer or a heartbeat on it that
        // fails when they don't, while a missing queue or exchange only costs a channel.
        let outcome = tokio::select! {
            outcome = self.consume(&consume, orders) => outcome,
            error = self.listen(&consume) => Err(error),
            error = self.beat(&publish) => Err(error),
            () = broken.cancelled() => Err(SessionError::Publishing),
        };
        // In this order: what was acked last has then been sent.
        consume.close().await;
        publish.close().await;
        (true, outcome)
    }

    async fn open(&self) -> Result<(Connection, Connection, Publisher), AmqpError> {
        let name = |what: &str| format!("taskyard-worker {} {what}", self.worker);
        let consume = Connection::open(&self.amqp, &name("consume"), HEARTBEAT_S).await?;
        let publish = Connection::open(&self.amqp, &name("publish"), HEARTBEAT_S).await?;
        let publisher = Publisher::open(&publish).await?;
        Ok((consume, publish, publisher))
    }
}

/// Waits for what a dispatcher has yet to declare: short at first, because one that runs does it
/// within milliseconds, then a second each.
struct Waits(Duration);

impl Waits {
    const LONGEST: Duration = Duration::from_secs(1);

    fn new() -> Self {
        Self(Duration::from_millis(20))
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}

/// How a session ended that should not have.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    /// Something that was asked for was answered like this.
    #[error("the broker did not do what was asked")]
    Amqp(#[from] AmqpError),
    /// The broker hung up, or is silent.
    #[error("the connection is lost")]
    Disconnected,
    /// A publish came to nothing.
    #[error("the channel for reports failed")]
    Publishing,
    /// The broker ended a consumer: its queue is gone, or moves to another node.
    #[error("the broker no longer delivers from {0}")]
    ConsumerEnded(String),
    /// A quorum queue that is deleted and declared again within moments may go on to deliver to a
    /// consumer of its former life, whose channel drops all of it (RabbitMQ 3.10).
    #[error("the dispatcher says that nothing arrives here from the queue")]
    Deaf,
}
