use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// An engine that has not turned for so long is stuck: it turns at each heartbeat, every 2 s.
const ALIVE_WITHIN: Duration = Duration::from_secs(10);

/// How a worker is, for whoever supervises it; cheap to clone and to ask, from any thread.
///
/// ```
/// # use taskyard_worker::Worker;
/// # fn example(worker: Worker) {
/// let health = worker.health(); // before `run`, which takes the worker
/// # let _ = health.is_ready();
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Of the last turn, in ms of [`elapsed_ms`]; 0 before the first.
    turned_at: AtomicU64,
    is_consuming: AtomicBool,
}

impl Health {
    /// Whether its engine has turned within the last 10 s; `false` before it runs. One that is not
    /// alive should be started again.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let turned_at = self.0.turned_at.load(Ordering::Relaxed);
        turned_at != 0
            && u128::from(elapsed_ms().saturating_sub(turned_at)) < ALIVE_WITHIN.as_millis()
    }

    /// Whether it is alive, connected to RabbitMQ, and takes tasks from its queue, which is there
    /// once a dispatcher has seen it. `false` while it drains.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.is_consuming.load(Ordering::Relaxed) && self.is_alive()
    }

    /// The engine has turned.
    pub(crate) fn turned(&self) {
        self.0.turned_at.store(elapsed_ms(), Ordering::Relaxed);
    }

    /// Tasks arrive, until what this returns is dropped.
    pub(crate) fn consuming(&self) -> Consuming {
        self.0.is_consuming.store(true, Ordering::Relaxed);
        Consuming(self.0.clone())
    }
}

/// While it is there, tasks arrive.
pub(crate) struct Consuming(Arc<Known>);

impl Drop for Consuming {
    fn drop(&mut self) {
        self.0.is_consuming.store(false, Ordering::Relaxed);
    }
}

/// ms since this was first asked, plus 1; no clock that a person can set.
fn elapsed_ms() -> u64 {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGUN.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_who_turns_and_consumes() {
        let health = Health::default();
        let consuming = health.consuming();
        assert!(!health.is_ready() && !health.is_alive());
        health.turned();
        assert!(health.is_ready() && health.is_alive());
        drop(consuming);
        assert!(!health.is_ready() && health.is_alive());
    }
}
