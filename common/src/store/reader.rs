use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Object, Pool, PoolError, RecycleResult};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Value as Reply};
use taskyard_model::{PoolName, State, TaskId, Timestamp, WorkerId};

use super::inflight::{KEYS_A_PAGE, escaped, scanned};
use super::record::{instant, text};
use super::{FIELDS, Keys, RedisSettings, StoreError, settings};

/// Connections of one reader; whoever finds none free waits.
const CONNECTIONS_MAX: usize = 8;
/// How long to wait for a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Idle time after which a connection has to prove that it is alive before it is used.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Reads what anybody may read: for the command line and for tests.
///
/// Connects at the first question. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Reader {
    pool: Pool<Connector>,
    pub(super) keys: Keys,
}

impl Reader {
    /// Does not connect yet.
    ///
    /// # Errors
    /// `Settings` if the address or a certificate is no good.
    pub fn new(settings: &RedisSettings, namespace: &str) -> Result<Self, StoreError> {
        let config = settings::connection_config(PATIENCE);
        let pool = Pool::builder(Connector { client: settings.client()?, config })
            .max_size(CONNECTIONS_MAX)
            .wait_timeout(Some(PATIENCE))
            .recycle_timeout(Some(PATIENCE))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Settings { what: error.to_string() })?;
        Ok(Self { pool, keys: Keys::new(namespace) })
    }

    /// One task, if there is a record of it.
    ///
    /// # Errors
    /// `Unreachable`, `Unknown` (no answer), or what Redis itself answers.
    pub async fn task(&self, id: &TaskId) -> Result<Option<TaskView>, StoreError> {
        Ok(self.tasks(std::slice::from_ref(id)).await?.pop().flatten())
    }

    /// Several tasks, in the order of the ids.
    ///
    /// # Errors
    /// As [`Reader::task`].
    pub async fn tasks(&self, ids: &[TaskId]) -> Result<Vec<Option<TaskView>>, StoreError> {
        let mut pipeline = redis::pipe();
        for id in ids {
            pipeline.cmd("HGETALL").arg(self.keys.task(id));
        }
        let replies = self.call(&pipeline).await?;
        let views = ids.iter().zip(replies).map(|(id, reply)| {
            let fields = Fields::parse(reply)?;
            Ok((!fields.0.is_empty()).then(|| TaskView { id: id.clone(), fields }))
        });
        views.collect()
    }

    /// Several tasks without their results, which may be large, in the order of the ids: of each the fields
    /// that are there from intake on.
    ///
    /// # Errors
    /// As [`Reader::task`].
    pub async fn glances(&self, ids: &[TaskId]) -> Result<Vec<Option<TaskView>>, StoreError> {
        let names: Vec<&str> = FIELDS.iter().copied().filter(|name| *name != "result").collect();
        let mut pipeline = redis::pipe();
        for id in ids {
            pipeline.cmd("HMGET").arg(self.keys.task(id)).arg(&names);
        }
        let replies = self.call(&pipeline).await?;
        let views = ids.iter().zip(replies).map(|(id, reply)| {
            let Reply::Array(values) = reply else {
                return Err(StoreError::Strange { what: "the values of fields" });
            };
            let fields = names.iter().zip(values).filter(|(_, value)| *value != Reply::Nil);
            let fields: Vec<_> =
                fields.map(|(name, value)| ((*name).to_owned(), bytes(value))).collect();
            Ok((!fields.is_empty()).then(|| TaskView { id: id.clone(), fields: Fields(fields) }))
        });
        views.collect()
    }

    /// The latest tasks to reach a state, newest first, with the time that they did.
    ///
    /// # Errors
    /// As [`Reader::task`].
    pub async fn recent(
        &self,
        state: State,
        limit: u32,
    ) -> Result<Vec<(TaskId, Timestamp)>, StoreError> {
        let Some(last) = limit.checked_sub(1) else { return Ok(Vec::new()) };
        let list = self.newest(self.keys.recent(state), last.into()).await?;
        Ok(list.filter_map(|(id, at)| Some((TaskId::new(&id).ok()?, at))).collect())
    }

    /// Up to `most` tasks that are in one of these states, in no order. For states of which no list is
    /// kept: it looks through all keys of the database, in small steps, until it has found enough.
    ///
    /// # Errors
    /// As [`Reader::task`].
    pub async fn in_states(
        &self,
        states: &[State],
        most: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        let pattern = format!("{}*", escaped(self.keys.task_prefix()));
        let mut found = Vec::new();
        let mut cursor = 0;
        while found.len() < most {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(KEYS_A_PAGE);
            let (next, keys) = scanned(Some(self.one(&mut scan).await?))?;
            let ids: Vec<TaskId> =
                keys.into_iter().filter_map(|key| self.keys.id_of_task(&text(key))).collect();
            let mut pipeline = redis::pipe();
            for id in &ids {
                pipeline.cmd("HGET").arg(self.keys.task(id)).arg("state");
            }
            let replies = self.call(&pipeline).await?;
            let is_wanted = |reply: Reply| text(reply).parse().is_ok_and(|s| states.contains(&s));
            let wanted = ids.into_iter().zip(replies).filter(|(_, reply)| is_wanted(reply.clone()));
            found.extend(wanted.map(|(id, _)| id));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        // A key that moves while it is looked for may be seen twice.
        found.sort();
        found.dedup();
        found.truncate(most);
        Ok(found)
    }

    /// All workers of the last 7 days, the latest heartbeat first.
    ///
    /// # Errors
    /// As [`Reader::task`].
    pub async fn workers(&self) -> Result<Vec<WorkerView>, StoreError> {
        let list = self.newest(self.keys.workers(), -1).await?;
        let seen: Vec<(WorkerId, Timestamp)> =
            list.filter_map(|(id, at)| Some((WorkerId::new(&id).ok()?, at))).collect();
        let mut pipeline = redis::pipe();
        for (id, _) in &seen {
            pipeline.cmd("HGETALL").arg(self.keys.worker(id));
        }
        let rows = self.call(&pipeline).await?;
        let views = seen.into_iter().zip(rows).map(|((id, seen_at), row)| {
            Ok(WorkerView { id, seen_at, fields: Fields::parse(row)? })
        });
        views.collect()
    }

    /// The counts of a pool by name.
    ///
    /// # Errors
    /// As [`Reader::task`].
    pub async fn stats(&self, pool: &PoolName) -> Result<BTreeMap<String, i64>, StoreError> {
        let row = self.one(redis::cmd("HGETALL").arg(self.keys.stats(pool))).await?;
        let fields = Fields::parse(row)?;
        Ok(fields
            .iter()
            .filter_map(|(name, _)| Some((name.to_owned(), fields.number(name)?)))
            .collect())
    }

    /// The pools that have counts, in the order of their names.
    ///
    /// # Errors
    /// As [`Reader::task`].
    pub async fn pools(&self) -> Result<Vec<PoolName>, StoreError> {
        let Reply::Array(names) = self.one(redis::cmd("SMEMBERS").arg(self.keys.pools())).await?
        else {
            return Err(StoreError::Strange { what: "a set of pools" });
        };
        let names = names.into_iter().filter_map(|name| PoolName::new(&text(name)).ok());
        let mut names: Vec<_> = names.collect();
        names.sort();
        Ok(names)
    }

    /// The members of a sorted set with the highest scores, up to the place `last` (-1 is all).
    async fn newest(
        &self,
        key: String,
        last: i64,
    ) -> Result<impl Iterator<Item = (String, Timestamp)>, StoreError> {
        let mut cmd = redis::cmd("ZREVRANGE");
        cmd.arg(key).arg(0).arg(last).arg("WITHSCORES");
        scored(self.one(&mut cmd).await?)
    }

    pub(super) async fn one(&self, cmd: &mut Cmd) -> Result<Reply, StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.add_command(cmd.take());
        let mut replies = self.call(&pipeline).await?;
        replies.pop().ok_or(StoreError::Strange { what: "an answer" })
    }

    /// The answers to all commands; any error of Redis fails the whole.
    async fn call(&self, pipeline: &Pipeline) -> Result<Vec<Reply>, StoreError> {
        let values = self.replies(pipeline).await?.into_iter().map(|reply| match reply {
            Reply::ServerError(error) => Err(StoreError::from_server(&error)),
            reply => Ok(reply),
        });
        values.collect()
    }

    /// The answers to all commands, errors of Redis among them.
    pub(super) async fn replies(&self, pipeline: &Pipeline) -> Result<Vec<Reply>, StoreError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.pool.get().await.map_err(taken)?;
        let replies = connection.req_packed_commands(pipeline, 0, pipeline.len()).await;
        replies.map_err(|error| {
            // Not given back: the next one would find it broken.
            drop(Object::take(connection));
            StoreError::Unknown(error)
        })
    }
}

/// Why the pool gave no connection.
fn taken(error: PoolError<StoreError>) -> StoreError {
    match error {
        PoolError::Backend(error) => error,
        other => StoreError::Unavailable { code: "POOL".to_owned(), detail: other.to_string() },
    }
}

/// Makes connections and tells the living from the dead.
struct Connector {
    client: Client,
    config: AsyncConnectionConfig,
}

impl managed::Manager for Connector {
    type Type = MultiplexedConnection;
    type Error = StoreError;

    async fn create(&self) -> Result<MultiplexedConnection, StoreError> {
        let connecting = self.client.get_multiplexed_async_connection_with_config(&self.config);
        connecting.await.map_err(StoreError::connecting)
    }

    async fn recycle(
        &self,
        connection: &mut MultiplexedConnection,
        metrics: &Metrics,
    ) -> RecycleResult<StoreError> {
        if metrics.last_used() > TRUSTED_FOR {
            let pong = connection.req_packed_command(&redis::cmd("PING")).await;
            pong.map_err(StoreError::Unknown)?;
        }
        Ok(())
    }
}

/// The fields of a hash, in the order of [`FIELDS`], then those that are not in it by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, Bytes)>);

impl Fields {
    fn parse(reply: Reply) -> Result<Self, StoreError> {
        let Reply::Array(parts) = reply else {
            return Err(StoreError::Strange { what: "fields and values" });
        };
        let mut fields = Vec::with_capacity(parts.len() / 2);
        let mut parts = parts.into_iter();
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            fields.push((text(name), bytes(value)));
        }
        let place = |name: &str| FIELDS.iter().position(|&field| field == name);
        fields.sort_by_cached_key(|(name, _)| (place(name).unwrap_or(usize::MAX), name.clone()));
        Ok(Self(fields))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// One of them as it is stored.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// One of them as text; empty if it is missing or no text.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.value(name).and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default()
    }

    /// One of them as a number, if it is one.
    #[must_use]
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        self.text(name).parse().ok()
    }

    /// One of them as an instant; empty and 0 are none.
    #[must_use]
    pub fn instant(&self, name: &str) -> Option<Timestamp> {
        instant(self.text(name))
    }
}

impl<N: Into<String>, V: Into<Bytes>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// A task's record with all its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskView {
    /// The task.
    pub id: TaskId,
    /// What is known of it.
    pub fields: Fields,
}

impl TaskView {
    /// The state, if it is one of ours.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.fields.text("state").parse().ok()
    }

    /// Number of its current or last dispatch; 0 before the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.fields.number("attempt").unwrap_or(0)
    }

    /// Attempts that a worker failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.fields.number("failures").unwrap_or(0)
    }

    /// Attempts whose worker died under them.
    #[must_use]
    pub fn losses(&self) -> u32 {
        self.fields.number("losses").unwrap_or(0)
    }

    /// The worker it was last given to.
    #[must_use]
    pub fn worker(&self) -> Option<WorkerId> {
        self.fields.text("worker").parse().ok()
    }

    /// The result as the handler returned it; empty before its end.
    #[must_use]
    pub fn result(&self) -> Bytes {
        self.fields.value("result").cloned().unwrap_or_default()
    }

    /// Text of the last error; empty if there was none.
    #[must_use]
    pub fn error(&self) -> &str {
        self.fields.text("error")
    }

    /// When it reached its final state.
    #[must_use]
    pub fn finished_at(&self) -> Option<Timestamp> {
        self.fields.instant("finished_at")
    }
}

/// What is known of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerView {
    /// The worker.
    pub id: WorkerId,
    /// Its last heartbeat.
    pub seen_at: Timestamp,
    /// The rest.
    pub fields: Fields,
}

/// A value as it is stored.
fn bytes(value: Reply) -> Bytes {
    match value {
        Reply::BulkString(bytes) => Bytes::from(bytes),
        other => Bytes::from(text(other)),
    }
}

/// Members and scores of a sorted set; ours are instants.
fn scored(reply: Reply) -> Result<impl Iterator<Item = (String, Timestamp)>, StoreError> {
    let Reply::Array(parts) = reply else {
        return Err(StoreError::Strange { what: "members and scores" });
    };
    let mut parts = parts.into_iter().map(text);
    Ok(std::iter::from_fn(move || {
        let (member, score) = (parts.next()?, parts.next()?);
        Some((member, instant(&score).unwrap_or_default()))
    }))
}
