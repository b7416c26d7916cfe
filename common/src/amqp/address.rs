use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where the broker is: one or several hosts with the same user and vhost.
///
/// Written `amqp://user:password@host1:5672,host2:5672/vhost` (`amqps://` for TLS). Shows without
/// the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    scheme: String,
    credentials: Option<String>,
    hosts: Vec<String>,
    rest: String,
}

/// A text that is no broker address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an AMQP address looks like amqp://user:password@host:5672/vhost; {0}")]
pub struct AddressError(String);

impl Address {
    /// One URI for each host, with the given heartbeat in seconds unless the address names one.
    pub(super) fn uris(&self, heartbeat_s: u16) -> Vec<String> {
        let credentials = self.credentials.as_ref().map(|c| format!("{c}@")).unwrap_or_default();
        let heartbeat = match (self.rest.contains("heartbeat="), self.rest.contains('?')) {
            (true, _) => String::new(),
            (false, true) => format!("&heartbeat={heartbeat_s}"),
            (false, false) => format!("?heartbeat={heartbeat_s}"),
        };
        let uri = |host: &String| {
            format!("{}://{credentials}{host}{}{heartbeat}", self.scheme, self.rest)
        };
        self.hosts.iter().map(uri).collect()
    }

    /// The virtual host.
    #[must_use]
    pub fn vhost(&self) -> String {
        let uri = self.uris(0).first().and_then(|uri| uri.parse::<lapin::uri::AMQPUri>().ok());
        uri.map(|uri| uri.vhost).expect("every address has a host and was parsed when it was made")
    }

    /// The hosts, for messages.
    #[must_use]
    pub fn hosts(&self) -> String {
        self.hosts.join(", ")
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = |why: &str| AddressError(why.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(|| error("there is no ://"))?;
        if scheme != "amqp" && scheme != "amqps" {
            return Err(error(&format!("{scheme:?} is neither amqp nor amqps")));
        }
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials.to_owned()), hosts),
            None => (None, authority),
        };
        let hosts: Vec<_> = hosts.split(',').map(|host| host.trim().to_owned()).collect();
        if hosts.iter().any(String::is_empty) {
            return Err(error("a host is missing"));
        }
        let address = Self { scheme: scheme.to_owned(), credentials, hosts, rest: path.to_owned() };
        for uri in address.uris(10) {
            uri.parse::<lapin::uri::AMQPUri>().map_err(AddressError)?;
        }
        Ok(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = match &self.credentials {
            Some(credentials) => {
                format!("{}:***@", credentials.split(':').next().unwrap_or_default())
            }
            None => String::new(),
        };
        write!(f, "{}://{credentials}{}{}", self.scheme, self.hosts.join(","), self.rest)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How to reach the broker.
#[derive(Clone, Debug)]
pub struct AmqpSettings {
    /// Where it is.
    pub address: Address,
    /// Certificates in PEM format to trust besides the system's.
    pub tls_ca: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_share_the_rest() {
        let address: Address = "amqp://me:secret@a:1,b:2/%2f".parse().unwrap();
        assert_eq!(
            address.uris(5),
            ["amqp://me:secret@a:1/%2f?heartbeat=5", "amqp://me:secret@b:2/%2f?heartbeat=5"]
        );
        assert_eq!(address.to_string(), "amqp://me:***@a:1,b:2/%2f");
        assert_eq!(address.vhost(), "/");
    }

    #[test]
    fn a_wrong_address_says_what_it_should_be() {
        for text in ["", "localhost", "http://x", "amqp://", "amqp://a,,b", "amqp://a:port"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
