//! Runs a task by a request to an HTTP endpoint: the payload is posted, the answer's body is the result.

mod answer;
#[cfg(test)]
mod tests;

use crate::attempt::Attempt;
use crate::program::NEVER;
use anyhow::Context as _;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    InvalidHeaderValue,
};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Url};
use std::path::Path;
use std::time::Duration;
use taskyard_worker::{Reply, TaskError};

/// How long a connection may take to be made, TLS included: an endpoint that is not there should not
/// cost a slot for minutes.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

const TASK_ID: HeaderName = HeaderName::from_static("x-task-id");
const TASK_KIND: HeaderName = HeaderName::from_static("x-task-kind");
const TASK_ATTEMPT: HeaderName = HeaderName::from_static("x-task-attempt");
const TASK_FAILURES: HeaderName = HeaderName::from_static("x-task-failures");
const TASK_WORKER: HeaderName = HeaderName::from_static("x-task-worker");
const TASK_DEADLINE: HeaderName = HeaderName::from_static("x-task-deadline");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Headers that a handlers file cannot fix, since the worker or its connection sets them.
pub(crate) const OWN_HEADERS: [&str; 11] = [
    "x-task-id",
    "x-task-kind",
    "x-task-attempt",
    "x-task-failures",
    "x-task-worker",
    "x-task-deadline",
    "traceparent",
    "idempotency-key",
    "connection",
    "content-length",
    "transfer-encoding",
];

/// An endpoint that runs tasks.
pub(crate) struct Http {
    pub(crate) client: Client,
    pub(crate) url: Url,
    /// Sent with each request.
    pub(crate) headers: HeaderMap,
    /// How long a request may take, besides the task's own limit.
    pub(crate) timeout: Option<Duration>,
}

/// The client of all endpoints: their connections are kept and used again.
///
/// Redirects are not followed: for most of them a POST becomes a GET without the payload, and the fixed
/// headers, secrets among them, would go where nobody has sent them.
pub(crate) fn client(tls_ca: Option<&Path>) -> anyhow::Result<Client> {
    Ok(client_builder(tls_ca)?.build()?)
}

fn client_builder(tls_ca: Option<&Path>) -> anyhow::Result<ClientBuilder> {
    taskyard_common::tls::install_crypto_provider();
    let mut trusted = taskyard_common::tls::system_certificates();
    if let Some(file) = tls_ca {
        trusted += &std::fs::read_to_string(file).context("tls_ca")?;
    }
    Ok(Client::builder()
        .user_agent(concat!("taskyard-worker/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .tls_certs_only(Certificate::from_pem_bundle(trusted.as_bytes())?))
}

impl Http {
    /// Posts the payload and reads the answer.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection, by which the endpoint may learn that nobody waits.
    pub(crate) async fn run(&self, attempt: Attempt) -> Result<Reply, TaskError> {
        tokio::select! {
            result = self.exchange(&attempt) => result,
            () = attempt.cancelled.cancelled() => {
                Err(TaskError::retryable("asked to end before the endpoint had answered"))
            }
            () = tokio::time::sleep(self.timeout.unwrap_or(NEVER)) => {
                let ms = self.timeout.unwrap_or_default().as_millis();
                Err(TaskError::timed_out(format!("no answer within {ms} ms")))
            }
        }
    }

    async fn exchange(&self, attempt: &Attempt) -> Result<Reply, TaskError> {
        let headers = self.headers_of(attempt)?;
        let payload = attempt.payload.clone();
        let request = self.client.post(self.url.clone()).headers(headers).body(payload);
        // The address is in the handlers file, and may have a secret in its query.
        let response = request.send().await.map_err(reqwest::Error::without_url)?;
        answer::read(response).await
    }

    fn headers_of(&self, attempt: &Attempt) -> Result<HeaderMap, InvalidHeaderValue> {
        let mut headers = self.headers.clone();
        // Names of kinds may be of any language.
        headers.insert(TASK_KIND, HeaderValue::from_bytes(attempt.kind.as_bytes())?);
        headers.insert(TASK_ID, HeaderValue::try_from(&attempt.id)?);
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::try_from(&attempt.id)?);
        // Left alone, the client says nothing of an empty body, which some endpoints refuse (411).
        headers.insert(CONTENT_LENGTH, attempt.payload.len().into());
        headers.insert(TASK_ATTEMPT, attempt.number.into());
        headers.insert(TASK_FAILURES, attempt.failures.into());
        headers.insert(TASK_WORKER, HeaderValue::try_from(&attempt.worker)?);
        if let Some(ms) = attempt.deadline_within(self.timeout) {
            headers.insert(TASK_DEADLINE, ms.into());
        }
        let passed_on = [
            (CONTENT_TYPE, &attempt.content_type),
            (CONTENT_ENCODING, &attempt.content_encoding),
            (TRACEPARENT, &attempt.traceparent),
        ];
        for (name, value) in passed_on {
            // The submitter may have written anything; what no header can say is no reason to fail.
            let value = value.as_deref().and_then(|value| HeaderValue::try_from(value).ok());
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
        Ok(headers)
    }
}
