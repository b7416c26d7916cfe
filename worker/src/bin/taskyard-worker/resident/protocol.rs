//! The lines between the worker and a resident program.

use crate::attempt::Attempt;
use crate::said::{Said, Words};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;
use taskyard_worker::{Bytes, Reply, TaskError};

/// A task, as a program is told of it.
#[derive(Serialize)]
struct Request<'a> {
    id: &'a str,
    kind: &'a str,
    attempt: u32,
    failures: u32,
    worker: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    #[serde(flatten)]
    payload: Payload<'a>,
}

/// Text as it is, all else in base64.
#[derive(Serialize)]
enum Payload<'a> {
    #[serde(rename = "payload")]
    Text(&'a str),
    #[serde(rename = "payload_base64")]
    Bytes(String),
}

/// The line that gives a program its task.
pub(super) fn write(attempt: &Attempt, timeout: Option<Duration>) -> Vec<u8> {
    let payload = match std::str::from_utf8(&attempt.payload) {
        Ok(text) => Payload::Text(text),
        Err(_) => Payload::Bytes(STANDARD.encode(&attempt.payload)),
    };
    let request = Request {
        id: &attempt.id,
        kind: &attempt.kind,
        attempt: attempt.number,
        failures: attempt.failures,
        worker: &attempt.worker,
        content_type: attempt.content_type.as_deref(),
        content_encoding: attempt.content_encoding.as_deref(),
        deadline_ms: attempt.deadline_within(timeout),
        traceparent: attempt.traceparent.as_deref(),
        payload,
    };
    let mut line = serde_json::to_vec(&request).expect("texts and numbers can be written");
    line.push(b'\n');
    line
}

/// A line of a program. Names that are unknown are left for later versions.
#[derive(Deserialize)]
struct Line {
    id: String,
    #[serde(default)]
    ok: bool,
    result: Option<Box<RawValue>>,
    result_base64: Option<String>,
    result_type: Option<String>,
    error: Option<String>,
    retryable: Option<bool>,
    retry_after_ms: Option<u64>,
    #[serde(flatten)]
    words: Words,
}

/// What a program's line says of its task.
#[derive(Debug)]
pub(super) enum Answer {
    /// Something while it runs.
    Said(Said),
    /// Nothing that is known; it does not end the task.
    Unknown,
    /// The end.
    Done(Result<Reply, TaskError>),
}

/// Reads a line about the task `id`.
///
/// # Errors
/// Says why it is none.
pub(super) fn read(line: &[u8], id: &str) -> Result<Answer, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if line.id != id {
        return Err(format!("it is about {:?}, and the task is {id:?}", line.id));
    }
    match (line.ok, &line.error) {
        (true, Some(_)) => Err("it says both ok and error".to_owned()),
        (true, None) => result(line).map(|reply| Answer::Done(Ok(reply))),
        (false, Some(_)) => Ok(Answer::Done(Err(failure(line)))),
        (false, None) => Ok(line.words.said().map_or(Answer::Unknown, Answer::Said)),
    }
}

/// A text is the result itself, any other value is a result in JSON.
fn result(line: Line) -> Result<Reply, String> {
    let reply = match (line.result, line.result_base64) {
        (Some(_), Some(_)) => return Err("it has both result and result_base64".to_owned()),
        (None, None) => Reply::default(),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text).map_err(|error| format!("result_base64: {error}"))?;
            Reply::from(bytes)
        }
        (Some(value), None) => match serde_json::from_str::<String>(value.get()) {
            Ok(text) => Reply::from(text),
            Err(_) => {
                let text = Bytes::copy_from_slice(value.get().as_bytes());
                Reply::from(text).with_content_type("application/json")
            }
        },
    };
    Ok(match line.result_type {
        Some(content_type) => reply.with_content_type(content_type),
        None => reply,
    })
}

fn failure(line: Line) -> TaskError {
    let text = line.error.unwrap_or_default();
    let error = match line.retryable {
        Some(false) => TaskError::permanent(text),
        _ => TaskError::retryable(text),
    };
    match line.retry_after_ms {
        Some(ms) => error.with_retry_after(Duration::from_millis(ms)),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn written(payload: &[u8]) -> Value {
        let line = write(&Attempt::of(payload.to_vec()), None);
        assert_eq!(line.last(), Some(&b'\n'));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn a_task_is_one_line() {
        let all = json!({
            "id": "t1", "kind": "test.kind", "attempt": 3, "failures": 2, "worker": "w1", "payload": "a\nä"
        });
        assert_eq!(written("a\nä".as_bytes()), all);
        assert_eq!(written(b"\xff")["payload_base64"], "/w==");
        assert_eq!(written(b"\xff").get("payload"), None);
    }

    fn done(line: Value) -> Result<Reply, TaskError> {
        match read(line.to_string().as_bytes(), "t1") {
            Ok(Answer::Done(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn results_are_texts_values_or_bytes() {
        let ok = |more: Value| {
            let mut line = json!({"id": "t1", "ok": true});
            line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            done(line).unwrap()
        };
        let json = "application/json";
        assert_eq!(ok(json!({})), Reply::default());
        assert_eq!(ok(json!({"result": "a\u{e4}"})), Reply::from("a\u{e4}"));
        assert_eq!(
            ok(json!({"result": {"n":1}})),
            Reply::from("{\"n\":1}").with_content_type(json)
        );
        assert_eq!(ok(json!({"result_base64": "/w=="})), Reply::from(vec![255]));
        let typed = ok(json!({"result": "a,b", "result_type": "text/csv"}));
        assert_eq!(typed, Reply::from("a,b").with_content_type("text/csv"));
    }

    #[test]
    fn errors_say_whether_and_when_to_retry() {
        let error = done(json!({"id": "t1", "error": "no"})).unwrap_err();
        assert_eq!((error.text(), error.is_permanent()), ("no", false));
        let error = done(json!({"id": "t1", "error": "", "retryable": false})).unwrap_err();
        assert!(error.is_permanent());
        let error = done(json!({"id": "t1", "error": "", "retry_after_ms": 50})).unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_millis(50)));
    }

    #[test]
    fn what_is_said_while_it_runs_ends_nothing() {
        let said = |line: Value| read(line.to_string().as_bytes(), "t1").unwrap();
        assert!(matches!(
            said(json!({"id": "t1", "progress": 40, "note": "half"})),
            Answer::Said(Said::Progress { percent: 40, .. })
        ));
        let Answer::Said(Said::Log(line)) = said(json!({"id": "t1", "log": "x"})) else { panic!() };
        assert_eq!(line, "x");
        assert!(matches!(said(json!({"id": "t1", "mood": "good"})), Answer::Unknown));
    }

    #[test]
    fn a_broken_answer_says_what_is_broken() {
        for (line, why) in [
            ("hello", "expected value"),
            ("{}", "id"),
            (r#"{"id":"t2","ok":true}"#, "t2"),
            (r#"{"id":"t1","ok":true,"error":"x"}"#, "both"),
            (r#"{"id":"t1","ok":true,"result":"a","result_base64":""}"#, "both"),
            (r#"{"id":"t1","ok":true,"result_base64":"?"}"#, "result_base64"),
            (r#"{"id":"t1","error":7}"#, "string"),
        ] {
            let error = read(line.as_bytes(), "t1").unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
