use crate::exit::Failure;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use taskyard_common::amqp::{AddressError, AmqpSettings};
use taskyard_common::names::Names;
use taskyard_common::settings::{self, CommonFlags};
use taskyard_common::store::{Reader, RedisSettings};
use taskyard_model::PoolName;
use taskyard_producer::{Commands, Producer, Settings};

/// The settings of this program. A file that is shared with a dispatcher has more, which is none of
/// our business.
#[derive(Deserialize)]
struct Final {
    #[serde(default = "settings::default_amqp_url")]
    amqp_url: String,
    #[serde(default = "settings::default_redis_url")]
    redis_url: String,
    #[serde(default)]
    tls_ca: Option<PathBuf>,
    #[serde(default = "settings::default_namespace")]
    namespace: String,
    #[serde(default)]
    pool: Option<String>,
}

/// How to get to RabbitMQ and Redis; connects only when asked to.
pub(crate) struct Reach {
    settings: Final,
}

impl Reach {
    pub(crate) fn new(flags: &CommonFlags) -> Result<Self, Failure> {
        let settings: Final = settings::layered(flags, flags.config.as_deref())?;
        Ok(Self { settings })
    }

    fn producer_settings(&self) -> Result<Settings, Failure> {
        let settings = Settings::new(&self.settings.amqp_url)?
            .namespace(&self.settings.namespace)
            .name("taskyard");
        Ok(match &self.settings.tls_ca {
            Some(file) => settings.tls_ca(file),
            None => settings,
        })
    }

    /// Certificates to trust besides the system's.
    pub(crate) fn tls_ca(&self) -> Option<&Path> {
        self.settings.tls_ca.as_deref()
    }

    pub(crate) async fn producer(&self, patience: Duration) -> Result<Producer, Failure> {
        Ok(Producer::connect(self.producer_settings()?.patience(patience)).await?)
    }

    pub(crate) async fn commands(&self) -> Result<Commands, Failure> {
        Ok(Commands::connect(self.producer_settings()?).await?)
    }

    pub(crate) fn reader(&self) -> Result<Reader, Failure> {
        let mut redis = RedisSettings::new(&self.settings.redis_url);
        // The same certificates serve RabbitMQ, which may speak TLS when Redis does not.
        redis.tls_ca = self.settings.tls_ca.clone().filter(|_| redis.url.starts_with("rediss://"));
        Ok(Reader::new(&redis, &self.settings.namespace)?)
    }

    /// How to reach RabbitMQ without being a producer.
    pub(crate) fn amqp(&self) -> Result<AmqpSettings, Failure> {
        let address = self.settings.amqp_url.parse().map_err(|error: AddressError| {
            Failure::usage(error.to_string()).hint("the address of RabbitMQ is --amqp-url")
        })?;
        Ok(AmqpSettings { address, tls_ca: self.settings.tls_ca.clone() })
    }

    /// The names of everything on RabbitMQ.
    pub(crate) fn names(&self) -> Names {
        Names::new(&self.settings.namespace)
    }

    /// The pool that was asked for, if one was.
    pub(crate) fn pool(&self) -> Result<Option<PoolName>, Failure> {
        let pool = self.settings.pool.as_deref().map(PoolName::new).transpose();
        pool.map_err(|error| Failure::usage(format!("--pool: {error}")))
    }

    /// How many leaders may answer a command: the number of pools, where Redis can say.
    pub(crate) async fn leaders(&self) -> Option<usize> {
        let pools = self.reader().ok()?.pools().await.ok()?;
        (!pools.is_empty()).then_some(pools.len())
    }
}
