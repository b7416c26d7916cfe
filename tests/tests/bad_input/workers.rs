//! What workers, those who pretend to be workers, and operators send.

use super::{Case, Then, cases::cars, hold, is_well, text, yard};
use Then::{Aside, Nothing};
use anyhow::{Context, ensure};
use lapin::{
    BasicProperties,
    options::{BasicGetOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldArray, FieldTable},
};
use serde_json::{Value, json};
use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};

/// A native report, about a task that nobody knows.
fn report(name: &str, kind: &str, then: Then) -> Case {
    Case::of(name, then)
        .to("taskyard.outcomes", "default")
        .with(|p| p.with_type(kind.into()))
        .number("x-task-attempt", 1)
}

/// A train of one report with that head.
fn train(name: &str, head: &str, then: Then) -> Case {
    Case::of(name, then)
        .to("taskyard.outcomes", "default")
        .with(|p| p.with_content_type("application/vnd.taskyard.reports".into()))
        .body(cars(&[(head, name)]))
}

/// A message that pretends to have come back from a worker.
fn returned(name: &str, then: Then) -> Case {
    let mut entry = FieldTable::default();
    entry.insert("queue".into(), text("taskyard.worker.w1"));
    entry.insert("reason".into(), text("rejected"));
    let mut deaths = FieldArray::default();
    deaths.push(AMQPValue::FieldTable(entry));
    Case::of(name, then)
        .to("taskyard.outcomes", "default")
        .header("x-death", AMQPValue::FieldArray(deaths))
}

fn reports() -> Vec<Case> {
    let long = "x".repeat(300);
    let no_attempt = Case::of("report without attempt", Aside("x-task-attempt is missing"))
        .to("taskyard.outcomes", "default")
        .with(|p| p.with_type("failed".into()));
    let copy = |name: &str, then| returned(name, then).with(|p| p.with_type("echo".into()));
    vec![
        no_attempt,
        report("report of no type", "", Aside("none of")),
        report("report of another type", "done", Aside("none of")),
        report("report without id", "failed", Aside("message_id is missing"))
            .with(|_| BasicProperties::default().with_type("failed".into())),
        report("report bad id", "failed", Aside("message_id"))
            .with(|p| p.with_message_id("a b".into())),
        report("report attempt 0", "failed", Aside("x-task-attempt")).number("x-task-attempt", 0),
        report("report attempt x", "failed", Aside("x-task-attempt")).text("x-task-attempt", "x"),
        report("report attempt large", "failed", Aside("its attempt"))
            .number("x-task-attempt", i64::from(u32::MAX)),
        report("report bad worker", "failed", Aside("x-task-worker")).text("x-task-worker", "a b"),
        report("report bad percent", "progress", Aside("x-task-progress"))
            .number("x-task-progress", 101),
        report("report unknown failed", "failed", Nothing),
        report("report unknown started", "started", Nothing),
        report("report unknown returned", "returned", Nothing).text("x-task-orphan", "true"),
        report("report unknown progress", "progress", Nothing).number("x-task-progress", 50),
        report("report unknown log", "log", Nothing),
        report("report for another pool", "failed", Nothing).key("no such pool"),
        report("report unknown held", "held", Aside("nobody knows")),
        report("report unknown yielded", "yielded", Aside("nobody knows")),
        train("train of no JSON", "no JSON", Aside("not a train of reports")),
        train("train of no report", r#"{"id":"t"}"#, Aside("not a train of reports")),
        train("train cut off", "", Aside("cut off")).body(b"TYT1\0\0\0\x09{}".to_vec()),
        train("train of old", "", Aside("TYT1")).body("hello"),
        train("train attempt 0", r#"{"t":"failed","id":"t","a":0}"#, Aside("its attempt")),
        train("train percent", r#"{"t":"progress","id":"t","a":1,"pr":200}"#, Aside("progress")),
        train(
            "train reply",
            &format!(r#"{{"t":"succeeded","id":"t","a":1,"rt":"{long}"}}"#),
            Aside("255"),
        ),
        train(
            "train correlation",
            &format!(r#"{{"t":"failed","id":"t","a":1,"rt":"q","ci":"{long}"}}"#),
            Aside("255"),
        ),
        train(
            "train of another",
            r#"{"t":"held","id":"t","a":1,"task":{"id":"u","k":"echo"}}"#,
            Aside("another task"),
        ),
        returned("returned without type", Aside("no type")),
        copy("returned without attempt", Aside("x-task-attempt")),
        copy("returned attempt large", Aside("counts"))
            .number("x-task-attempt", i64::from(u32::MAX)),
        copy("returned priority", Aside("priority"))
            .number("x-task-attempt", 1)
            .with(|p| p.with_priority(200)),
    ]
}

/// Trains of our own workers, come back with a head that breaks the rules.
fn heads() -> Vec<Case> {
    let long = "x".repeat(300);
    let own_train = |head: &str| {
        let body = cars(&[(head, "payload")]);
        let copy = returned("returned train", Aside("")).body(body);
        copy.with(|p| p.with_content_type("application/vnd.taskyard.train".into()))
    };
    let heads = [
        (r#"{"id":"t","k":"echo","p":200}"#.to_owned(), "priority"),
        (r#"{"id":"t","k":"echo","s":0}"#.to_owned(), "slots"),
        (r#"{"id":"t","k":"echo","a":4294967295}"#.to_owned(), "counts"),
        (r#"{"id":"t","k":"echo","to":18446744073709551615}"#.to_owned(), "ten years"),
        (format!(r#"{{"id":"t","k":"echo","ci":"{long}"}}"#), "255"),
        (r#"{"id":"t","k":"a b"}"#.to_owned(), "head of car 0"),
    ];
    heads.into_iter().map(|(head, why)| Case { then: Aside(why), ..own_train(&head) }).collect()
}

#[tokio::test]
async fn reports_that_are_none_are_put_aside() -> anyhow::Result<()> {
    let yard = yard().await?;
    yard.expect_warnings("nobody knows");
    yard.expect_warnings("unknown task");
    hold(&yard, &reports()).await?;
    hold(&yard, &heads()).await?;
    yard.finish()
}

/// Whoever does not have a task cannot say anything about it.
#[tokio::test]
async fn lies_about_a_running_task_change_nothing() -> anyhow::Result<()> {
    let yard = yard().await?;
    yard.submit(&Submission::of("sleep", r#"{"ms":4000}"#).id("mine")).await?;
    yard.wait_state("mine", "running", EVENTUALLY).await?;
    let mine = |name: &str, kind: &str, attempt: i64, worker: &str| {
        let case = report(name, kind, Nothing).with(|p| p.with_message_id("mine".into()));
        case.number("x-task-attempt", attempt).text("x-task-worker", worker)
    };
    let lies = [
        mine("failed by another", "failed", 1, "thief"),
        mine("succeeded by another", "succeeded", 1, "thief"),
        mine("returned by another", "returned", 1, "thief"),
        mine("progress by another", "progress", 1, "thief").number("x-task-progress", 99),
        mine("held by another", "held", 1, "thief"),
        mine("failed later", "failed", 7, "w1"),
        mine("returned later", "returned", 7, "w1"),
        mine("started later", "started", 7, "w1"),
    ];
    hold(&yard, &lies).await?;
    let task = yard.wait_state("mine", "succeeded", EVENTUALLY).await?;
    let counts = [task.number("attempt"), task.number("failures"), task.number("losses")];
    assert_eq!((counts, task.text("worker")), ([1, 0, 0], "w1".to_owned()));
    assert_ne!(task.text("progress"), "99");
    yard.finish()
}

/// An attempt that is over cannot be reported failed.
#[tokio::test]
async fn reports_about_an_older_attempt_or_a_final_task_change_nothing() -> anyhow::Result<()> {
    let yard = yard().await?;
    let body = r#"{"failures":1}"#;
    yard.submit(&Submission::of("fail", body).id("old").text("x-task-backoff", "fixed:10")).await?;
    let before = yard.wait_state("old", "succeeded", EVENTUALLY).await?;
    let old = |name: &str, kind: &str, attempt: i64| {
        let case = report(name, kind, Nothing).with(|p| p.with_message_id("old".into()));
        case.number("x-task-attempt", attempt).text("x-task-error", "a lie")
    };
    let lies = [
        old("old failed", "failed", 1),
        old("final failed", "failed", 2),
        old("final succeeded", "succeeded", 2),
        old("final started", "started", 2),
        old("later succeeded", "succeeded", 3),
    ];
    hold(&yard, &lies).await?;
    let after = yard.state("old").await?;
    ensure!(before == after, "{before:?} became {after:?}");
    yard.finish()
}

/// Publishes to `taskyard.heartbeats`.
async fn beat(yard: &Yard, body: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let sent =
        yard.submit_raw("taskyard.heartbeats", "", BasicProperties::default(), body.as_ref());
    sent.await.map(drop)
}

fn good_beat() -> Value {
    json!({ "id": "liar", "boot": "b1", "pool": "default", "kinds": ["nothing"], "slots": 2 })
}

/// A heartbeat with some fields changed.
fn changed(change: &Value) -> String {
    let mut beat = good_beat();
    for (name, value) in change.as_object().into_iter().flatten() {
        beat[name] = value.clone();
    }
    beat.to_string()
}

#[tokio::test]
async fn heartbeats_that_are_none_are_complained_of_and_ignored() -> anyhow::Result<()> {
    let yard = yard().await?;
    yard.expect_warnings("names a pool that is not configured");
    let changes = [
        (json!({ "id": "a b" }), "an id is made of"),
        (json!({ "id": "" }), "at least one character"),
        (json!({ "boot": "" }), "boot must have"),
        (json!({ "kinds": [] }), "at least one pattern"),
        (json!({ "kinds": ["a b"] }), "kinds"),
        (json!({ "kinds": vec!["x"; 1001] }), "at most 1000 patterns"),
        (json!({ "slots": 0 }), "slots must be"),
        (json!({ "slots": 1_000_000_000 }), "slots must be"),
        (json!({ "slots": -1 }), "invalid value"),
        (json!({ "weight": 0 }), "weight must be"),
        (json!({ "weight": 1e300 }), "invalid"),
        (json!({ "state": "dead" }), "unknown variant"),
        (json!({ "holding": ["no attempt"] }), "is not"),
        (json!({ "holding": ["t:99999999999"] }), "is not"),
        (json!({ "labels": 7 }), "labels"),
        (json!({ "pool": "no pool" }), "not a heartbeat"),
        (json!({ "pool": "elsewhere" }), "not configured"),
    ];
    for (change, _) in &changes {
        beat(&yard, changed(change)).await?;
    }
    for body in
        [&b""[..], b"beat", b"{", b"[]", b"null", &[0xff; 100], "[".repeat(9_999).as_bytes()]
    {
        beat(&yard, body).await?;
    }
    is_well(&yard).await?;
    for (change, why) in &changes {
        wait_until(&format!("a complaint about {change:.60}"), EVENTUALLY, async || {
            let log = yard.dispatcher(0).log();
            let mut lines = log.lines().filter(|line| line.contains("WARN"));
            lines.find(|line| line.contains(why)).map(drop).context("not yet")
        })
        .await?;
    }
    ensure!(yard.worker_field("liar", "state").await?.is_empty(), "it counts as a worker");
    yard.finish()
}

/// It claims tasks that others have, that do not exist, and a great many.
#[tokio::test]
async fn lies_about_what_is_held_harm_nobody_else() -> anyhow::Result<()> {
    let yard = yard().await?;
    for text in ["vanished", "suspect", "lost", "nothing"] {
        yard.expect_warnings(text);
    }
    yard.submit(&Submission::of("sleep", r#"{"ms":3000}"#).id("theirs")).await?;
    yard.submit(&Submission::of("nobody.takes.it", "x").id("waiting")).await?;
    yard.wait_state("theirs", "running", EVENTUALLY).await?;
    yard.wait_state("waiting", "queued", EVENTUALLY).await?;
    let claims = ["theirs:1", "theirs:2", "waiting:1", "waiting:0", "never.was:1", "never.was:1"];
    let many: Vec<_> = (0..100_000).map(|n| format!("made.up.{n}:{n}")).collect();
    for holding in [json!(claims), json!(many), json!(claims), json!([])] {
        beat(&yard, changed(&json!({ "holding": holding }))).await?;
        is_well(&yard).await?;
    }
    let task = yard.wait_state("theirs", "succeeded", EVENTUALLY).await?;
    assert_eq!((task.number("attempt"), task.number("losses")), (1, 0));
    ensure!(yard.state("waiting").await?.state() == "queued", "the waiting one was taken");
    yard.finish()
}

/// Both are alive: the newer is told to stop, and says why; the log names both.
#[tokio::test]
async fn second_process_with_a_workers_id_is_told_to_stop() -> anyhow::Result<()> {
    let mut yard = yard().await?;
    for text in ["two processes", "stop", "same id", "one worker id"] {
        yard.expect_warnings(text);
    }
    // Started under another name, with the id of the first.
    let twin = |w: taskyard_tests::Worker| w.id("w2").builtin().program(|p| p.args(["--id", "w1"]));
    let added = tokio::time::timeout(EVENTUALLY, yard.add_worker(twin)).await;
    ensure!(!matches!(added, Ok(Ok(()))), "w2 cannot be known: its id is w1");
    let status = yard.worker("w2").wait_exit(EVENTUALLY).await?;
    ensure!(!status.success(), "it ended with {status}");
    let log = yard.dispatcher(0).log();
    let line = log.lines().find(|line| line.contains("two processes have one worker id"));
    ensure!(line.is_some_and(|l| l.contains("boot=") && l.contains("other=")), "{line:?}");
    let id = yard.submit(&Submission::of("echo", "good")).await?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    ensure!(yard.worker("w1").is_running()?, "the older one has ended");
    yard.finish()
}

/// What an operator gets to hear.
#[tokio::test]
async fn commands_that_are_none_are_answered_with_an_error() -> anyhow::Result<()> {
    let yard = yard().await?;
    yard.expect_warnings("a command without reply_to");
    let channel = yard.channel().await?;
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
    let reply_to = queue.name().clone();
    let commands = [
        &b""[..],
        b"cancel",
        b"{}",
        br#"{"do":"explode"}"#,
        br#"{"do":"cancel"}"#,
        br#"{"do":"cancel","id":"a b"}"#,
        br#"{"do":"cancel","id":"never.was"}"#,
        br#"{"do":"replay"}"#,
        br#"{"do":"dead","limit":-1}"#,
        br#"{"do":"dead-show","id":"never.was"}"#,
        &[0xff; 10],
    ];
    for command in commands {
        for nobody in [None, Some("taskyard.lane.default.9")] {
            let properties = BasicProperties::default();
            let properties = match nobody {
                Some(queue) => properties.with_reply_to(queue.into()),
                None => properties,
            };
            yard.submit_raw("taskyard.commands", "", properties, command).await?;
        }
        let name = String::from_utf8_lossy(command).into_owned();
        let properties = BasicProperties::default().with_reply_to(reply_to.clone());
        yard.submit_raw("taskyard.commands", "", properties, command).await?;
        let answer = wait_until(&format!("an answer to {name}"), EVENTUALLY, async || {
            let got = channel.basic_get(reply_to.clone(), BasicGetOptions { no_ack: true }).await?;
            anyhow::Ok(serde_json::from_slice::<Value>(&got.context("none yet")?.data)?)
        })
        .await?;
        ensure!(answer["ok"] == json!(false), "{name}: {answer}");
        ensure!(answer["error"].as_str().is_some_and(|why| !why.is_empty()), "{name}: {answer}");
    }
    is_well(&yard).await?;
    yard.finish()
}
