//! Settings: a flag, an environment variable, a place in the configuration file, in this order.
//!
//! A program derives one struct of optional fields with clap (flags and environment) and serde
//! (file); [`layered`] lays the first over the second and reads the result as the struct of final
//! values, whose serde defaults are the defaults.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("the configuration file {0} cannot be read")]
    File(PathBuf, #[source] std::io::Error),
    /// The file is not TOML.
    #[error("the configuration file {0} is not TOML")]
    Toml(PathBuf, #[source] toml::de::Error),
    /// A setting is unknown or has a wrong value.
    #[error("a setting is wrong: {0}")]
    Value(String),
}

/// The settings that every program has.
#[derive(Clone, Debug, Default, clap::Args, serde::Serialize)]
pub struct CommonFlags {
    /// Where RabbitMQ is; several hosts separated by commas; amqps:// for TLS
    /// [default: amqp://guest:guest@127.0.0.1:5672/%2f]
    #[allow(rustdoc::broken_intra_doc_links, reason = "an address in a help text, not a link")]
    #[arg(long, env = "TASKYARD_AMQP_URL", value_name = "URL", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amqp_url: Option<String>,
    /// Where Redis is; rediss:// for TLS [default: redis://127.0.0.1:6379/0]
    #[arg(long, env = "TASKYARD_REDIS_URL", value_name = "URL", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_url: Option<String>,
    /// Certificates (PEM) to trust besides the system's
    #[arg(long, env = "TASKYARD_TLS_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    /// First part of every name on RabbitMQ and Redis [default: taskyard]
    #[arg(long, env = "TASKYARD_NAMESPACE", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Which pool [default: default]
    #[arg(long, env = "TASKYARD_POOL", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Configuration file (TOML); flags and environment go before it
    #[arg(long, env = "TASKYARD_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// Address of RabbitMQ when nobody says otherwise.
#[must_use]
pub fn default_amqp_url() -> String {
    "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned()
}

/// Address of Redis when nobody says otherwise.
#[must_use]
pub fn default_redis_url() -> String {
    "redis://127.0.0.1:6379/0".to_owned()
}

/// The namespace when nobody says otherwise.
#[must_use]
pub fn default_namespace() -> String {
    "taskyard".to_owned()
}

/// The pool when nobody says otherwise.
#[must_use]
pub fn default_pool() -> String {
    "default".to_owned()
}

/// Lays flags and environment over the file and reads the result.
///
/// # Errors
/// The file cannot be read, or a setting is unknown or wrong.
pub fn layered<T: DeserializeOwned>(
    flags: &impl Serialize,
    file: Option<&Path>,
) -> Result<T, SettingsError> {
    let mut merged = match file {
        None => Value::Object(serde_json::Map::new()),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| SettingsError::File(path.to_owned(), error))?;
            toml::from_str(&text).map_err(|error| SettingsError::Toml(path.to_owned(), error))?
        }
    };
    let wrong = |error: serde_json::Error| SettingsError::Value(error.to_string());
    overlay(&mut merged, serde_json::to_value(flags).map_err(wrong)?);
    serde_json::from_value(merged).map_err(wrong)
}

/// Puts every value that is set over what is there.
fn overlay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over.into_iter().filter(|(_, value)| !value.is_null()) {
                overlay(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::io::Write;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Final {
        #[serde(default = "default_namespace")]
        namespace: String,
        #[serde(default)]
        slots: u32,
    }

    #[derive(Serialize)]
    struct Flags {
        namespace: Option<String>,
        slots: Option<u32>,
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_defaults() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "slots = 3\nnamespace = \"file\"").unwrap();
        let flags = Flags { namespace: Some("flag".into()), slots: None };
        let merged: Final = layered(&flags, Some(file.path())).unwrap();
        assert_eq!(merged, Final { namespace: "flag".into(), slots: 3 });
        let none = Flags { namespace: None, slots: None };
        let merged: Final = layered(&none, None).unwrap();
        assert_eq!(merged, Final { namespace: "taskyard".into(), slots: 0 });
    }

    #[test]
    fn an_unknown_setting_is_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "slotz = 3").unwrap();
        let flags = Flags { namespace: None, slots: None };
        let error = layered::<Final>(&flags, Some(file.path())).unwrap_err();
        assert!(error.to_string().contains("slotz"), "{error}");
    }
}
