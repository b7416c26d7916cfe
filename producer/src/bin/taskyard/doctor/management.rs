use super::facts::Asked;
use crate::exit::{Failure, chain};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::Path;
use std::time::Duration;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What RabbitMQ's management API shows; each part needs permissions of its own.
#[derive(Clone, Debug)]
pub(crate) struct Management {
    pub(crate) nodes: Asked<Vec<Node>>,
    /// Of the virtual host.
    pub(crate) queues: Asked<Vec<Queue>>,
    /// Of the virtual host.
    pub(crate) bindings: Asked<Vec<Binding>>,
}

/// A node of the cluster.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    #[serde(default, rename = "running")]
    pub(crate) is_running: bool,
    #[serde(default, rename = "mem_alarm")]
    pub(crate) has_memory_alarm: bool,
    #[serde(default, rename = "disk_free_alarm")]
    pub(crate) has_disk_alarm: bool,
    /// Nodes that it has lost.
    #[serde(default)]
    pub(crate) partitions: Vec<String>,
}

/// A queue, and what policies make of it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Queue {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) policy: Option<String>,
    #[serde(default)]
    pub(crate) operator_policy: Option<String>,
    /// What both together say.
    #[serde(default, rename = "effective_policy_definition", deserialize_with = "object")]
    pub(crate) effective: Map<String, Value>,
    #[serde(default, deserialize_with = "object")]
    pub(crate) arguments: Map<String, Value>,
    /// Those that wait for their turn included; counted every few seconds.
    #[serde(default)]
    pub(crate) consumers: Option<u32>,
}

/// A binding.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Binding {
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) routing_key: String,
}

/// Nothing is written `[]` by some versions, or null.
fn object<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Map<String, Value>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Object(map) => map,
        _ => Map::new(),
    })
}

/// Asks the management API.
pub(crate) struct Client {
    http: reqwest::Client,
    base: reqwest::Url,
}

impl Client {
    pub(crate) fn new(url: &str, tls_ca: Option<&Path>) -> Result<Self, Failure> {
        taskyard_common::tls::install_crypto_provider();
        let wrong = |what: String| Failure::usage(format!("--management-url: {what}"));
        let form = "write http://user:password@host:15672";
        let base: reqwest::Url = url.parse().map_err(|error| wrong(format!("{error}; {form}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(wrong(form.to_owned()));
        }
        // Straight there, as the AMQP connection goes, whatever proxies there are for the web.
        let mut http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy();
        if let Some(file) = tls_ca {
            let pem = std::fs::read(file).map_err(|e| wrong(format!("{}: {e}", file.display())))?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem);
            http = http.tls_certs_merge(roots.map_err(|error| wrong(chain(&error)))?);
        }
        let http = http.build().map_err(|error| wrong(chain(&error)))?;
        Ok(Self { http, base })
    }

    /// Asks for everything; an error where nobody answers at all.
    pub(crate) async fn gather(&self, vhost: &str) -> Asked<Management> {
        self.list::<Value>(&["vhosts"]).await?;
        Ok(Management {
            nodes: self.list(&["nodes"]).await,
            queues: self.list(&["queues", vhost]).await,
            bindings: self.list(&["bindings", vhost]).await,
        })
    }

    async fn list<T: DeserializeOwned>(&self, path: &[&str]) -> Asked<Vec<T>> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        // An error names its address; the password in it is nobody's business.
        let failed = |error: reqwest::Error| chain(&error.without_url());
        let answer = self.http.get(url).send().await.map_err(failed)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(failed)?;
        if !status.is_success() {
            return Err(format!("the management API answers {} with {status}", path.join("/")));
        }
        serde_json::from_slice(&body)
            .map_err(|error| format!("the management API's {}: {error}", path.join("/")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_read_as_all_versions_write_them() {
        let text = r#"[{"name":"a","policy":null,"effective_policy_definition":[],"arguments":{}},
                       {"name":"b","policy":"p","operator_policy":"o","type":"quorum",
                        "effective_policy_definition":{"max-length":5},"arguments":{"x-expires":1}}]"#;
        let queues: Vec<Queue> = serde_json::from_str(text).unwrap();
        assert_eq!(queues[0].effective.len(), 0);
        assert_eq!(queues[1].effective["max-length"], 5);
        assert_eq!(queues[1].policy.as_deref(), Some("p"));
    }

    #[test]
    fn a_wrong_address_is_a_usage_error() {
        for url in ["rabbit:15672", "amqp://x", "nonsense"] {
            assert!(Client::new(url, None).is_err(), "{url}");
        }
        assert!(Client::new("http://user:password@host:15672", None).is_ok());
    }
}
