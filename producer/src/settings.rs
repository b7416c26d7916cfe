use std::path::PathBuf;
use std::time::Duration;
use taskyard_common::amqp::{AddressError, AmqpSettings};
use taskyard_common::settings;

/// Publishing channels at once. A channel is held only while a message is handed over, not until
/// its confirm, and one carries some 10,000 messages a second, so a few serve any program.
const CHANNELS: usize = 4;
/// How long to try before an outcome is given up as unknown: longer than RabbitMQ needs to elect a
/// queue's leader or to come back from a restart.
const PATIENCE: Duration = Duration::from_secs(30);

/// How to reach RabbitMQ, and how hard to try.
///
/// ```no_run
/// # fn example() -> Result<(), taskyard_producer::SettingsError> {
/// use std::time::Duration;
/// use taskyard_producer::Settings;
///
/// let settings = Settings::new("amqps://me:secret@broker-1,broker-2/%2f")?
///     .tls_ca("ca.pem")
///     .namespace("shop")
///     .patience(Duration::from_secs(10));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) amqp: AmqpSettings,
    pub(crate) namespace: String,
    pub(crate) channels: usize,
    pub(crate) patience: Duration,
    pub(crate) name: String,
}

/// Why settings cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The address is none: correct it.
    #[error(transparent)]
    Address(#[from] AddressError),
}

impl Settings {
    /// A broker at this address: `amqp://user:password@host:5672/vhost`, several hosts separated by
    /// commas, `amqps://` for TLS.
    ///
    /// # Errors
    /// It is no such address.
    pub fn new(amqp_url: &str) -> Result<Self, SettingsError> {
        Ok(Self {
            amqp: AmqpSettings { address: amqp_url.parse()?, tls_ca: None },
            namespace: settings::default_namespace(),
            channels: CHANNELS,
            patience: PATIENCE,
            name: "taskyard-producer".to_owned(),
        })
    }

    /// As the environment says: `TASKYARD_AMQP_URL`, `TASKYARD_TLS_CA`, `TASKYARD_NAMESPACE`; what is
    /// not there is default.
    ///
    /// # Errors
    /// The address is none.
    pub fn from_env() -> Result<Self, SettingsError> {
        let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = value("TASKYARD_AMQP_URL").unwrap_or_else(settings::default_amqp_url);
        let mut settings = Self::new(&url)?;
        settings.amqp.tls_ca = value("TASKYARD_TLS_CA").map(PathBuf::from);
        if let Some(namespace) = value("TASKYARD_NAMESPACE") {
            settings.namespace = namespace;
        }
        Ok(settings)
    }

    /// Certificates (PEM) to trust besides the system's.
    #[must_use]
    pub fn tls_ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.amqp.tls_ca = Some(file.into());
        self
    }

    /// First part of every name on RabbitMQ (default: `taskyard`).
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Publishing channels in the pool at most (default: 4, at least 1). Streams and bulks have one
    /// of their own besides.
    #[must_use]
    pub fn channels(mut self, channels: usize) -> Self {
        self.channels = channels.max(1);
        self
    }

    /// How long a submission is tried, reconnecting where needed (default: 30 s). Too short, and a
    /// broker that elects a queue's leader gives you unknown outcomes; too long, and your callers
    /// wait.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The name of the connection, as `rabbitmqctl list_connections` shows it.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}
