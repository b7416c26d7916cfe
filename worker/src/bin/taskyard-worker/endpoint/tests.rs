use super::*;
use std::sync::{Arc, Mutex};
use taskyard_worker::{Bytes, CancelReason, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Heads of requests, and their bodies.
type Heard = Mutex<Vec<(String, Vec<u8>)>>;

/// An endpoint that says one thing to everybody and keeps what it is told.
struct Server {
    url: Url,
    heard: Arc<Heard>,
    /// How many connections were made.
    connections: Arc<Mutex<u32>>,
    /// Fires when a request is there.
    asked: Arc<Notify>,
    /// Fires when a connection has ended.
    left: Arc<Notify>,
}

impl Server {
    /// One that answers so; with nothing at all where that is empty.
    async fn saying(answer: impl Into<Bytes>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/run", listener.local_addr().unwrap()).parse().unwrap();
        let server = Self {
            url,
            heard: Arc::default(),
            connections: Arc::default(),
            asked: Arc::default(),
            left: Arc::default(),
        };
        let (heard, connections) = (Arc::clone(&server.heard), Arc::clone(&server.connections));
        let (asked, left) = (Arc::clone(&server.asked), Arc::clone(&server.left));
        let answer = answer.into();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *connections.lock().unwrap() += 1;
                let (heard, asked, left) =
                    (Arc::clone(&heard), Arc::clone(&asked), Arc::clone(&left));
                let answer = answer.clone();
                tokio::spawn(async move {
                    // It ends when the other side goes.
                    let _ = serve(stream, &answer, &heard, &asked).await;
                    left.notify_one();
                });
            }
        });
        server
    }

    fn endpoint(&self) -> Http {
        Http {
            // Whatever the environment says of proxies.
            client: client_builder(None).unwrap().no_proxy().build().unwrap(),
            url: self.url.clone(),
            headers: HeaderMap::new(),
            timeout: None,
        }
    }

    async fn run(&self) -> Result<Reply, TaskError> {
        self.endpoint().run(Attempt::of("payload")).await
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: &[u8],
    heard: &Heard,
    asked: &Notify,
) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await?;
        heard.lock().unwrap().push((head, body));
        asked.notify_one();
        stream.write_all(answer).await?;
    }
}

/// An answer with that status line, those header lines, and a body.
fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

#[tokio::test]
async fn the_body_of_a_good_answer_is_the_result() {
    let server = Server::saying(answer("201 Created", "Content-Type: text/csv\r\n", "a,b")).await;
    let reply = server.run().await.unwrap();
    assert_eq!(reply, Reply::from("a,b").with_content_type("text/csv"));
    let server = Server::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(server.run().await.unwrap(), Reply::default());
}

#[tokio::test]
async fn the_request_says_whose_it_is() {
    let server = Server::saying(answer("200 OK", "", "")).await;
    let mut endpoint = server.endpoint();
    endpoint.headers.insert("authorization", HeaderValue::from_static("Bearer x"));
    endpoint.headers.insert("content-type", HeaderValue::from_static("text/plain"));
    let attempt = Attempt {
        kind: "größe.ändern".to_owned(),
        content_type: Some("application/json".to_owned()),
        content_encoding: Some("gzip".to_owned()),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        deadline_ms: Some(7),
        ..Attempt::of("{}")
    };
    endpoint.run(attempt).await.unwrap();
    let (head, body) = server.heard.lock().unwrap()[0].clone();
    assert!(head.starts_with("post /run http/1.1\r\n"), "{head}");
    assert_eq!(body, b"{}");
    for line in [
        "authorization: bearer x",
        "content-type: application/json",
        "content-encoding: gzip",
        "x-task-id: t1",
        "idempotency-key: t1",
        "x-task-kind: größe.ändern",
        "x-task-attempt: 3",
        "x-task-failures: 2",
        "x-task-worker: w1",
        "x-task-deadline: 7",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        assert!(head.lines().any(|found| found == line), "{line} is not in {head}");
    }
    // A fixed type counts where the task has none.
    endpoint.run(Attempt::of("")).await.unwrap();
    let (head, _) = server.heard.lock().unwrap()[1].clone();
    assert!(head.contains("content-type: text/plain\r\n"), "{head}");
    assert!(head.contains("content-length: 0\r\n"), "{head}");
    assert!(!head.contains("traceparent"), "{head}");
}

#[tokio::test]
async fn a_refusal_says_why_and_whether_to_retry() {
    let server = Server::saying(answer("422 Unprocessable Entity", "", "no such file\n")).await;
    let error = server.run().await.unwrap_err();
    assert_eq!(error.text(), "HTTP 422 Unprocessable Entity: no such file");
    assert!(error.is_permanent());

    let server = Server::saying(answer("503 Service Unavailable", "Retry-After: 7\r\n", "")).await;
    let error = server.run().await.unwrap_err();
    assert_eq!(error.text(), "HTTP 503 Service Unavailable");
    assert_eq!((error.is_permanent(), error.retry_after()), (false, Some(Duration::from_secs(7))));

    let long = answer("500 Internal Server Error", "", &"x".repeat(1 << 20));
    let error = Server::saying(long).await.run().await.unwrap_err();
    assert!(!error.is_permanent() && error.text().len() < 3000, "{}", error.text().len());
}

#[tokio::test]
async fn redirects_are_told_and_not_followed() {
    let target = Server::saying(answer("200 OK", "", "")).await;
    let location = format!("Location: {}\r\n", target.url);
    let server = Server::saying(answer("307 Temporary Redirect", &location, "")).await;
    let error = server.run().await.unwrap_err();
    assert!(error.is_permanent() && error.text().contains(target.url.as_str()), "{error}");
    assert!(target.heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_result_that_is_too_large_is_a_permanent_failure() {
    let large = answer("200 OK", "", &"x".repeat(taskyard_model::PAYLOAD_BYTES_MAX + 1));
    let error = Server::saying(large).await.run().await.unwrap_err();
    assert!(error.is_permanent() && error.text().contains("16777216"), "{error}");
    let fits = answer("200 OK", "", &"x".repeat(taskyard_model::PAYLOAD_BYTES_MAX));
    assert!(Server::saying(fits).await.run().await.is_ok());
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::saying(answer("200 OK", "", "ok")).await;
    let endpoint = server.endpoint();
    for _ in 0..5 {
        endpoint.run(Attempt::of("")).await.unwrap();
    }
    assert_eq!(*server.connections.lock().unwrap(), 1);
}

#[tokio::test]
async fn its_own_limit_ends_the_request() {
    let server = Server::saying("").await;
    let mut endpoint = server.endpoint();
    endpoint.timeout = Some(Duration::from_millis(300));
    let error = endpoint.run(Attempt::of("")).await.unwrap_err();
    assert_eq!((error.kind(), error.text()), (ErrorKind::Timeout, "no answer within 300 ms"));
    server.left.notified().await;
}

#[tokio::test]
async fn cancel_closes_the_connection() {
    let server = Server::saying("").await;
    let attempt =
        Attempt { reason: Box::new(|| Some(CancelReason::Timeout)), ..Attempt::of("payload") };
    let (token, endpoint) = (attempt.cancelled.clone(), server.endpoint());
    let run = tokio::spawn(async move { endpoint.run(attempt).await });
    server.asked.notified().await;
    token.cancel();
    assert!(!run.await.unwrap().unwrap_err().is_permanent());
    server.left.notified().await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_retried_and_its_address_not_told() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut endpoint = Server::saying("").await.endpoint();
    endpoint.url = format!("http://127.0.0.1:{port}/?key=secret").parse().unwrap();
    let error = endpoint.run(Attempt::of("")).await.unwrap_err();
    assert!(!error.is_permanent() && !error.text().contains("secret"), "{error}");
}
