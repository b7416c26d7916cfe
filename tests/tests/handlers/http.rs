//! HTTP endpoints, besides the example.

use anyhow::{Context, ensure};
use taskyard_tests::{EVENTUALLY, Servers, Submission, Yard, wait_until};
use tempfile::{NamedTempFile, TempPath};

use crate::{counts, endpoint::Endpoint};

/// Tells what it was asked; hangs where that is wanted. With a certificate and a key it speaks TLS.
const SCRIPT: &str = r#"
import http.server, json, ssl, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        payload = self.rfile.read(int(self.headers["Content-Length"]))
        if payload == b"hang":
            print("hanging", flush=True)
            # Nothing more is sent: a read ends when the other side closes.
            while self.rfile.read(1):
                pass
            print("left alone", flush=True)
            self.close_connection = True
            return
        self.send_response(302 if payload == b"elsewhere" else 200)
        self.send_header("Location", "http://localhost/elsewhere")
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(f"listening on port {server.server_port}", flush=True)
server.serve_forever()
"#;

/// The script as a file, gone with what is returned.
fn script() -> anyhow::Result<TempPath> {
    let file = NamedTempFile::new()?.into_temp_path();
    std::fs::write(&file, SCRIPT)?;
    Ok(file)
}

/// A yard whose worker posts tasks of the kind `x` to that endpoint.
async fn yard() -> anyhow::Result<(Yard, Endpoint)> {
    let endpoint = Endpoint::start(&script()?, &[]).await?;
    let handlers = format!(
        "[[handler]]\nkind = \"x\"\nhttp = \"http://127.0.0.1:{}/\"\n\
         headers = {{ X-Token = {{ env = \"TOKEN\" }} }}\n",
        endpoint.port
    );
    let yard = Yard::builder()
        .worker(|w| w.id("w1").handlers(&handlers).program(|p| p.env("TOKEN", "secret")))
        .start()
        .await?;
    Ok((yard, endpoint))
}

#[tokio::test]
async fn the_endpoint_is_told_whose_task_it_is() -> anyhow::Result<()> {
    let (yard, _endpoint) = yard().await?;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let task = Submission::of("x", "payload").id("t:1").text("traceparent", trace);
    yard.submit(&task.properties(|p| p.with_content_type("text/csv".into()))).await?;
    let task = yard.wait_state("t:1", "succeeded", EVENTUALLY).await?;
    let heard: serde_json::Value = serde_json::from_slice(task.bytes("result"))?;
    for (name, value) in [
        ("x-task-id", "t:1"),
        ("idempotency-key", "t:1"),
        ("x-task-kind", "x"),
        ("x-task-attempt", "1"),
        ("x-task-failures", "0"),
        ("x-task-worker", "w1"),
        ("x-token", "secret"),
        ("traceparent", trace),
        ("content-type", "text/csv"),
    ] {
        assert_eq!(heard[name], value, "{name} in {heard}");
    }
    assert!(!yard.worker("w1").log().contains("secret"));
    yard.shut_down().await
}

#[tokio::test]
async fn a_redirect_is_a_failure_that_says_where_it_leads() -> anyhow::Result<()> {
    let (yard, _endpoint) = yard().await?;
    let id = yard.submit(&Submission::of("x", "elsewhere")).await?;
    let task = yard.wait_state(&id, "failed", EVENTUALLY).await?;
    assert_eq!(counts(&task), (1, 1));
    assert!(task.text("error").contains("http://localhost/elsewhere"), "{task:?}");
    yard.shut_down().await
}

#[tokio::test]
async fn the_tasks_own_limit_and_a_cancel_end_the_request() -> anyhow::Result<()> {
    let (yard, endpoint) = yard().await?;
    let once = Submission::of("x", "hang").number("x-task-max-attempts", 1);
    let id = yard.submit(&once.number("x-task-timeout", 700)).await?;
    let task = yard.wait_state(&id, "failed", EVENTUALLY).await?;
    assert_eq!(task.text("error_kind"), "timeout");
    wait_said(&endpoint, "left alone", 1).await?;

    let id = yard.submit(&Submission::of("x", "hang")).await?;
    wait_said(&endpoint, "hanging", 2).await?;
    yard.wait_state(&id, "running", EVENTUALLY).await?;
    yard.taskyard(&["cancel", &id]).await?.ok()?;
    yard.wait_state(&id, "cancelled", EVENTUALLY).await?;
    wait_said(&endpoint, "left alone", 2).await?;
    yard.shut_down().await
}

async fn wait_said(endpoint: &Endpoint, line: &str, times: usize) -> anyhow::Result<()> {
    wait_until(&format!("{line:?} of the endpoint"), EVENTUALLY, async || {
        let log = endpoint.process.log();
        ensure!(log.lines().filter(|said| *said == line).count() == times, "{log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_endpoint_that_comes_back_gets_its_task() -> anyhow::Result<()> {
    let (yard, endpoint) = yard().await?;
    endpoint.process.kill9()?;
    let id = yard
        .submit(
            &Submission::of("x", "")
                .text("x-task-backoff", "fixed:500")
                .number("x-task-max-attempts", 100),
        )
        .await?;
    wait_until("a failure", EVENTUALLY, async || {
        let task = yard.state(&id).await?;
        ensure!(task.text("error").contains("error sending request"), "{task:?}");
        Ok(())
    })
    .await?;
    let script = script()?;
    let _again = endpoint.again(&script)?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    yard.shut_down().await
}

#[tokio::test]
async fn the_usual_variables_name_a_proxy() -> anyhow::Result<()> {
    let endpoint = Endpoint::start(&script()?, &[]).await?;
    let handlers = "[[handler]]\nkind = \"x\"\nhttp = \"http://nowhere.invalid/\"\n";
    let proxy = format!("http://127.0.0.1:{}", endpoint.port);
    let yard = Yard::builder()
        .worker(|w| w.id("w1").handlers(handlers).program(|p| p.env("HTTP_PROXY", &proxy)))
        .start()
        .await?;
    let id = yard.submit(&Submission::of("x", "")).await?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    let heard: serde_json::Value = serde_json::from_slice(task.bytes("result"))?;
    assert_eq!(heard["host"], "nowhere.invalid");
    yard.shut_down().await
}

#[tokio::test]
async fn tls_is_checked_against_the_given_authority() -> anyhow::Result<()> {
    let servers = Servers::builder().tls().start().await?;
    let authority = servers.ca_file().context("TLS")?.to_owned();
    let beside = |name: &str| authority.with_file_name(name).display().to_string();
    let (certificate, key) = (beside("server.pem"), beside("server.key"));
    let endpoint = Endpoint::start(&script()?, &[&certificate, &key]).await?;
    let handler = |kind: &str| {
        let port = endpoint.port;
        format!("[[handler]]\nkind = \"{kind}\"\nhttp = \"https://127.0.0.1:{port}/\"\n")
    };
    let trusting = ["--tls-ca".to_owned(), authority.display().to_string()];
    let yard = Yard::builder()
        .on(servers)
        .worker(|w| w.id("w1").handlers(&handler("x")).program(|p| p.args(trusting)))
        .worker(|w| w.id("w2").handlers(&handler("y")))
        .start()
        .await?;
    let id = yard.submit(&Submission::of("x", "sealed")).await?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    let id = yard.submit(&Submission::of("y", "").number("x-task-max-attempts", 1)).await?;
    let task = yard.wait_state(&id, "failed", EVENTUALLY).await?;
    assert!(task.text("error").contains("certificate"), "{task:?}");
    yard.shut_down().await
}
