//! What an endpoint's answer means.

use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use std::time::{Duration, SystemTime};
use taskyard_worker::{Reply, TaskError};

/// Largest result in bytes: what one AMQP message can carry.
const RESULT_BYTES_MAX: usize = taskyard_model::PAYLOAD_BYTES_MAX;
/// How much of a refusal's body goes into the error's text, in bytes.
const ERROR_BYTES_MAX: usize = 2 * 1024;

/// Reads the answer: the result, or why there is none.
pub(super) async fn read(response: Response) -> Result<Reply, TaskError> {
    if response.status().is_success() {
        read_result(response).await
    } else {
        Err(read_refusal(response).await)
    }
}

async fn read_result(response: Response) -> Result<Reply, TaskError> {
    let content_type = text_of(response.headers(), &CONTENT_TYPE);
    let (body, is_whole) = read_body(response, RESULT_BYTES_MAX).await?;
    if !is_whole {
        let text = format!("the result has more than {RESULT_BYTES_MAX} bytes");
        return Err(TaskError::permanent(text));
    }
    let reply = Reply::from(body);
    Ok(match content_type {
        Some(content_type) => reply.with_content_type(content_type),
        None => reply,
    })
}

async fn read_refusal(response: Response) -> TaskError {
    let status = response.status();
    let location = text_of(response.headers(), &LOCATION);
    let wait = text_of(response.headers(), &RETRY_AFTER)
        .and_then(|text| retry_after(&text, SystemTime::now()));
    // The status says enough where the body cannot be read.
    let (body, _) = read_body(response, ERROR_BYTES_MAX).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    let mut text = format!("HTTP {status}");
    if let Some(location) = location.filter(|_| status.is_redirection()) {
        text += &format!("; redirects are not followed; it leads to {location}");
    }
    if !body.trim().is_empty() {
        text += &format!(": {}", body.trim());
    }
    match (can_pass(status), wait) {
        (false, _) => TaskError::permanent(text),
        (true, None) => TaskError::retryable(text),
        (true, Some(wait)) => TaskError::retryable(text).with_retry_after(wait),
    }
}

/// Whether the same request may succeed later. A redirect leads elsewhere every time.
fn can_pass(status: StatusCode) -> bool {
    let for_now =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || for_now.contains(&status)
}

/// The body up to a limit, and whether that is all of it.
async fn read_body(
    mut response: Response,
    bytes_max: usize,
) -> Result<(Vec<u8>, bool), reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        let room = bytes_max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

fn text_of(headers: &HeaderMap, name: &reqwest::header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(ToOwned::to_owned)
}

/// Reads Retry-After (RFC 9110, 10.2.3): seconds, or a date.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    // A date that is over asks for nothing.
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let wait = |text| retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait(" 0 "), Some(0));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for text in ["", "soon", "-1", "1.5", "tomorrow, 08:00"] {
            assert_eq!(wait(text), None, "{text}");
        }
    }

    #[test]
    fn statuses_say_whether_to_retry() {
        for (status, can) in [
            (301, false),
            (304, false),
            (400, false),
            (401, false),
            (404, false),
            (408, true),
            (409, false),
            (425, true),
            (429, true),
            (499, false),
            (500, true),
            (503, true),
            (599, true),
        ] {
            assert_eq!(can_pass(StatusCode::from_u16(status).unwrap()), can, "{status}");
        }
    }
}
