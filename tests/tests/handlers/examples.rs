//! The examples of the documents.

use taskyard_tests::{EVENTUALLY, Submission, TaskHash, Yard};

use crate::{counts, endpoint::Endpoint, examples};

/// A yard with the examples, and the endpoint that one of them needs.
async fn yard() -> anyhow::Result<(Yard, Endpoint)> {
    let endpoint = Endpoint::start(&examples().join("endpoint.py"), &[]).await?;
    let handlers = std::fs::read_to_string(examples().join("handlers.toml"))?
        .replace("127.0.0.1:8099", &format!("127.0.0.1:{}", endpoint.port));
    let yard = Yard::builder()
        .worker(|w| w.id("w1").slots(4).handlers(&handlers).program(|p| p.dir(&examples())))
        .start()
        .await?;
    Ok((yard, endpoint))
}

async fn succeeded(yard: &Yard, kind: &str, payload: impl AsRef<[u8]>) -> anyhow::Result<TaskHash> {
    let id = yard.submit(&Submission::of(kind, payload)).await?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await
}

async fn failed(yard: &Yard, kind: &str, payload: impl AsRef<[u8]>) -> anyhow::Result<String> {
    let id = yard.submit(&Submission::of(kind, payload)).await?;
    let task = yard.wait_state(&id, "failed", EVENTUALLY).await?;
    assert_eq!(counts(&task), (1, 1), "{task:?}");
    Ok(task.text("error"))
}

#[tokio::test]
async fn programs_in_shell_python_and_node_run() -> anyhow::Result<()> {
    let (yard, _endpoint) = yard().await?;
    let task = succeeded(&yard, "sh.checksum", "x").await?;
    let sum = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\n";
    assert_eq!(task.text("result"), sum);
    assert_eq!(failed(&yard, "sh.checksum", "").await?, "the payload is empty");

    let task = succeeded(&yard, "py.words", "a b\na").await?;
    assert_eq!(task.text("result"), r#"{"a": 2, "b": 1}"#);
    assert!(failed(&yard, "py.words", b"\xff").await?.starts_with("no text: "));

    let task = succeeded(&yard, "js.title", "die größe").await?;
    assert_eq!(task.text("result"), "Die Größe");
    assert_eq!(failed(&yard, "js.title", " ").await?, "there is nothing to make a title of");
    yard.shut_down().await
}

#[tokio::test]
async fn programs_that_stay_in_python_and_node_run() -> anyhow::Result<()> {
    let (yard, _endpoint) = yard().await?;
    let task = succeeded(&yard, "py.resident.upper", "a\nä").await?;
    assert_eq!((task.text("result"), task.text("result_type")), ("A\nÄ".into(), String::new()));
    let task = succeeded(&yard, "py.resident.reverse", b"\xff\x00a").await?;
    assert_eq!(task.bytes("result"), b"a\x00\xff");
    let pid = succeeded(&yard, "py.resident.pid", "").await?;
    assert_eq!(pid.text("result_type"), "application/json");
    assert_eq!(succeeded(&yard, "py.resident.pid", "").await?.text("result"), pid.text("result"));
    let error = failed(&yard, "py.resident.other", "").await?;
    assert_eq!(error, "no such kind: py.resident.other");

    let task = succeeded(&yard, "js.resident.sum", "[1, 2, 39]").await?;
    assert_eq!(task.text("result"), "42");
    assert!(failed(&yard, "js.resident.sum", "[1").await?.starts_with("SyntaxError"));
    let pid = succeeded(&yard, "js.resident.pid", "").await?.text("result");
    assert_eq!(succeeded(&yard, "js.resident.pid", "").await?.text("result"), pid);
    yard.shut_down().await
}

#[tokio::test]
async fn an_endpoint_in_python_runs() -> anyhow::Result<()> {
    let (yard, _endpoint) = yard().await?;
    let task = succeeded(&yard, "http.words", "one two three").await?;
    let result: serde_json::Value = serde_json::from_slice(task.bytes("result"))?;
    assert_eq!(result, serde_json::json!({"words": 3, "task": task.text("id")}));
    assert_eq!(task.text("result_type"), "application/json");
    let error = failed(&yard, "http.words", b"\xff").await?;
    assert!(error.starts_with("HTTP 422 Unprocessable Entity: no text: "), "{error}");
    yard.shut_down().await
}

#[tokio::test]
async fn a_busy_endpoint_is_left_alone_as_long_as_it_says() -> anyhow::Result<()> {
    let (yard, _endpoint) = yard().await?;
    let busy = Submission::of("http.words", "busy").text("x-task-backoff", "fixed:10");
    let id = yard.submit(&busy).await?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert_eq!(counts(&task), (2, 1));
    let waited = task.number("dispatched_at") - task.number("submitted_at");
    assert!(waited >= 1_000, "{waited} ms: {task:?}");
    yard.shut_down().await
}
