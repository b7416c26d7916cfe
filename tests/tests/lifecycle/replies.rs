//! Who asked for it is told the end.

use anyhow::ensure;
use lapin::BasicProperties;
use taskyard_tests::{EVENTUALLY, Submission, wait_until};

use crate::{mailbox::Mailbox, small_yard, yard_without_workers};

#[tokio::test]
async fn every_final_state_is_told() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let mut mailbox = Mailbox::open(&yard).await?;
    let to = mailbox.address().to_owned();
    let told = |kind: &str, body: &str, id: &str| {
        Submission::of(kind, body).id(id).reply_to(&to, &format!("about {id}"))
    };

    yard.submit(&told("echo", "result", "s")).await?;
    let letter = mailbox.next().await?;
    assert_eq!(letter.about(), ("succeeded".into(), "s".into(), "about s".into()));
    assert_eq!(
        (letter.0.data.as_slice(), letter.header("x-task-attempt")),
        (&b"result"[..], "1".into())
    );
    assert_eq!(letter.header("x-task-error-kind"), "");

    yard.submit(&told("fail", r#"{"permanent":true}"#, "f")).await?;
    let letter = mailbox.next().await?;
    assert_eq!(letter.about(), ("failed".into(), "f".into(), "about f".into()));
    assert_eq!((letter.header("x-task-error-kind"), letter.0.data.len()), ("failed".into(), 0));
    assert!(letter.header("x-task-error").contains("for good"), "{letter:?}");

    yard.submit(&told("echo", "", "c").number("x-task-delay", 60_000)).await?;
    yard.wait_state("c", "delayed", EVENTUALLY).await?;
    let mut desk = Mailbox::open(&yard).await?;
    let answer = desk.command(&serde_json::json!({"do": "cancel", "id": "c"})).await?;
    assert_eq!(answer["ok"], true, "{answer}");
    let letter = mailbox.next().await?;
    assert_eq!(letter.about(), ("cancelled".into(), "c".into(), "about c".into()));
    assert_eq!(letter.header("x-task-error-kind"), "cancelled");

    let late = told("nobody.takes", "", "e").properties(|p| p.with_expiration("300".into()));
    yard.submit(&late).await?;
    let letter = mailbox.next().await?;
    assert_eq!(letter.about(), ("expired".into(), "e".into(), "about e".into()));
    assert_eq!(letter.header("x-task-error-kind"), "expired");

    yard.submit(&told("echo", "", "r").number("x-task-max-attempts", 101)).await?;
    let letter = mailbox.next().await?;
    assert_eq!(letter.about(), ("rejected".into(), "r".into(), "about r".into()));
    assert!(letter.header("x-task-error").contains("x-task-max-attempts"), "{letter:?}");
    yard.finish()
}

#[tokio::test]
async fn askers_that_are_gone_disturb_nobody() -> anyhow::Result<()> {
    const TASKS: usize = 500;
    let yard = small_yard().await?;
    let payloads = tempfile::NamedTempFile::new()?;
    std::fs::write(payloads.path(), "x\n".repeat(TASKS))?;
    let payloads = payloads.path().display().to_string();
    let submit = async |prefix: &'static str, to: &'static str| {
        let args = ["submit", "echo", "--ndjson", &payloads, "--id-prefix", prefix];
        // A type of its own makes each travel alone.
        let more = ["--reply-to", to, "--content-type", "text/plain"];
        yard.taskyard(&[&args[..], &more[..]].concat()).await?.ok()
    };
    tokio::try_join!(submit("a-", "gone"), submit("b-", "left"))?;
    for n in 1..=TASKS {
        yard.wait_state(&format!("a-{n}"), "succeeded", EVENTUALLY).await?;
        yard.wait_state(&format!("b-{n}"), "succeeded", EVENTUALLY).await?;
    }
    // What RabbitMQ returns for one message is told of another where one confirm is for several: with
    // anything else on their channel the session would end, and the log would say so.
    let expected = format!("taskyard_replies_dropped_total {}", 2 * TASKS);
    wait_until("each reply is dropped, once", EVENTUALLY, async || {
        let (_, metrics) = yard.http_get(0, "/metrics").await?;
        ensure!(metrics.lines().any(|line| line == expected), "{metrics}");
        anyhow::Ok(())
    })
    .await?;
    yard.finish()
}

#[tokio::test]
async fn direct_reply_to_works() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let mut mailbox = Mailbox::direct(&yard).await?;
    let properties =
        BasicProperties::default().with_message_id("d1".into()).with_correlation_id("quick".into());
    mailbox.publish("taskyard.tasks", "echo", properties, b"there and back").await?;
    let letter = mailbox.next().await?;
    assert_eq!(letter.about(), ("succeeded".into(), "d1".into(), "quick".into()));
    assert_eq!(letter.0.data, b"there and back");
    yard.finish()
}

#[tokio::test]
async fn the_content_type_of_a_result_comes_with_it() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let mut worker = crate::foreign::Foreign::of("f1").start(&yard).await?;
    let mut mailbox = Mailbox::open(&yard).await?;
    let task = Submission::of("image.resize", "x").reply_to(mailbox.address(), "c");
    let id = yard.submit(&task.properties(|p| p.with_content_type("image/gif".into()))).await?;
    let given = worker.next().await?;
    let content_type = given.delivery.properties.content_type().clone();
    assert_eq!(content_type.map(|text| text.to_string()), Some("image/gif".to_owned()));
    let properties = BasicProperties::default()
        .with_type("succeeded".into())
        .with_message_id(id.as_str().into())
        .with_content_type("image/png".into())
        .with_headers(given.delivery.properties.headers().clone().unwrap_or_default());
    yard.submit_raw("taskyard.outcomes", "default", properties, b"png").await?;
    worker.ack(given).await?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert_eq!(task.text("result_type"), "image/png");
    let letter = mailbox.next().await?;
    let content_type = letter.0.properties.content_type().clone();
    assert_eq!(content_type.map(|text| text.to_string()), Some("image/png".to_owned()));
    yard.finish()
}

#[tokio::test]
async fn a_reply_that_cannot_be_routed_harms_nobody() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let nowhere = Submission::of("echo", "1").id("n1").reply_to("no.such.queue", "c");
    yard.submit(&nowhere).await?;
    let task = yard.wait_state("n1", "succeeded", EVENTUALLY).await?;
    assert_eq!(task.text("result"), "1");
    let metric = taskyard_tests::wait_until("the reply is counted", EVENTUALLY, async || {
        let (_, metrics) = yard.http_get(0, "/metrics").await?;
        let lost = metrics.lines().find(|line| line.contains("repl") && line.ends_with(" 1"));
        lost.map(ToOwned::to_owned).ok_or_else(|| anyhow::anyhow!("{metrics}"))
    })
    .await?;
    assert!(!metric.starts_with('#'), "{metric}");
    let id = yard.submit(&Submission::of("echo", "2")).await?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;

    // Queues of the namespace are refused.
    yard.submit(&Submission::of("echo", "").id("n2").reply_to("taskyard.dead", "c")).await?;
    let task = yard.wait_state("n2", "rejected", EVENTUALLY).await?;
    assert!(task.text("error").contains("reply_to"), "{task:?}");
    yard.finish()
}
