use super::{AmqpError, Connection, Properties};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::debug;

/// Longest time without a confirm while some are due. A frozen broker is noticed after twice the
/// heartbeat anyway; one that confirms nothing for so long has lost track of the channel.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// Unconfirmed messages at once. Measured: the rate no longer grows above some hundred.
const WINDOW: usize = 1_000;
/// Bytes of unconfirmed bodies at once; lapin's own queue is bounded by nothing else.
const WINDOW_BYTES: usize = 32 * 1024 * 1024;

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Message {
    /// The exchange; empty for the default one.
    pub exchange: String,
    /// The routing key, or the queue for the default exchange.
    pub routing_key: String,
    /// Whether the broker shall return it where no queue takes it.
    pub is_mandatory: bool,
    /// Properties, headers among them.
    pub properties: Properties,
    /// The body.
    pub body: Bytes,
}

impl Message {
    /// A persistent message straight to a queue.
    #[must_use]
    pub fn to_queue(queue: impl Into<String>, properties: Properties, body: Bytes) -> Self {
        Self::to_exchange(String::new(), queue, properties, body)
    }

    /// A persistent message to an exchange.
    #[must_use]
    pub fn to_exchange(
        exchange: impl Into<String>,
        routing_key: impl Into<String>,
        properties: Properties,
        body: Bytes,
    ) -> Self {
        Self {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            is_mandatory: true,
            properties: properties.with_delivery_mode(2),
            body,
        }
    }
}

/// What became of a published message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publication {
    /// It is stored in a queue.
    Confirmed,
    /// No queue takes it: it is stored nowhere.
    Returned(String),
    /// The broker refused it (a full queue, or one that elects its leader): not stored, try later.
    Refused,
    /// Nobody knows: the session ended first, or the answer did not come in time.
    Unknown,
}

/// What a returned message says of the confirm that lapin gives it to: it does so in no certain order
/// where one confirm is for several.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Returns {
    /// One that belongs to another means that ours, or another, was returned and taken for stored:
    /// nothing on this channel is to be trusted any more.
    Exact,
    /// Nothing depends on which it was, only on how many.
    Counted,
}

struct Job {
    message: Message,
    done: oneshot::Sender<Publication>,
}

/// Publishes on one channel, with confirms.
///
/// One task owns the channel, since the order of publishes and of their confirms must agree.
/// Cheap to clone. When the channel fails, everything unconfirmed and everything after it is
/// [`Publication::Unknown`]; make a new one on a new connection.
#[derive(Clone)]
pub struct Publisher {
    jobs: mpsc::Sender<Job>,
}

impl Publisher {
    /// Opens a channel of its own on the connection.
    ///
    /// # Errors
    /// The session is lost.
    pub async fn open(connection: &Connection) -> Result<Self, AmqpError> {
        Self::open_for(connection, Returns::Exact).await
    }

    /// The same for messages to queues of others, which may be gone at any time and need not be there:
    /// of several under way at once, it may be another one that is said to be returned.
    ///
    /// # Errors
    /// The session is lost.
    pub async fn open_to_others(connection: &Connection) -> Result<Self, AmqpError> {
        Self::open_for(connection, Returns::Counted).await
    }

    async fn open_for(connection: &Connection, returns: Returns) -> Result<Self, AmqpError> {
        let channel = connection.confirming_channel().await?;
        let (jobs, receiver) = mpsc::channel(WINDOW);
        tokio::spawn(own(channel, returns, receiver));
        Ok(Self { jobs })
    }

    /// Publishes, and waits for what becomes of it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    pub async fn publish(&self, message: Message) -> Publication {
        self.send(message).await.await
    }

    /// Hands the message over in order, waiting only while the window is full; the inner future is
    /// what becomes of it.
    pub async fn send(&self, message: Message) -> impl Future<Output = Publication> + Send + use<> {
        let (done, outcome) = oneshot::channel();
        // A closed channel drops `done`, so the outcome is unknown.
        let _ = self.jobs.send(Job { message, done }).await;
        async move { outcome.await.unwrap_or(Publication::Unknown) }
    }

    /// Whether the channel has failed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.jobs.is_closed()
    }
}

/// Publishes jobs in order and tells each what became of it, until the channel fails.
async fn own(channel: Channel, returns: Returns, mut jobs: mpsc::Receiver<Job>) {
    let mut unconfirmed = FuturesUnordered::new();
    let mut unconfirmed_bytes = 0;
    // One clock for all: a timer for each message would cost as much as all else here.
    let mut progress = Instant::now();
    let mut clock = pin!(tokio::time::sleep_until(progress + CONFIRM_TIMEOUT));
    loop {
        let has_room = unconfirmed.len() < WINDOW && unconfirmed_bytes < WINDOW_BYTES;
        tokio::select! {
            biased;
            Some((is_healthy, bytes)) = next(&mut unconfirmed), if !unconfirmed.is_empty() => {
                progress = Instant::now();
                unconfirmed_bytes -= bytes;
                if !is_healthy {
                    break;
                }
            }
            job = jobs.recv(), if has_room => {
                let Some(job) = job else { break };
                if unconfirmed.is_empty() {
                    progress = Instant::now();
                }
                unconfirmed_bytes += job.message.body.len();
                let mut publication = Box::pin(publish(channel.clone(), returns, job));
                // The first poll numbers the message and queues its frames in one step. Polled here,
                // in order, and by this task alone; polled elsewhere, numbers and frames could swap.
                match futures_util::poll!(&mut publication) {
                    std::task::Poll::Ready((true, bytes)) => unconfirmed_bytes -= bytes,
                    std::task::Poll::Ready((false, _)) => break,
                    std::task::Poll::Pending => unconfirmed.push(publication),
                }
            }
            () = &mut clock => {
                if !unconfirmed.is_empty() && progress.elapsed() >= CONFIRM_TIMEOUT {
                    // Who waits learns that nothing is known.
                    return;
                }
                let from = if unconfirmed.is_empty() { Instant::now() } else { progress };
                clock.as_mut().reset(from + CONFIRM_TIMEOUT);
            }
            else => break,
        }
    }
    jobs.close();
    // Senders are gone, or the channel is: either way what is still under way may come to an end.
    let rest = async { while unconfirmed.next().await.is_some() {} };
    let _ = tokio::time::timeout(CONFIRM_TIMEOUT, rest).await;
}

/// The next publication that has an outcome.
async fn next<F: Future<Output = (bool, usize)>>(
    unconfirmed: &mut FuturesUnordered<F>,
) -> Option<(bool, usize)> {
    unconfirmed.next().await
}

/// Publishes one message and passes on what becomes of it; whether the channel is still to be
/// trusted, and the size of the body.
async fn publish(channel: Channel, returns: Returns, job: Job) -> (bool, usize) {
    let Job { message, done } = job;
    let Message { exchange, routing_key, is_mandatory, properties, body } = message;
    let options = BasicPublishOptions { mandatory: is_mandatory, immediate: false };
    let key = routing_key.clone();
    let confirmed = async {
        channel
            .basic_publish(exchange.into(), routing_key.into(), options, &body, properties)
            .await?
            .await
    };
    let publication = match confirmed.await {
        Ok(Confirmation::Ack(None)) => Publication::Confirmed,
        Ok(Confirmation::Ack(Some(returned)))
            if returns == Returns::Counted || returned.routing_key.as_str() == key =>
        {
            Publication::Returned(returned.reply_text.to_string())
        }
        Ok(Confirmation::Nack(_)) => Publication::Refused,
        Ok(Confirmation::Ack(_) | Confirmation::NotRequested) => {
            debug!(key, "a confirm carries what another message was returned with");
            Publication::Unknown
        }
        Err(error) => {
            debug!(%error, key, "a publication is not confirmed");
            Publication::Unknown
        }
    };
    let is_healthy = publication != Publication::Unknown;
    // Nobody waits any more: nothing to tell.
    let _ = done.send(publication);
    (is_healthy, body.len())
}
