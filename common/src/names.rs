//! Every name on RabbitMQ, in one place. `taskyard` is the default namespace.

use taskyard_model::{PoolName, WorkerId};

/// The namespace and what is called after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    namespace: String,
}

/// Number of delay queues: 125 ms doubled 23 times is 12 days; what waits longer goes round again.
pub const DELAYS: u32 = 24;
/// Time to live of the first delay queue in milliseconds; each next one doubles it.
pub const DELAY_BASE_MS: u64 = 125;

impl Names {
    /// Names that begin with `namespace`.
    #[must_use]
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned() }
    }

    /// The namespace itself.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn name(&self, rest: &str) -> String {
        format!("{}.{rest}", self.namespace)
    }

    /// Topic exchange for submissions; the routing key is the kind.
    #[must_use]
    pub fn tasks(&self) -> String {
        self.name("tasks")
    }

    /// Fanout exchange that takes the kinds nobody bound to the default pool.
    #[must_use]
    pub fn unbound(&self) -> String {
        self.name("unbound")
    }

    /// Queue of a pool's submissions.
    #[must_use]
    pub fn submit(&self, pool: &PoolName) -> String {
        self.name(&format!("submit.{pool}"))
    }

    /// Whether it is some pool's queue of submissions.
    #[must_use]
    pub fn is_submit(&self, queue: &str) -> bool {
        queue.strip_prefix(&self.namespace).is_some_and(|rest| rest.starts_with(".submit."))
    }

    /// The pool whose queue of submissions it is.
    #[must_use]
    pub fn pool_of_submit(&self, queue: &str) -> Option<PoolName> {
        let pool = queue.strip_prefix(&self.namespace)?.strip_prefix(".submit.")?;
        PoolName::new(pool).ok()
    }

    /// Queue of a pool's backlog of one rank, 0 to 9.
    #[must_use]
    pub fn lane(&self, pool: &PoolName, lane: u8) -> String {
        self.name(&format!("lane.{pool}.{lane}"))
    }

    /// Queue of tasks that no worker of the pool can take.
    #[must_use]
    pub fn parked(&self, pool: &PoolName) -> String {
        self.name(&format!("parked.{pool}"))
    }

    /// Queue of one worker.
    #[must_use]
    pub fn worker(&self, worker: &WorkerId) -> String {
        self.name(&format!("worker.{worker}"))
    }

    /// Direct exchange for reports, and the dead-letter exchange of submit and worker queues; the
    /// routing key is the pool.
    #[must_use]
    pub fn outcomes(&self) -> String {
        self.name("outcomes")
    }

    /// Fanout exchange that takes reports for unknown pools to the default pool.
    #[must_use]
    pub fn stray(&self) -> String {
        self.name("stray")
    }

    /// Queue of a pool's reports and dead letters.
    #[must_use]
    pub fn outcomes_queue(&self, pool: &PoolName) -> String {
        self.name(&format!("outcomes.{pool}"))
    }

    /// Direct exchange behind the delays; the routing key is the pool.
    #[must_use]
    pub fn again(&self) -> String {
        self.name("again")
    }

    /// Queue of a pool's own copies that come back in.
    #[must_use]
    pub fn again_queue(&self, pool: &PoolName) -> String {
        self.name(&format!("again.{pool}"))
    }

    /// Fanout exchange and queue of one delay: `125 ms * 2^level`.
    #[must_use]
    pub fn delay(&self, level: u32) -> String {
        self.name(&format!("delay.{level}"))
    }

    /// Queue of tasks that ended `failed`.
    #[must_use]
    pub fn dead(&self) -> String {
        self.name("dead")
    }

    /// Queue of submissions that could not be understood.
    #[must_use]
    pub fn rejected(&self) -> String {
        self.name("rejected")
    }

    /// Queue that holds the token of a pool's leader.
    #[must_use]
    pub fn leader(&self, pool: &PoolName) -> String {
        self.name(&format!("leader.{pool}"))
    }

    /// Fanout exchange for heartbeats.
    #[must_use]
    pub fn heartbeats(&self) -> String {
        self.name("heartbeats")
    }

    /// Direct exchange for messages to workers; the routing key is the worker's id.
    #[must_use]
    pub fn control(&self) -> String {
        self.name("control")
    }

    /// Fanout exchange for commands.
    #[must_use]
    pub fn commands(&self) -> String {
        self.name("commands")
    }

    /// Queue of commands for a pool's leader.
    #[must_use]
    pub fn commands_queue(&self, pool: &PoolName) -> String {
        self.name(&format!("commands.{pool}"))
    }

    /// Whether a queue belongs to the namespace, so that no reply may go there.
    #[must_use]
    pub fn owns(&self, queue: &str) -> bool {
        queue.strip_prefix(&self.namespace).is_some_and(|rest| rest.starts_with('.'))
    }
}
