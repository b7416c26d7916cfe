//! Large and long: payloads, results, bulks, tasks that run longer than a delivery may be held.

use anyhow::Context;
use lapin::BasicProperties;
use taskyard_tests::{EVENTUALLY, Submission, Yard};

use crate::{
    counts,
    mailbox::{Mailbox, take},
    small_yard,
};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_payload_of_10_mib_goes_through_and_its_result_comes_by_reply() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let mut mailbox = Mailbox::open(&yard).await?;
    let payload: Vec<u8> = (0_u8..=250).cycle().take(10 * MIB).collect();
    let task = Submission::of("echo", &payload).reply_to(mailbox.address(), "big");
    let id = yard.submit(&task).await?;
    let letter = mailbox.next().await?;
    assert_eq!(letter.about(), ("succeeded".into(), id.clone(), "big".into()));
    assert!(letter.0.data == payload, "{} bytes came back changed", letter.0.data.len());
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert_eq!((task.bytes("result"), task.number("result_bytes")), (&b""[..], 10 * 1024 * 1024));
    yard.finish()
}

#[tokio::test]
async fn a_result_of_1_mib_is_kept_in_redis() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let payload: Vec<u8> = (0_u8..=250).cycle().take(MIB).collect();
    let id = yard.submit(&Submission::of("echo", &payload)).await?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert!(task.bytes("result") == payload, "{} bytes", task.bytes("result").len());
    yard.finish()
}

#[tokio::test]
async fn a_payload_above_16_mib_is_rejected() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let payload = vec![b'x'; 16 * MIB + 1];
    yard.submit(&Submission::of("echo", &payload).id("huge")).await?;
    let task = yard.wait_state("huge", "rejected", EVENTUALLY).await?;
    assert!(task.text("error").contains("16777217 bytes"), "{task:?}");
    assert_eq!(take(&yard, "taskyard.rejected").await?.delivery.data.len(), payload.len());
    yard.finish()
}

/// A bulk by the format in the docs: `TYT1`, then for each task head and payload, each after its length.
fn bulk(tasks: &[(String, &[u8])]) -> anyhow::Result<Vec<u8>> {
    let mut body = b"TYT1".to_vec();
    for (head, payload) in tasks {
        for part in [head.as_bytes(), payload] {
            body.extend(u32::try_from(part.len())?.to_be_bytes());
            body.extend(part);
        }
    }
    Ok(body)
}

async fn submit_bulk(yard: &Yard, properties: BasicProperties, body: &[u8]) -> anyhow::Result<()> {
    let properties = properties.with_content_type("application/vnd.taskyard.bulk".into());
    yard.submit_raw("taskyard.tasks", "echo", properties, body).await?;
    Ok(())
}

#[tokio::test]
async fn each_task_of_a_bulk_is_judged_by_itself() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let mut tasks: Vec<(String, &[u8])> =
        (0..500).map(|n| (format!(r#"{{"id":"b{n}"}}"#), &b"same"[..])).collect();
    tasks[7] = (r#"{"id":"b7","priority":12}"#.to_owned(), b"wrong");
    tasks[8] = (r#"{"id":"b8","priority":3,"headers":{"x-task-delay":400}}"#.to_owned(), b"late");
    tasks[9] = (r#"{"id":"b0"}"#.to_owned(), b"the id of another");
    // Neither id nor anything else.
    tasks.push((String::new(), b"nameless"));
    let mut mailbox = Mailbox::open(&yard).await?;
    let properties = BasicProperties::default()
        .with_priority(6)
        .with_reply_to(mailbox.address().into())
        .with_correlation_id("bulk".into());
    submit_bulk(&yard, properties, &bulk(&tasks)?).await?;

    let mut ids: Vec<String> = (0..500).map(|n| format!("b{n}")).collect();
    ids.remove(9);
    ids.remove(7);
    yard.wait_all(&ids, "succeeded", EVENTUALLY).await?;
    let task = yard.state("b0").await?;
    assert_eq!((task.text("result"), task.number("priority")), ("same".into(), 6));
    let task = yard.state("b8").await?;
    assert_eq!((task.text("result"), task.number("priority")), ("late".into(), 3));
    assert!(task.number("dispatched_at") - task.number("submitted_at") >= 400, "{task:?}");
    let task = yard.wait_state("b7", "rejected", EVENTUALLY).await?;
    assert!(task.text("error").contains("priority 12"), "{task:?}");
    assert_eq!(take(&yard, "taskyard.rejected").await?.delivery.data, b"wrong");

    // All are answered, also the one that was given a name; the one whose id was given twice maybe twice.
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < 500 {
        let letter = mailbox.next().await?;
        let (state, id, correlation_id) = letter.about();
        assert_eq!(correlation_id, "bulk");
        assert_eq!(state, if id == "b7" { "rejected" } else { "succeeded" }, "{letter:?}");
        answered.insert(id);
    }
    assert_eq!(answered.iter().filter(|id| !id.starts_with('b')).count(), 1);
    yard.finish()
}

#[tokio::test]
async fn a_bulk_that_cannot_be_read_blocks_nobody() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let good = bulk(&[(r#"{"id":"g1"}"#.to_owned(), b"good")])?;
    let cut_off = good.get(..good.len() - 1).context("it is longer")?;
    let many: Vec<(String, &[u8])> = (0..1_001).map(|_| (String::new(), &b""[..])).collect();
    for broken in [&b"no bulk"[..], cut_off, &bulk(&many)?] {
        submit_bulk(&yard, BasicProperties::default(), broken).await?;
        let rejected = take(&yard, "taskyard.rejected").await?.delivery;
        assert_eq!(rejected.data, broken);
        let reason = crate::mailbox::header(&rejected.properties, "x-task-reason");
        assert!(!reason.is_empty(), "{:?}", rejected.properties);
    }
    submit_bulk(&yard, BasicProperties::default(), &good).await?;
    yard.wait_state("g1", "succeeded", EVENTUALLY).await?;
    yard.finish()
}

#[tokio::test]
async fn a_task_that_runs_longer_than_a_delivery_is_held_completes_once() -> anyhow::Result<()> {
    let yard = Yard::builder()
        .worker(|w| w.id("w1").slots(2).builtin().program(|p| p.args(["--held-after-ms", "3000"])))
        .start()
        .await?;
    let mut mailbox = Mailbox::open(&yard).await?;
    let long = Submission::of("sleep", r#"{"ms":10000}"#).id("long");
    yard.submit(&long.reply_to(mailbox.address(), "c")).await?;
    yard.wait_state("long", "running", EVENTUALLY).await?;
    let task = yard.wait_state("long", "succeeded", EVENTUALLY).await?;
    assert_eq!((counts(&task), task.text("worker")), ((1, 0, 0), "w1".into()));
    assert!(task.number("finished_at") - task.number("started_at") >= 9_500, "{task:?}");
    assert_eq!(mailbox.next().await?.about(), ("succeeded".into(), "long".into(), "c".into()));
    // The next one is another task: nothing was run again.
    let id = yard.submit(&Submission::of("echo", "").reply_to(mailbox.address(), "d")).await?;
    assert_eq!(mailbox.next().await?.about(), ("succeeded".into(), id, "d".into()));
    assert_eq!(counts(&yard.state("long").await?), (1, 0, 0));
    yard.finish()
}
