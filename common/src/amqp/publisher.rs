use super::{AmqpError, Connection, Properties};
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Channel, Confirmation};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

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
        let channel = connection.confirming_channel().await?;
        let (jobs, receiver) = mpsc::channel(WINDOW);
        tokio::spawn(own(channel, receiver));
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
async fn own(channel: Channel, mut jobs: mpsc::Receiver<Job>) {
    let mut unconfirmed = FuturesUnordered::new();
    let mut unconfirmed_bytes = 0;
    let mut answered = Vec::new();
    let mut returns = Returns::default();
    // One clock for all: a timer for each message would cost as much as all else here.
    let mut progress = Instant::now();
    let mut clock = pin!(tokio::time::sleep_until(progress + CONFIRM_TIMEOUT));
    loop {
        let has_room = unconfirmed.len() < WINDOW && unconfirmed_bytes < WINDOW_BYTES;
        tokio::select! {
            biased;
            () = answers(&mut unconfirmed, &mut answered), if !unconfirmed.is_empty() => {}
            job = jobs.recv(), if has_room => {
                let Some(job) = job else { break };
                if unconfirmed.is_empty() {
                    progress = Instant::now();
                }
                unconfirmed_bytes += job.message.body.len();
                let mut publication = Box::pin(publish(channel.clone(), job));
                // The first poll numbers the message and queues its frames in one step. Polled here,
                // in order, and by this task alone; polled elsewhere, numbers and frames could swap.
                match futures_util::poll!(&mut publication) {
                    // The broker was faster, or the channel has failed.
                    std::task::Poll::Ready(one) => {
                        take_answers(&mut unconfirmed, &mut answered);
                        answered.push(one);
                    }
                    std::task::Poll::Pending => unconfirmed.push(publication),
                }
            }
            () = &mut clock => {
                if !unconfirmed.is_empty() && progress.elapsed() >= CONFIRM_TIMEOUT {
                    return;
                }
                let from = if unconfirmed.is_empty() { Instant::now() } else { progress };
                clock.as_mut().reset(from + CONFIRM_TIMEOUT);
            }
            else => break,
        }
        if answered.is_empty() {
            continue;
        }
        progress = Instant::now();
        unconfirmed_bytes -= answered.iter().map(|one| one.sent.body.len()).sum::<usize>();
        if !returns.judge(&mut answered, unconfirmed.is_empty()) {
            // Who waits learns that nothing is known.
            return;
        }
    }
    // Nobody publishes any more; some may still wait.
    let rest = async {
        while !unconfirmed.is_empty() {
            answers(&mut unconfirmed, &mut answered).await;
            if !returns.judge(&mut answered, unconfirmed.is_empty()) {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(CONFIRM_TIMEOUT, rest).await;
}

/// Waits for an answer, and takes all that have come.
async fn answers<F: Future<Output = Answered>>(
    unconfirmed: &mut FuturesUnordered<F>,
    answered: &mut Vec<Answered>,
) {
    answered.extend(unconfirmed.next().await);
    take_answers(unconfirmed, answered);
}

/// Takes all answers that have come.
fn take_answers<F: Future<Output = Answered>>(
    unconfirmed: &mut FuturesUnordered<F>,
    answered: &mut Vec<Answered>,
) {
    while let Some(Some(one)) = unconfirmed.next().now_or_never() {
        answered.push(one);
    }
}

/// A message that left, and by what the broker knows it.
struct Sent {
    exchange: String,
    routing_key: String,
    message_id: Option<ShortString>,
    body: Bytes,
    done: oneshot::Sender<Publication>,
}

/// What lapin said of a message.
struct Answered {
    sent: Sent,
    confirmation: Result<Confirmation, lapin::Error>,
}

/// Publishes one message, and waits for its confirm.
async fn publish(channel: Channel, job: Job) -> Answered {
    let Job { message, done } = job;
    let Message { exchange, routing_key, is_mandatory, properties, body } = message;
    let message_id = properties.message_id().clone();
    let sent = Sent { exchange, routing_key, message_id, body, done };
    let options = BasicPublishOptions { mandatory: is_mandatory, immediate: false };
    let (exchange, key) = (sent.exchange.as_str().into(), sent.routing_key.as_str().into());
    let confirmation = async {
        channel.basic_publish(exchange, key, options, &sent.body, properties).await?.await
    };
    let confirmation = confirmation.await;
    Answered { sent, confirmation }
}

/// What the broker has returned, until the confirm of the same message is here.
///
/// A return comes before its confirm, but where one confirm is for several messages lapin resolves them
/// in any order and hands what was returned to those that it resolves first: whatever has been returned
/// of the messages in a set of answers is in that set or in an earlier one, at another message perhaps.
/// So a message counts as stored only if nobody carries it back, whoever that is.
#[derive(Default)]
struct Returns(Vec<BasicReturnMessage>);

impl Returns {
    /// Tells what became of messages; whether the channel is still to be trusted. `is_last` says that no
    /// other message is under way.
    fn judge(&mut self, answered: &mut Vec<Answered>, is_last: bool) -> bool {
        for one in answered.iter_mut() {
            if let Ok(Confirmation::Ack(returned) | Confirmation::Nack(returned)) =
                &mut one.confirmation
            {
                self.0.extend(returned.take());
            }
        }
        let mut is_healthy = true;
        for Answered { sent, confirmation } in answered.drain(..) {
            let publication = match confirmation {
                Ok(Confirmation::Ack(_)) => match self.take(&sent) {
                    Some(returned) => Publication::Returned(returned.reply_text.to_string()),
                    None => Publication::Confirmed,
                },
                Ok(Confirmation::Nack(_)) => Publication::Refused,
                Ok(Confirmation::NotRequested) | Err(_) => Publication::Unknown,
            };
            is_healthy &= publication != Publication::Unknown;
            // Nobody waits any more: nothing to tell.
            let _ = sent.done.send(publication);
        }
        // What nobody has sent was sent, and is taken for stored.
        is_healthy && (!is_last || self.0.is_empty())
    }

    /// Two messages that are alike in all this are one as good as the other.
    fn take(&mut self, sent: &Sent) -> Option<BasicReturnMessage> {
        let place = self.0.iter().position(|returned| {
            returned.exchange.as_str() == sent.exchange
                && returned.routing_key.as_str() == sent.routing_key
                && *returned.properties.message_id() == sent.message_id
                && returned.data == sent.body
        })?;
        Some(self.0.swap_remove(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::BasicProperties;
    use lapin::message::Delivery;

    fn returned(key: &str, id: &str) -> BasicReturnMessage {
        let mut delivery = Delivery::mock(0, "".into(), key.into(), false, b"x".to_vec());
        delivery.properties = BasicProperties::default().with_message_id(id.into());
        BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() }
    }

    /// Messages by queue and id, what lapin gave each of their confirms, and what each was told.
    fn told(
        returns: &mut Returns,
        answers: Vec<(&str, &str, Option<BasicReturnMessage>)>,
        is_last: bool,
    ) -> (Vec<Publication>, bool) {
        let (mut answered, mut outcomes) = (Vec::new(), Vec::new());
        for (key, id, carried) in answers {
            let (done, outcome) = oneshot::channel();
            let (exchange, routing_key) = (String::new(), key.to_owned());
            let (message_id, body) = (Some(id.into()), Bytes::from_static(b"x"));
            let sent = Sent { exchange, routing_key, message_id, body, done };
            let confirmation = Ok(Confirmation::Ack(carried));
            answered.push(Answered { sent, confirmation });
            outcomes.push(outcome);
        }
        let is_healthy = returns.judge(&mut answered, is_last);
        let told = outcomes.into_iter().map(|mut outcome| outcome.try_recv().unwrap());
        (told.collect(), is_healthy)
    }

    fn no_route() -> Publication {
        Publication::Returned("NO_ROUTE".to_owned())
    }

    #[test]
    fn a_return_is_of_the_message_that_it_is_wherever_it_comes() {
        let mut returns = Returns::default();
        let answers = vec![
            ("stored", "a", Some(returned("gone", "b"))),
            ("gone", "b", None),
            ("gone", "c", None),
        ];
        let expected = vec![Publication::Confirmed, no_route(), Publication::Confirmed];
        assert_eq!(told(&mut returns, answers, true), (expected, true));
    }

    #[test]
    fn a_return_waits_for_its_own_confirm() {
        let mut returns = Returns::default();
        let early = vec![("stored", "a", Some(returned("gone", "b")))];
        assert_eq!(told(&mut returns, early, false), (vec![Publication::Confirmed], true));
        assert_eq!(told(&mut returns, vec![("gone", "b", None)], true), (vec![no_route()], true));
    }

    #[test]
    fn a_return_of_nobodys_message_ends_the_channel() {
        let mut returns = Returns::default();
        let answers = vec![("stored", "a", Some(returned("gone", "b")))];
        assert!(!told(&mut returns, answers, true).1);
    }
}
