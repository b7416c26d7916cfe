//! What was confirmed, and the questions that are asked of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use lapin::{options::BasicGetOptions, types::ShortString};
use taskyard_tests::{TaskHash, Yard, wait_until};

/// How long everything may take to end after the last fault: a copy whose worker died while it ran
/// goes round for up to 45 s, and may be charged more than once.
const ALL_END_WITHIN: Duration = Duration::from_secs(180);

/// Where the end of every task is told.
pub(crate) const REPLIES: &str = "test.replies";

/// A submission that RabbitMQ has confirmed.
#[derive(Debug)]
pub(crate) struct Confirmed {
    pub(crate) id: String,
    pub(crate) payload: String,
    /// Times that it fails before it succeeds.
    pub(crate) failures: i64,
}

/// All confirmed submissions of a test.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) confirmed: Vec<Confirmed>,
}

/// What the faults cost.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// Attempts beyond those that failures explain.
    pub(crate) attempts: i64,
    /// Losses charged.
    pub(crate) losses: i64,
    /// The longest time in which nothing ended, in ms.
    pub(crate) standstill_ms: i64,
}

/// How far Redis can be trusted to have counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// It has kept all it was told.
    Whole,
    /// It was emptied or set back: attempts, failures and losses may have been forgotten.
    Torn,
}

impl Ledger {
    /// Every task has succeeded, with its payload as the result, and was charged for nothing but its
    /// own failures; nothing is left in any queue, nor of any attempt in Redis.
    ///
    /// # Errors
    ///
    /// With what is wrong, and an example.
    pub(crate) async fn settle(&self, yard: &Yard, memory: Memory) -> anyhow::Result<Cost> {
        self.wait_replies(yard).await?;
        wait_drained(yard).await?;
        wait_idle(yard).await?;
        let ids: Vec<String> = self.confirmed.iter().map(|task| task.id.clone()).collect();
        let mut cost = Cost::default();
        if memory == Memory::Torn {
            let states = yard.states(&ids).await?;
            let other = states.iter().position(|state| !matches!(&**state, "" | "succeeded"));
            ensure!(other.is_none(), "{:?}", other.map(|at| (&ids[at], &states[at])));
            return Ok(cost);
        }
        yard.wait_all(&ids, "succeeded", ALL_END_WITHIN).await?;
        let mut ends = Vec::with_capacity(ids.len());
        for task in &self.confirmed {
            let hash = yard.state(&task.id).await?;
            ensure!(hash.bytes("result") == task.payload.as_bytes(), "wrong result: {hash:?}");
            ends.push(hash.number("finished_at"));
            task.charge(&hash, &mut cost)?;
        }
        ends.sort_unstable();
        cost.standstill_ms = ends.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(0);
        Ok(cost)
    }

    /// Waits until every task has been answered, with its payload and as succeeded: Redis may have
    /// forgotten it.
    async fn wait_replies(&self, yard: &Yard) -> anyhow::Result<()> {
        let mut missing: BTreeMap<&str, &str> =
            self.confirmed.iter().map(|task| (&*task.id, &*task.payload)).collect();
        let channel = yard.channel().await?;
        wait_until("a reply for every task", ALL_END_WITHIN, async || {
            let options = BasicGetOptions { no_ack: true };
            while let Some(reply) = channel.basic_get(REPLIES.into(), options).await? {
                let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
                let id = text(reply.properties.message_id()).unwrap_or_default();
                let state = text(reply.properties.kind()).unwrap_or_default();
                let expected = missing.remove(&*id);
                let is_right = expected.is_none_or(|payload| reply.data == payload.as_bytes());
                if state != "succeeded" || !is_right {
                    return Ok(Err(anyhow!("{id} is answered with {state}: {:?}", reply.data)));
                }
            }
            let (count, one) = (missing.len(), missing.keys().next());
            let Some(one) = one else { return Ok(Ok(())) };
            bail!("{count} are not answered, one of them {:?}", yard.state(one).await?)
        })
        .await?
    }
}

impl Confirmed {
    fn charge(&self, hash: &TaskHash, cost: &mut Cost) -> anyhow::Result<()> {
        let (attempt, failures) = (hash.number("attempt"), hash.number("failures"));
        ensure!(failures == self.failures, "charged for what others did: {hash:?}");
        ensure!(attempt > failures, "more failures than attempts: {hash:?}");
        cost.attempts += attempt - failures - 1;
        cost.losses += hash.number("losses");
        Ok(())
    }
}

/// Waits until no queue holds anything, but the one of the token.
///
/// # Errors
///
/// With the queues that do.
pub(crate) async fn wait_drained(yard: &Yard) -> anyhow::Result<()> {
    let columns = ["name", "messages_ready", "messages_unacknowledged", "messages"];
    let args = [&["list_queues", "-p", yard.place().vhost(), "--no-table-headers"], &columns[..]];
    let args = args.concat();
    wait_until("empty queues", ALL_END_WITHIN, async || {
        let listing = yard.servers().rabbitmq().rabbitmqctl(&args).await?;
        let mut full = BTreeMap::new();
        for line in listing.lines() {
            let (name, counts) = line.split_once('\t').context("a name and counts")?;
            let is_ours = name.starts_with("taskyard.") && !name.starts_with("taskyard.leader.");
            if is_ours && counts.split('\t').any(|count| count != "0") {
                full.insert(name.to_owned(), counts.to_owned());
            }
        }
        ensure!(full.is_empty(), "ready, unacked, all: {full:?}");
        Ok(())
    })
    .await
}

/// Waits until no attempt is in flight, in Redis or in the books of the leader: a slot that is never
/// freed would show here.
///
/// # Errors
///
/// With what is.
pub(crate) async fn wait_idle(yard: &Yard) -> anyhow::Result<()> {
    wait_until("nothing in flight", ALL_END_WITHIN, async || {
        let keys: Vec<String> = yard.redis(redis::cmd("KEYS").arg("*}:payload")).await?;
        ensure!(keys.is_empty(), "payloads in Redis: {keys:?}");
        let fields = ["busy", "in_flight", "waiting"];
        let query = redis::cmd("HMGET").arg("taskyard:stats:default").arg(&fields).to_owned();
        let counts: Vec<Option<String>> = yard.redis(&query).await?;
        let is_idle = counts.iter().all(|count| count.as_deref() == Some("0"));
        ensure!(is_idle, "{fields:?} are {counts:?}");
        Ok(())
    })
    .await
}
