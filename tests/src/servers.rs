//! RabbitMQ and Redis of one's own, on free ports, in a temporary folder.

mod place;
mod rabbitmq;
mod redis;
mod tls;

use std::{path::Path, time::Duration};

use anyhow::Context;
use tokio::sync::OnceCell;

pub use self::{place::Place, rabbitmq::RabbitMq, redis::Redis};
use crate::folder::Folder;
use tls::Certificates;

/// How often starting is tried: another process may take a port between our look and the server's.
const START_ATTEMPTS: u32 = 3;

/// One RabbitMQ and one Redis that nobody else knows about. Dropping them ends them and removes their
/// folder; so does the end of the process, whatever it is.
///
/// ```no_run
/// # async fn example() -> anyhow::Result<()> {
/// use taskyard_tests::Servers;
///
/// // A test that hurts the servers starts its own (a few seconds).
/// let servers = Servers::start().await?;
/// servers.rabbitmq().kill9()?;
/// servers.rabbitmq().start().await?;
///
/// // All others share a pair per test program, and have a virtual host and a database of their own.
/// let place = Servers::shared().await?.place().await?;
/// println!("{} {}", place.amqp_url(), place.redis_url());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Servers {
    // Dropped in this order: the servers end before their folder goes.
    rabbitmq: RabbitMq,
    redis: Redis,
    certificates: Option<Certificates>,
    folder: Folder,
}

impl Servers {
    /// Starts servers with default options, and waits until both answer.
    ///
    /// # Errors
    ///
    /// When a program is missing (the error says how to get it) or does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        Self::builder().start().await
    }

    /// Servers with options.
    pub fn builder() -> ServersBuilder {
        ServersBuilder::default()
    }

    /// The servers that all tests of this process share: don't stop them, don't `FLUSHALL`; take a
    /// [`Self::place`] of your own. They end with the process.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub async fn shared() -> anyhow::Result<&'static Self> {
        static SHARED: OnceCell<Servers> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// A virtual host and a Redis database that nobody else uses.
    ///
    /// # Errors
    ///
    /// When RabbitMQ does not make the virtual host.
    pub async fn place(&self) -> anyhow::Result<Place> {
        let vhost = self.rabbitmq.take_vhost().await?;
        Place::new(self, vhost)
    }

    /// The broker.
    pub fn rabbitmq(&self) -> &RabbitMq {
        &self.rabbitmq
    }

    /// The state store.
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// The certificate that signed the servers' ones, in PEM, when TLS was asked for.
    pub fn ca_file(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|certificates| certificates.ca.as_path())
    }

    /// The folder with the servers' data and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// What [`Servers`] can be told before they start.
#[derive(Debug, Default)]
pub struct ServersBuilder {
    rabbitmq_conf: Vec<String>,
    redis_args: Vec<String>,
    tls: bool,
    management: bool,
}

impl ServersBuilder {
    /// The broker closes channels that leave a delivery unacked for longer. RabbitMQ looks once a
    /// minute, so it acts up to a minute late; its default is 30 minutes.
    #[must_use]
    pub fn consumer_timeout(self, timeout: Duration) -> Self {
        let line = format!("consumer_timeout = {}", timeout.as_millis());
        self.rabbitmq_conf(&line)
    }

    /// Both servers also listen with TLS, with certificates of an authority made for this run
    /// ([`Servers::ca_file`]).
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// The broker has its management API ([`RabbitMq::management_url`]); it starts a little later.
    #[must_use]
    pub fn management(mut self) -> Self {
        self.management = true;
        self
    }

    /// Adds a line to `rabbitmq.conf`.
    #[must_use]
    pub fn rabbitmq_conf(mut self, line: &str) -> Self {
        self.rabbitmq_conf.push(line.to_owned());
        self
    }

    /// Adds an option to the command line of Redis: `redis_arg("maxmemory", "10mb")`.
    #[must_use]
    pub fn redis_arg(mut self, name: &str, value: &str) -> Self {
        self.redis_args.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// Starts the servers and waits until both answer.
    ///
    /// # Errors
    ///
    /// When a program is missing (the error says how to get it) or does not come up.
    pub async fn start(self) -> anyhow::Result<Servers> {
        let mut attempt = 1;
        loop {
            match self.try_start().await {
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn try_start(&self) -> anyhow::Result<Servers> {
        let folder = Folder::create("servers")?;
        let certificates = if self.tls { Some(Certificates::make(folder.path())?) } else { None };
        let rabbitmq = rabbitmq::Options {
            certificates: certificates.as_ref(),
            has_management: self.management,
            conf: &self.rabbitmq_conf,
        };
        let rabbitmq = RabbitMq::prepare(folder.path(), &rabbitmq).context("RabbitMQ")?;
        let redis = Redis::prepare(folder.path(), certificates.as_ref(), &self.redis_args)
            .context("Redis")?;
        tokio::try_join!(rabbitmq.start(), redis.start())?;
        Ok(Servers { rabbitmq, redis, certificates, folder })
    }
}
