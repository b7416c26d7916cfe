use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::script::{self, Scripts};
use super::{RedisSettings, StoreError, settings};

/// How patient a link is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long to wait for an answer. Longer than Redis needs to fork or to load a big script,
    /// shorter than the leases of those who wait for us.
    pub(super) response_timeout: Duration,
    /// Timeouts in a row after which the connection is given up: a link that swallows everything
    /// looks like a slow one until its kernel gives up. At 1, a long pause would cost a reconnect.
    pub(super) timeouts_max: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { response_timeout: Duration::from_secs(5), timeouts_max: 3 }
    }
}

/// One connection to Redis that lives as long as it can and is made anew by the next call.
///
/// Cloned connections share one socket, so any number of calls are under way at once; answers are
/// told apart by their order, which a timed-out call does not disturb.
pub(super) struct Link {
    client: Client,
    config: AsyncConnectionConfig,
    patience: Patience,
    address: String,
    slot: Mutex<Slot>,
    generation: AtomicU64,
}

/// The connection, or when to try again.
#[derive(Default)]
struct Slot {
    live: Option<Live>,
    failures: u32,
    failed: Option<(Instant, StoreError)>,
    retry_at: Option<Instant>,
}

/// A connection with our scripts loaded.
#[derive(Clone)]
pub(super) struct Live {
    connection: MultiplexedConnection,
    pub(super) scripts: Arc<Scripts>,
    generation: u64,
    timeouts: Arc<AtomicU32>,
}

impl Link {
    pub(super) fn new(settings: &RedisSettings, patience: Patience) -> Result<Self, StoreError> {
        Ok(Self {
            client: settings.client()?,
            config: settings::connection_config(patience.response_timeout),
            patience,
            address: settings.redacted_url(),
            slot: Mutex::default(),
            generation: AtomicU64::new(0),
        })
    }

    /// Grows with every new connection.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// The connection; a new one if there is none, after a wait that grows with every failure.
    pub(super) async fn live(&self) -> Result<Live, StoreError> {
        let asked_at = Instant::now();
        let mut slot = self.slot.lock().await;
        if let Some(live) = &slot.live {
            return Ok(live.clone());
        }
        // Who waited here while another's attempt failed has had its attempt.
        if let Some((at, error)) = &slot.failed
            && *at >= asked_at
        {
            return Err(error.clone());
        }
        if let Some(retry_at) = slot.retry_at {
            sleep_until(retry_at).await;
        }
        match self.connect().await {
            Ok(live) => {
                info!(redis = self.address, generation = live.generation, "connected to redis");
                *slot = Slot { live: Some(live.clone()), ..Slot::default() };
                Ok(live)
            }
            Err(error) => {
                let now = Instant::now();
                slot.retry_at = Some(now + jittered(slot.failures));
                slot.failures = slot.failures.saturating_add(1);
                slot.failed = Some((now, error.clone()));
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Live, StoreError> {
        let connecting = self.client.get_multiplexed_async_connection_with_config(&self.config);
        let mut connection = connecting.await.map_err(StoreError::connecting)?;
        let scripts = Arc::new(script::load(&mut connection).await?);
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Live { connection, scripts, generation, timeouts: Arc::default() })
    }

    /// Sends the commands in one write; one answer for each, errors of Redis among them.
    pub(super) async fn call(&self, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let live = self.live().await?;
        self.call_on(&live, pipeline).await
    }

    /// The same on a connection that [`Link::live`] gave.
    pub(super) async fn call_on(
        &self,
        live: &Live,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = live.connection.clone();
        match connection.req_packed_commands(pipeline, 0, pipeline.len()).await {
            Ok(values) => {
                live.timeouts.store(0, Ordering::Relaxed);
                if values.iter().any(is_readonly) {
                    // A failover made this server a replica; its name may lead elsewhere now.
                    self.give_up(live, "it became a replica").await;
                }
                Ok(values)
            }
            Err(error) => {
                self.judge(live, &error).await;
                Err(StoreError::Unknown(error))
            }
        }
    }

    /// Whether the connection is still good after a call without an answer.
    async fn judge(&self, live: &Live, error: &RedisError) {
        if !error.is_timeout() {
            self.give_up(live, &error.to_string()).await;
        } else if live.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= self.patience.timeouts_max {
            self.give_up(live, "too many timeouts in a row").await;
        }
    }

    /// Forgets a connection; its socket closes when the last call on it has ended.
    async fn give_up(&self, live: &Live, reason: &str) {
        let mut slot = self.slot.lock().await;
        if slot.live.as_ref().is_some_and(|now| now.generation == live.generation) {
            warn!(redis = self.address, reason, "connection to redis given up");
            *slot = Slot { retry_at: Some(Instant::now() + jittered(0)), ..Slot::default() };
        }
    }

    /// Loads the scripts again, which Redis has forgotten.
    pub(super) async fn reload(&self, live: &Live) -> Result<(), StoreError> {
        warn!(redis = self.address, "redis has forgotten our scripts, loading them again");
        match script::load(&mut live.connection.clone()).await {
            Ok(_) => Ok(()),
            Err(StoreError::Unreachable(error)) => {
                self.judge(live, &error).await;
                // What went before it in the same call was done.
                Err(StoreError::Unknown(error))
            }
            Err(error) => Err(error),
        }
    }
}

fn is_readonly(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "READONLY")
}

/// Longest wait before the first repetition.
const RETRY_BASE_MS: u64 = 100;
/// Longest wait at all. Callers wait inside their call, so it stays below their patience.
const RETRY_CAP_MS: u64 = 2_000;

/// Full jitter, so that those who lost Redis together do not come back together.
fn jittered(failures: u32) -> Duration {
    let ceiling = RETRY_BASE_MS.saturating_mul(1 << failures.min(10)).min(RETRY_CAP_MS);
    Duration::from_millis(rand::random_range(0..=ceiling))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_the_cap() {
        for failures in 0..100 {
            assert!(jittered(failures) <= Duration::from_millis(RETRY_CAP_MS));
        }
        assert!(jittered(0) <= Duration::from_millis(RETRY_BASE_MS));
    }
}
