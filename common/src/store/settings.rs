use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    TlsCertificates,
};

use super::StoreError;

/// Where Redis is.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// `redis://user:password@host:6379/0`, `rediss://` for TLS, `unix:///path` for a socket.
    pub url: String,
    /// File of certificates (PEM) to trust besides the system's; for `rediss://` only.
    pub tls_ca: Option<PathBuf>,
}

impl RedisSettings {
    /// Redis at this address, with the system's certificates.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), tls_ca: None }
    }

    /// The address with the password as `***`, fit for logs.
    #[must_use]
    pub fn redacted_url(&self) -> String {
        let Ok(mut url) = redis::parse_redis_url(&self.url).ok_or(()) else {
            return "(not a redis url)".to_owned();
        };
        if url.password().is_some() && url.set_password(Some("***")).is_err() {
            return "(not a redis url)".to_owned();
        }
        // A unix socket's url has its password in the query, where nothing else is worth showing.
        if url.query().is_some_and(|query| query.contains("pass")) {
            url.set_query(Some("***"));
        }
        url.into()
    }

    /// The client for it, with a TLS provider in place.
    ///
    /// # Errors
    /// `Settings`: the address or the file of certificates is no good.
    pub(super) fn client(&self) -> Result<Client, StoreError> {
        crate::tls::install_crypto_provider();
        let bad = |what: String| StoreError::Settings { what };
        let info = self.url.as_str().into_connection_info();
        let form = "write redis://[user:password@]host[:port][/database], or rediss:// for TLS";
        let info = tuned(info.map_err(|error| bad(format!("redis url: {error}; {form}")))?);
        let is_tls = matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. });
        let client = match &self.tls_ca {
            Some(_) if !is_tls => {
                return Err(bad("a redis tls-ca needs a rediss:// url".to_owned()));
            }
            Some(path) => {
                let mut root_cert = std::fs::read(path)
                    .map_err(|error| bad(format!("redis tls-ca {}: {error}", path.display())))?;
                root_cert.extend(crate::tls::system_certificates().into_bytes());
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(root_cert) };
                Client::build_with_tls(info, certificates)
            }
            None => Client::open(info),
        };
        client.map_err(|error| bad(format!("redis url: {error}")))
    }
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("url", &self.redacted_url())
            .field("tls_ca", &self.tls_ca)
            .finish()
    }
}

/// A host that is gone is noticed after this long without an answer of its kernel; the client
/// library's own default is never, with Nagle's delay on top.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The address with our manners: answers in the older protocol, whatever the url says, because it is
/// the one whose shapes we read.
fn tuned(info: ConnectionInfo) -> ConnectionInfo {
    let manners = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
    let keepalive = TcpKeepalive::new().with_time(SILENCE_MAX / 2).with_interval(SILENCE_MAX / 5);
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(SILENCE_MAX);
    info.set_tcp_settings(tcp).set_redis_settings(manners)
}

/// How long to wait for a connection to stand, handshakes included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls that may wait in line for the socket; the library's 50 would make callers of a busy
/// dispatcher wait for each other.
const CALLS_IN_LINE_MAX: usize = 1024;
/// Bytes collected before a write to the socket: the library's 8 KiB is less than one pipeline.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

pub(super) fn connection_config(response_timeout: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response_timeout))
        .set_pipeline_buffer_size(CALLS_IN_LINE_MAX)
        .set_write_backpressure_boundary(WRITE_BUFFER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_printed() {
        for url in [
            "redis://user:s3cret@host:6379/0",
            "rediss://:s3cret@host",
            "redis+unix:///run/redis.sock?pass=s3cret",
            "s3cret",
        ] {
            let printed = format!("{:?}", RedisSettings::new(url));
            assert!(!printed.contains("s3cret"), "{printed}");
        }
        let settings = RedisSettings::new("redis://user:s3cret@host:6379/0");
        assert_eq!(settings.redacted_url(), "redis://user:***@host:6379/0");
    }

    #[test]
    fn wrong_settings_say_what_is_wrong() {
        let error = |url: &str, tls_ca: Option<&str>| {
            let tls_ca = tls_ca.map(PathBuf::from);
            let settings = RedisSettings { url: url.to_owned(), tls_ca };
            settings.client().unwrap_err().to_string()
        };
        assert!(error("http://host", None).contains("url"));
        assert!(error("redis://host/x", None).contains("database"));
        assert!(error("redis://host", Some("ca.pem")).contains("rediss://"));
        assert!(error("rediss://host", Some("/nowhere/ca.pem")).contains("/nowhere/ca.pem"));
    }
}
