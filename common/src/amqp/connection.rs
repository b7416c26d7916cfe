use super::{Address, AmqpError, AmqpSettings};
use futures_util::StreamExt;
use lapin::options::ConfirmSelectOptions;
use lapin::tcp::OwnedTLSConfig;
use lapin::{ConnectionProperties, Event};
use rand::seq::SliceRandom;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Longest wait for one host, name look-up and handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the answer to a declare, a bind, a consume. A quorum queue that elects its
/// leader answers within seconds.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// One connection, without recovery: when it ends, so does everything that hangs on it.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<lapin::Connection>,
    blocked: watch::Receiver<bool>,
    lost: watch::Receiver<bool>,
    garbled: Garbled,
}

/// Whether a connection ended because a message on it cannot be read; outlives the connection.
#[derive(Clone, Debug, Default)]
pub struct Garbled(Arc<AtomicBool>);

impl Garbled {
    /// Whether it did.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Connection {
    /// Connects to the first host that answers, in random order.
    ///
    /// `name` is shown by `rabbitmqctl list_connections`; `heartbeat_s` bounds how long a silent
    /// peer is believed alive (about twice as long).
    ///
    /// # Errors
    /// [`AmqpError::Refused`] where the credentials or the vhost are wrong, else
    /// [`AmqpError::Unreachable`].
    pub async fn open(
        settings: &AmqpSettings,
        name: &str,
        heartbeat_s: u16,
    ) -> Result<Self, AmqpError> {
        crate::tls::install_crypto_provider();
        let tls = tls_config(settings)?;
        let mut uris = settings.address.uris(heartbeat_s);
        uris.shuffle(&mut rand::rng());
        let mut last: Box<dyn std::error::Error + Send + Sync> = "there is no host".into();
        for uri in uris {
            match open_one(&uri, name, tls.clone()).await {
                Ok(connection) => return Ok(connection),
                Err(OpenError::Refused(why)) => return Err(AmqpError::Refused(why)),
                Err(OpenError::Other(error)) => last = error,
            }
        }
        Err(AmqpError::Unreachable { hosts: hosts(&settings.address), last })
    }

    /// A new channel.
    ///
    /// # Errors
    /// [`AmqpError::Lost`] or [`AmqpError::Timeout`]: open a new connection.
    pub async fn channel(&self) -> Result<lapin::Channel, AmqpError> {
        within("channel.open", self.inner.create_channel()).await
    }

    /// A new channel with publisher confirms on.
    ///
    /// # Errors
    /// As [`Connection::channel`].
    pub async fn confirming_channel(&self) -> Result<lapin::Channel, AmqpError> {
        let channel = self.channel().await?;
        within("confirm.select", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    /// The user that it belongs to.
    #[must_use]
    pub fn user(&self) -> String {
        self.inner.status().username()
    }

    /// The virtual host that it is in.
    #[must_use]
    pub fn vhost(&self) -> String {
        self.inner.status().vhost().to_string()
    }

    /// Whether the broker has blocked this connection (memory or disk alarm).
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        *self.blocked.borrow()
    }

    /// Follows whether the broker has blocked this connection.
    #[must_use]
    pub fn blocked(&self) -> watch::Receiver<bool> {
        self.blocked.clone()
    }

    /// Whether it still stands, as far as this side knows.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inner.status().connected() && !*self.lost.borrow()
    }

    /// Follows whether a message that cannot be read ends this connection.
    #[must_use]
    pub fn garbled(&self) -> Garbled {
        self.garbled.clone()
    }

    /// Resolves when the connection is lost.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        // An error means that the watching task is gone, and with it the connection.
        let _ = lost.wait_for(|lost| *lost).await;
    }

    /// Says goodbye; what is unsettled goes back to its queues.
    pub async fn close(&self) {
        // The other side may be gone already: nothing more to do then.
        let _ = tokio::time::timeout(CONNECT_TIMEOUT, self.inner.close(200, "bye".into())).await;
    }
}

fn hosts(address: &Address) -> String {
    address.hosts()
}

impl AmqpSettings {
    /// Whether everything that they name is there, without connecting.
    ///
    /// # Errors
    /// `Refused`: the file of certificates cannot be read.
    pub fn check(&self) -> Result<(), AmqpError> {
        tls_config(self).map(drop)
    }
}

fn tls_config(settings: &AmqpSettings) -> Result<OwnedTLSConfig, AmqpError> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path).map_err(|error| {
            AmqpError::Refused(format!(
                "the certificates {} cannot be read: {error}",
                path.display()
            ))
        })
    };
    let cert_chain = settings.tls_ca.as_ref().map(read).transpose()?;
    Ok(OwnedTLSConfig { identity: None, cert_chain })
}

enum OpenError {
    Refused(String),
    Other(Box<dyn std::error::Error + Send + Sync>),
}

async fn open_one(uri: &str, name: &str, tls: OwnedTLSConfig) -> Result<Connection, OpenError> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime =
        lapin::runtime::default_runtime().map_err(|error| OpenError::Other(error.into()))?;
    let connect = lapin::Connection::connect_with_config(uri, properties, tls, runtime);
    let inner = match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
        Ok(Ok(inner)) => inner,
        Ok(Err(error)) => {
            let text = error.to_string();
            let is_refused =
                ["ACCESS_REFUSED", "ACCESS-REFUSED", "NOT_ALLOWED", "NOT-ALLOWED", "InvalidLogin"]
                    .iter()
                    .any(|word| text.contains(word));
            return Err(match is_refused {
                true => OpenError::Refused(text),
                false => OpenError::Other(error.into()),
            });
        }
        Err(_) => return Err(OpenError::Other("no answer within 5 s".into())),
    };
    let (blocked_tx, blocked) = watch::channel(false);
    let (lost_tx, lost) = watch::channel(false);
    let mut events = inner.events_listener();
    let garbled = Garbled::default();
    let unreadable = garbled.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Event::ConnectionBlocked(_) => drop(blocked_tx.send_replace(true)),
                Event::ConnectionUnblocked => drop(blocked_tx.send_replace(false)),
                Event::Error(error) => {
                    if matches!(error.kind(), lapin::ErrorKind::ParsingError(_)) {
                        unreadable.0.store(true, Ordering::Relaxed);
                    }
                    lost_tx.send_replace(true);
                }
                _ => {}
            }
        }
        lost_tx.send_replace(true);
    });
    Ok(Connection { inner: Arc::new(inner), blocked, lost, garbled })
}

/// Waits for the broker's answer to `what`, for at most [`ANSWER_TIMEOUT`].
pub(super) async fn within<T>(
    what: &str,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, AmqpError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|error| AmqpError::from_lapin(what, error)),
        Err(_) => Err(AmqpError::Timeout(ANSWER_TIMEOUT)),
    }
}

/// How long to wait before the `tries`-th new try (from 0): full jitter between 100 ms and
/// `100 ms * 2^tries`, at most 10 s, so that a broker that comes back is not met by all at once.
#[must_use]
pub fn jittered_wait(tries: u32) -> Duration {
    let ceiling_ms = (100u64 << tries.min(10)).clamp(200, 10_000);
    Duration::from_millis(rand::random_range(100..=ceiling_ms))
}
