use crate::Settings;
use crate::channels::{Channel, Channels};
use deadpool::Runtime;
use deadpool::managed::{Manager, Object, Pool, PoolError};
use std::sync::Arc;
use std::time::Duration;
use taskyard_common::amqp::{AmqpError, Message, Publication, jittered_wait, private_queue};
use taskyard_common::names::Names;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

/// Channels that broke under one message while RabbitMQ can be reached, after which the message is
/// taken for the cause: RabbitMQ closes the channel of who publishes what it may not.
const CLOSURES_MAX: u32 = 3;

/// Gets messages to RabbitMQ and knows what became of them, over sessions that break.
#[derive(Clone)]
pub(crate) struct Post {
    pool: Pool<Channels>,
    latest_look: Arc<Mutex<Option<(Instant, Look)>>>,
    pub(crate) names: Arc<Names>,
    pub(crate) patience: Duration,
}

/// What a look at the broker shows.
#[derive(Clone, Copy)]
enum Look {
    /// It answers, and the exchanges exist as far as we may see.
    Fine,
    /// It answers, and the dispatcher's exchanges do not exist.
    ExchangeMissing,
    /// It does not answer.
    Unreachable,
}

/// How long a look holds. Many messages fail together, and each look is a connection.
const LOOK_HOLDS: Duration = Duration::from_secs(1);

/// What is known of a message that was not confirmed.
#[derive(Debug)]
pub(crate) enum Undelivered {
    /// Never sent: no connection.
    Unreachable(AmqpError),
    /// Not stored: the exchange is missing.
    NotReady { exchange: String },
    /// Not stored: no queue takes it.
    Unroutable,
    /// Not stored: refused every time.
    Refused,
    /// It may be stored.
    Unknown { why: &'static str },
}

const WHY_SESSION: &str = "the session with RabbitMQ broke, or it did not confirm in time";
const WHY_BLOCKED: &str = "RabbitMQ takes nothing at present (memory or disk alarm)";
const WHY_CLOSED: &str = "RabbitMQ closes the channel on it; is the permission to write to the \
                          exchange missing, or is user_id another user?";

/// What has happened to one message so far.
struct Tries {
    deadline: Instant,
    count: u32,
    closures: u32,
    may_be_stored: bool,
    last: Undelivered,
}

impl Post {
    pub(crate) fn new(settings: &Settings) -> Self {
        let pool = Pool::builder(Channels::new(settings))
            .max_size(settings.channels)
            .runtime(Runtime::Tokio1)
            .build()
            .expect("no timeout is set that would need more than a runtime");
        let names = Arc::new(Names::new(&settings.namespace));
        Self { pool, latest_look: Arc::default(), names, patience: settings.patience }
    }

    /// Connects, to learn early that the settings are wrong.
    pub(crate) async fn connect(&self) -> Result<(), AmqpError> {
        self.channel().await.map(drop)
    }

    pub(crate) async fn close(&self) {
        self.pool.close();
        self.pool.manager().close().await;
    }

    /// A channel of one's own until it is dropped.
    pub(crate) async fn channel(&self) -> Result<Object<Channels>, AmqpError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            // Only a pool that was closed, since no timeouts and no hooks are set.
            other => AmqpError::Unreachable { hosts: "(closed)".to_owned(), last: other.into() },
        })
    }

    /// A channel for a flow that keeps it long, so it does not come out of the pool.
    pub(crate) async fn own_channel(&self) -> Result<Channel, AmqpError> {
        self.pool.manager().create().await
    }

    /// Publishes until it is confirmed, or the time is over, or trying again cannot help.
    pub(crate) async fn deliver(&self, message: &Message) -> Result<(), Undelivered> {
        let mut tries = Tries::new(self.patience);
        self.go_on(message, &mut tries).await
    }

    /// Hands the message over on this channel, in order; the inner future sees it through, trying
    /// again on any channel.
    pub(crate) async fn deliver_on(
        &self,
        channel: &Channel,
        message: Message,
    ) -> impl Future<Output = Result<(), Undelivered>> + Send + use<> {
        let tries = Tries::new(self.patience);
        let deadline = tries.deadline;
        let sent = timeout_at(deadline, channel.publisher.send(message.clone())).await;
        // Hardly ever needed, and large: kept out of the futures that wait for confirms.
        let rest = Box::new((self.clone(), message, tries));
        async move {
            let first = async move {
                match sent {
                    Ok(publication) => publication.await,
                    Err(_) => Publication::Unknown,
                }
            };
            let first = timeout_at(deadline, first).await.unwrap_or(Publication::Unknown);
            match first {
                Publication::Confirmed => Ok(()),
                other => Box::pin(see_through(*rest, other)).await,
            }
        }
    }

    async fn go_on(&self, message: &Message, tries: &mut Tries) -> Result<(), Undelivered> {
        loop {
            let end = match timeout_at(tries.deadline, self.channel()).await {
                Err(_) => Some(Err(tries.give_up())),
                Ok(Err(error)) => tries.unreachable(error),
                Ok(Ok(channel)) => {
                    let publication = publish(channel, message.clone());
                    let publication = timeout_at(tries.deadline, publication).await;
                    self.judge(tries, publication.unwrap_or(Publication::Unknown)).await
                }
            };
            match end {
                Some(end) => return end,
                None => sleep(jittered_wait(tries.count)).await,
            }
        }
    }

    /// What follows from what became of a publish; `None`: try again.
    async fn judge(
        &self,
        tries: &mut Tries,
        publication: Publication,
    ) -> Option<Result<(), Undelivered>> {
        tries.count += 1;
        match publication {
            Publication::Confirmed => return Some(Ok(())),
            // An earlier copy may have been stored when there still was a queue.
            Publication::Returned(_) => {
                tries.last = Undelivered::Unroutable;
                return Some(Err(tries.give_up()));
            }
            Publication::Refused => tries.last = Undelivered::Refused,
            Publication::Unknown => {
                debug!(tries = tries.count, "nobody knows what became of a message");
                if Instant::now() < tries.deadline && self.is_message_at_fault(tries).await {
                    return Some(Err(tries.give_up()));
                }
                tries.may_be_stored = true;
                tries.last = Undelivered::Unknown { why: self.why_unknown().await };
            }
        }
        (Instant::now() >= tries.deadline).then(|| Err(tries.give_up()))
    }

    /// Whether the channel broke because of the message itself, which no repetition mends; then the
    /// reason is the last one of `tries`.
    ///
    /// Whether the connection still stands would tell more, but lapin reports a broken channel as an
    /// error of its connection.
    async fn is_message_at_fault(&self, tries: &mut Tries) -> bool {
        match timeout_at(tries.deadline, self.look()).await {
            Ok(Look::ExchangeMissing) => {
                tries.last = Undelivered::NotReady { exchange: self.names.tasks() };
                true
            }
            Ok(Look::Fine) => {
                tries.closures += 1;
                tries.may_be_stored = true;
                tries.last = Undelivered::Unknown { why: WHY_CLOSED };
                tries.closures >= CLOSURES_MAX
            }
            Ok(Look::Unreachable) | Err(_) => false,
        }
    }

    /// Looks at the broker, once for all who wonder at the same time.
    async fn look(&self) -> Look {
        let mut latest = self.latest_look.lock().await;
        if let Some((_, look)) = latest.filter(|(at, _)| at.elapsed() < LOOK_HOLDS) {
            return look;
        }
        let look = match self.bind_for_a_moment().await {
            // Whoever may not listen learns nothing about the exchange.
            Ok(()) | Err(AmqpError::Denied { .. }) => Look::Fine,
            Err(AmqpError::NotFound(_)) => Look::ExchangeMissing,
            Err(_) => Look::Unreachable,
        };
        *latest = Some((Instant::now(), look));
        look
    }

    /// The exchanges for tasks and for commands are declared together, and anybody may listen to the
    /// latter; with the connection the queue goes as well.
    async fn bind_for_a_moment(&self) -> Result<(), AmqpError> {
        let connection = self.pool.manager().separate_connection().await?;
        let bound = async {
            let channel = connection.channel().await?;
            private_queue(&channel, Some((&self.names.commands(), ""))).await
        };
        let bound = bound.await;
        connection.close().await;
        bound.map(drop)
    }

    async fn why_unknown(&self) -> &'static str {
        match self.pool.manager().is_blocked().await {
            true => WHY_BLOCKED,
            false => WHY_SESSION,
        }
    }
}

/// Goes on after a first try that was not confirmed.
async fn see_through(
    (post, message, mut tries): (Post, Message, Tries),
    first: Publication,
) -> Result<(), Undelivered> {
    match post.judge(&mut tries, first).await {
        Some(end) => end,
        None => post.go_on(&message, &mut tries).await,
    }
}

async fn publish(channel: Object<Channels>, message: Message) -> Publication {
    let outcome = channel.publisher.send(message).await;
    // Given back before the confirm, so that a few channels carry many messages under way.
    drop(channel);
    outcome.await
}

impl Tries {
    fn new(patience: Duration) -> Self {
        // Holds if there never was a channel to publish on.
        let last = Undelivered::Unreachable(AmqpError::Timeout(patience));
        let deadline = Instant::now() + patience;
        Self { deadline, count: 0, closures: 0, may_be_stored: false, last }
    }

    fn unreachable(&mut self, error: AmqpError) -> Option<Result<(), Undelivered>> {
        self.count += 1;
        let is_over = Instant::now() >= self.deadline || !error.is_transient();
        self.last = Undelivered::Unreachable(error);
        is_over.then(|| Err(self.give_up()))
    }

    /// What to say in the end: unknown if any of the tries may have been stored.
    fn give_up(&mut self) -> Undelivered {
        let last = std::mem::replace(&mut self.last, Undelivered::Unknown { why: WHY_SESSION });
        match (last, self.may_be_stored) {
            (Undelivered::Unknown { why }, _) => Undelivered::Unknown { why },
            (_, true) => Undelivered::Unknown { why: WHY_SESSION },
            (known, false) => known,
        }
    }
}
