//! The part of shared servers that belongs to one test.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::ensure;

use super::{Servers, redis::DATABASES};

/// A virtual host and a Redis database that one test has for itself.
#[derive(Debug, Clone)]
pub struct Place {
    vhost: String,
    amqp_url: String,
    amqps_url: Option<String>,
    redis_url: String,
    rediss_url: Option<String>,
}

impl Place {
    pub(super) fn new(servers: &Servers, vhost: String) -> anyhow::Result<Self> {
        // Counted over all servers of the process: no two tests have one number, and databases are plenty.
        static TAKEN: AtomicU32 = AtomicU32::new(1);
        let database = TAKEN.fetch_add(1, Ordering::Relaxed);
        ensure!(database < DATABASES, "all {DATABASES} Redis databases of this process are taken");
        let (rabbitmq, redis) = (servers.rabbitmq(), servers.redis());
        Ok(Self {
            amqp_url: rabbitmq.url(&vhost),
            amqps_url: rabbitmq.tls_url(&vhost),
            redis_url: redis.url(database),
            rediss_url: redis.tls_url(database),
            vhost,
        })
    }

    /// The virtual host's name, for `rabbitmqctl -p`.
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// `amqp://…` with the virtual host.
    pub fn amqp_url(&self) -> &str {
        &self.amqp_url
    }

    /// `amqps://…`, when the servers speak TLS.
    pub fn amqps_url(&self) -> Option<&str> {
        self.amqps_url.as_deref()
    }

    /// `redis://…` with the database.
    pub fn redis_url(&self) -> &str {
        &self.redis_url
    }

    /// `rediss://…`, when the servers speak TLS.
    pub fn rediss_url(&self) -> Option<&str> {
        self.rediss_url.as_deref()
    }
}
