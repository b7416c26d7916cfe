use super::{AmqpError, AmqpSettings, Headers, Value, rescue};

/// What a broker says of itself to whoever connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// What it is: `RabbitMQ`.
    pub product: String,
    /// `3.10.8`.
    pub version: String,
    /// The cluster's name, by default that of its first node.
    pub cluster: String,
}

impl Server {
    /// Connects, listens, and leaves.
    ///
    /// On a plain connection of its own, because lapin keeps what it is told there to itself.
    ///
    /// # Errors
    /// [`AmqpError::Unreachable`].
    pub async fn ask(settings: &AmqpSettings) -> Result<Self, AmqpError> {
        crate::tls::install_crypto_provider();
        let link = rescue::open(settings).await.map_err(|error| AmqpError::Unreachable {
            hosts: settings.address.hosts(),
            last: error.into(),
        })?;
        let server = Self::read(link.server());
        // What was to be known is known.
        let _ = link.close().await;
        Ok(server)
    }

    fn read(properties: &Headers) -> Self {
        let text = |name: &str| match properties.inner().get(name) {
            Some(Value::LongString(text)) => text.to_string(),
            _ => String::new(),
        };
        Self { product: text("product"), version: text("version"), cluster: text("cluster_name") }
    }
}
