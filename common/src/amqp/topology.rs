use super::connection::within;
use super::{AmqpError, Headers, Value};
use crate::names::{DELAY_BASE_MS, DELAYS, Names};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::{Channel, ExchangeKind};
use taskyard_model::{Pattern, PoolName, WorkerId};

/// Returns to a queue before the broker gives up on a message. Never reached; but without a limit
/// 3.10 puts returned messages at the tail, and 4.0 drops them after 20.
const DELIVERY_LIMIT: i64 = 1_000_000;
/// A worker's queue that nobody used for so long goes away (empty since long: what it held came
/// back after seconds).
const WORKER_QUEUE_EXPIRES_MS: i64 = 7 * 86_400_000;
/// Rejected submissions kept, and their bytes: the oldest leave.
const REJECTED_MAX: i64 = 100_000;
const REJECTED_BYTES_MAX: i64 = 1 << 30;
/// A command that no leader took within a minute has nobody who still waits for it.
const COMMAND_TTL_MS: i64 = 60_000;

/// What sort of queue it is: decides its arguments, which can never change once it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind<'a> {
    /// Holds tasks until they are acked.
    Plain,
    /// As plain; what expires or is nacked goes to the pool's outcomes.
    ToOutcomes {
        /// The pool.
        pool: &'a PoolName,
        /// Whether the queue goes away when unused for a week.
        is_worker: bool,
    },
    /// Lets go of everything after its time, to the pool's way back in.
    Delay {
        /// `125 ms * 2^level`.
        level: u32,
    },
    /// The oldest leave.
    Rejected,
    /// One token, for one active consumer.
    Leader,
    /// Forgets after a minute.
    Commands,
}

impl QueueKind<'_> {
    /// The arguments of a queue of this sort.
    #[must_use]
    pub fn arguments(self, names: &Names) -> Headers {
        let mut table = Headers::default();
        let text = |text: &str| Value::LongString(text.into());
        table.insert("x-queue-type".into(), text("quorum"));
        table.insert("x-delivery-limit".into(), Value::LongLongInt(DELIVERY_LIMIT));
        match self {
            QueueKind::Leader => {
                table.insert("x-single-active-consumer".into(), Value::Boolean(true));
                table.insert("x-max-length".into(), Value::LongLongInt(1));
                table.insert("x-overflow".into(), text("drop-head"));
                return table;
            }
            QueueKind::Rejected => {
                table.insert("x-max-length".into(), Value::LongLongInt(REJECTED_MAX));
                table.insert("x-max-length-bytes".into(), Value::LongLongInt(REJECTED_BYTES_MAX));
                table.insert("x-overflow".into(), text("drop-head"));
                return table;
            }
            _ => table.insert("x-overflow".into(), text("reject-publish")),
        };
        let mut dead_letter = |exchange: String, key: Option<&str>| {
            table.insert("x-dead-letter-exchange".into(), text(&exchange));
            table.insert("x-dead-letter-strategy".into(), text("at-least-once"));
            if let Some(key) = key {
                table.insert("x-dead-letter-routing-key".into(), text(key));
            }
        };
        match self {
            QueueKind::ToOutcomes { pool, is_worker } => {
                dead_letter(names.outcomes(), Some(pool.as_str()));
                if is_worker {
                    table.insert("x-expires".into(), Value::LongLongInt(WORKER_QUEUE_EXPIRES_MS));
                }
            }
            QueueKind::Delay { level } => {
                dead_letter(names.again(), None);
                let ttl = i64::try_from(DELAY_BASE_MS << level).unwrap_or(i64::MAX);
                table.insert("x-message-ttl".into(), Value::LongLongInt(ttl));
            }
            QueueKind::Commands => {
                table.insert("x-message-ttl".into(), Value::LongLongInt(COMMAND_TTL_MS));
            }
            QueueKind::Plain | QueueKind::Leader | QueueKind::Rejected => {}
        }
        table
    }
}

/// Everything that exists before the first task: exchanges, queues, bindings.
///
/// Declared by the dispatcher at every start; declaring again what exists changes nothing. The
/// targets of dead-lettering come before its sources. Each dispatcher declares the ways into all
/// pools: what belongs to one whose dispatcher never ran waits there for it.
#[derive(Clone, Debug)]
pub struct Topology<'a> {
    /// The names.
    pub names: &'a Names,
    /// The pool that is served.
    pub pool: &'a PoolName,
    /// Pools and the kinds that belong to them; the default pool, named or not, has what nobody
    /// else has.
    pub pools: &'a [(PoolName, Vec<Pattern>)],
}

impl Topology<'_> {
    /// Declares all of it.
    ///
    /// # Errors
    /// [`AmqpError::Denied`] names what exists with other arguments or may not be declared.
    pub async fn declare(&self, channel: &Channel) -> Result<(), AmqpError> {
        let Topology { names, pool, .. } = self;
        for exchange in exchanges(names) {
            exchange.declare(channel).await?;
        }
        let default = PoolName::default_pool();
        let named = self.pools.iter().map(|(pool, _)| pool).filter(|&name| name != *pool);
        let pools: Vec<&PoolName> = [&default, pool].into_iter().chain(named).collect();
        for (name, kind) in pools.iter().flat_map(|pool| ways_in(names, pool)) {
            declare(channel, &name, kind.arguments(names)).await?;
        }
        for (name, kind) in shared_queues(names).into_iter().chain(inner_queues(names, pool)) {
            declare(channel, &name, kind.arguments(names)).await?;
        }
        self.bind(channel, &pools).await
    }

    async fn bind(&self, channel: &Channel, pools: &[&PoolName]) -> Result<(), AmqpError> {
        let Topology { names, pool, .. } = self;
        for pool in pools {
            bind(channel, &names.outcomes_queue(pool), &names.outcomes(), pool.as_str()).await?;
            bind(channel, &names.again_queue(pool), &names.again(), pool.as_str()).await?;
        }
        for level in 0..DELAYS {
            bind(channel, &names.delay(level), &names.delay(level), "").await?;
        }
        let default = PoolName::default_pool();
        bind(channel, &names.outcomes_queue(&default), &names.stray(), "").await?;
        bind(channel, &names.submit(&default), &names.unbound(), "").await?;
        for (pool, kinds) in self.pools {
            for kind in kinds {
                bind(channel, &names.submit(pool), &names.tasks(), kind.as_str()).await?;
            }
        }
        bind(channel, &names.commands_queue(pool), &names.commands(), "").await
    }
}

/// The queues into a pool, which every dispatcher declares for every pool.
#[must_use]
pub fn ways_in<'a>(names: &Names, pool: &'a PoolName) -> Vec<(String, QueueKind<'a>)> {
    vec![
        (names.outcomes_queue(pool), QueueKind::Plain),
        (names.again_queue(pool), QueueKind::Plain),
        (names.submit(pool), QueueKind::ToOutcomes { pool, is_worker: false }),
    ]
}

/// The queues of a pool that only its own dispatchers use and declare.
#[must_use]
pub fn inner_queues<'a>(names: &Names, pool: &PoolName) -> Vec<(String, QueueKind<'a>)> {
    let lanes = 0..=taskyard_model::PRIORITY_MAX;
    let mut queues: Vec<_> = lanes.map(|lane| (names.lane(pool, lane), QueueKind::Plain)).collect();
    queues.push((names.parked(pool), QueueKind::Plain));
    queues.push((names.leader(pool), QueueKind::Leader));
    queues.push((names.commands_queue(pool), QueueKind::Commands));
    queues
}

/// The queues that all pools share.
#[must_use]
pub fn shared_queues<'a>(names: &Names) -> Vec<(String, QueueKind<'a>)> {
    let delays = (0..DELAYS).map(|level| (names.delay(level), QueueKind::Delay { level }));
    let letters = [(names.dead(), QueueKind::Plain), (names.rejected(), QueueKind::Rejected)];
    letters.into_iter().chain(delays).collect()
}

/// An exchange as it has to be.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    kind: ExchangeKind,
    arguments: Headers,
}

impl Exchange {
    /// Declares it; where it exists just so, nothing happens.
    pub(super) async fn declare(&self, channel: &Channel) -> Result<(), AmqpError> {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let (name, kind) = (self.name.as_str().into(), self.kind.clone());
        let declare = channel.exchange_declare(name, kind, options, self.arguments.clone());
        within(&format!("exchange {}", self.name), declare).await
    }
}

/// All exchanges.
#[must_use]
pub fn exchanges(names: &Names) -> Vec<Exchange> {
    let plain = |name, kind| Exchange { name, kind, arguments: Headers::default() };
    let with_alternate = |name, kind, alternate: String| {
        let mut exchange = plain(name, kind);
        let alternate = Value::LongString(alternate.into());
        exchange.arguments.insert("alternate-exchange".into(), alternate);
        exchange
    };
    let mut all = vec![
        plain(names.unbound(), ExchangeKind::Fanout),
        plain(names.stray(), ExchangeKind::Fanout),
        with_alternate(names.tasks(), ExchangeKind::Topic, names.unbound()),
        with_alternate(names.outcomes(), ExchangeKind::Direct, names.stray()),
        plain(names.again(), ExchangeKind::Direct),
        plain(names.heartbeats(), ExchangeKind::Fanout),
        plain(names.control(), ExchangeKind::Direct),
        plain(names.commands(), ExchangeKind::Fanout),
    ];
    all.extend((0..DELAYS).map(|level| plain(names.delay(level), ExchangeKind::Fanout)));
    all
}

/// Declares the queue of a worker.
///
/// # Errors
/// [`AmqpError::Denied`] where it exists with other arguments, or the session is lost.
pub async fn declare_worker_queue(
    channel: &Channel,
    names: &Names,
    pool: &PoolName,
    worker: &WorkerId,
) -> Result<(), AmqpError> {
    let kind = QueueKind::ToOutcomes { pool, is_worker: true };
    declare(channel, &names.worker(worker), kind.arguments(names)).await
}

/// Declares a nameless queue of this connection alone, bound to an exchange: for heartbeats,
/// control messages and replies, where what comes while nobody listens does not matter.
///
/// # Errors
/// The exchange does not exist yet, or the session is lost.
pub async fn private_queue(
    channel: &Channel,
    bind_to: Option<(&str, &str)>,
) -> Result<String, AmqpError> {
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let declare = channel.queue_declare("".into(), options, Headers::default());
    let queue = within("a private queue", declare).await?.name().to_string();
    if let Some((exchange, key)) = bind_to {
        bind(channel, &queue, exchange, key).await?;
    }
    Ok(queue)
}

pub(super) async fn declare(
    channel: &Channel,
    name: &str,
    arguments: Headers,
) -> Result<(), AmqpError> {
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    let declare = channel.queue_declare(name.into(), options, arguments);
    within(&format!("queue {name}"), declare).await.map(drop)
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), AmqpError> {
    let options = QueueBindOptions::default();
    let bind =
        channel.queue_bind(queue.into(), exchange.into(), key.into(), options, Headers::default());
    within(&format!("binding of {queue} to {exchange}"), bind).await
}

#[cfg(test)]
mod tests;
