//! What the worker says on the wire: these tests play the dispatcher's part by hand.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind,
    message::Delivery,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use taskyard_tests::{EVENTUALLY, Servers, Worker, Yard, wait_until};

/// Marks messages of many tasks or reports.
const TASKS: &str = "application/vnd.taskyard.train";
const REPORTS: &str = "application/vnd.taskyard.reports";
/// How long nothing must happen where nothing must.
const A_WHILE: Duration = Duration::from_millis(300);

/// What the dispatcher would be to a worker, moved by hand.
struct Hand {
    channel: Channel,
    beats: Consumer,
    outcomes: Consumer,
    reports: VecDeque<Value>,
}

impl Hand {
    /// Declares what the dispatcher declares before any worker comes.
    async fn new(url: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        for (name, kind) in [
            ("taskyard.heartbeats", ExchangeKind::Fanout),
            ("taskyard.outcomes", ExchangeKind::Direct),
            ("taskyard.control", ExchangeKind::Direct),
        ] {
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await?;
        }
        declare(&channel, "taskyard.outcomes.default", FieldTable::default()).await?;
        bind(&channel, "taskyard.outcomes.default", "taskyard.outcomes", "default").await?;
        let private = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), private, FieldTable::default()).await?;
        bind(&channel, queue.name().as_str(), "taskyard.heartbeats", "").await?;
        let beats = consume(&channel, queue.name().as_str()).await?;
        let outcomes = consume(&channel, "taskyard.outcomes.default").await?;
        Ok(Self { channel, beats, outcomes, reports: VecDeque::new() })
    }

    /// Declares the worker's queue.
    async fn greet(&self, worker: &str) -> anyhow::Result<()> {
        let mut arguments = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(text.into());
        arguments.insert("x-dead-letter-exchange".into(), text("taskyard.outcomes"));
        arguments.insert("x-dead-letter-routing-key".into(), text("default"));
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        arguments.insert("x-overflow".into(), text("reject-publish"));
        declare(&self.channel, &format!("taskyard.worker.{worker}"), arguments).await
    }

    /// The next heartbeat of which something holds.
    async fn beat(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let mut last = Value::Null;
        let wait = async {
            while let Some(delivery) = self.beats.next().await {
                last = serde_json::from_slice(&delivery?.data)?;
                if holds(&last) {
                    return Ok(());
                }
            }
            anyhow::bail!("the consumer ended")
        };
        let outcome = tokio::time::timeout(EVENTUALLY, wait).await;
        outcome.with_context(|| format!("no heartbeat with {what}; the last one: {last}"))??;
        Ok(last)
    }

    /// The next report: its head, its body as `"body"`, where it was dead-lettered `"dead"`.
    async fn report(&mut self) -> anyhow::Result<Value> {
        while self.reports.is_empty() {
            let next = tokio::time::timeout(EVENTUALLY, self.outcomes.next()).await;
            let delivery = next.context("no report")?.context("the consumer ended")??;
            self.reports.extend(read_reports(&delivery)?);
        }
        self.reports.pop_front().context("there is one")
    }

    /// That nothing is reported for a while.
    async fn no_report(&mut self) -> anyhow::Result<()> {
        ensure!(self.reports.is_empty(), "{:?}", self.reports);
        if let Ok(next) = tokio::time::timeout(A_WHILE, self.outcomes.next()).await {
            anyhow::bail!("unexpected: {:?}", read_reports(&next.context("ended")??)?);
        }
        Ok(())
    }

    /// Sends one task as a foreign worker gets it.
    async fn native(
        &self,
        worker: &str,
        id: &str,
        kind: &str,
        payload: &str,
    ) -> anyhow::Result<()> {
        let mut headers = FieldTable::default();
        headers.insert("x-task-attempt".into(), AMQPValue::LongInt(1));
        headers.insert("x-task-failures".into(), AMQPValue::LongInt(0));
        let properties = BasicProperties::default()
            .with_message_id(id.into())
            .with_type(kind.into())
            .with_headers(headers);
        self.publish("", &format!("taskyard.worker.{worker}"), properties, payload.as_bytes()).await
    }

    /// Sends a train of tasks.
    async fn train(&self, worker: &str, cars: &[(Value, &str)]) -> anyhow::Result<()> {
        let mut body = b"TYT1".to_vec();
        for (head, payload) in cars {
            for part in [head.to_string().as_bytes(), payload.as_bytes()] {
                body.extend(u32::try_from(part.len())?.to_be_bytes());
                body.extend(part);
            }
        }
        let properties = BasicProperties::default().with_content_type(TASKS.into());
        self.publish("", &format!("taskyard.worker.{worker}"), properties, &body).await
    }

    /// Sends one task.
    async fn task(&self, worker: &str, head: Value, payload: &str) -> anyhow::Result<()> {
        self.train(worker, &[(head, payload)]).await
    }

    async fn control(&self, worker: &str, message: &Value) -> anyhow::Result<()> {
        let properties = BasicProperties::default();
        let body = message.to_string();
        self.publish("taskyard.control", worker, properties, body.as_bytes()).await
    }

    /// Cancels a task that runs, and waits until the worker says so.
    async fn cancel(&mut self, id: &str) -> anyhow::Result<()> {
        let cancel = json!({ "do": "cancel", "id": id, "attempt": 1 });
        // After a reconnect its heartbeat may come before its queue for this is bound.
        let sent = async || self.control("w", &cancel).await;
        wait_until("a worker that listens", EVENTUALLY, sent).await?;
        let mut report = self.report().await?;
        if report["t"] == "started" {
            // Its confirm died with a broker, so it was said again.
            report = self.report().await?;
        }
        ensure!(report["id"] == id && report["ek"] == "cancelled", "{report}");
        ensure!(report["perm"] == true, "{report}");
        Ok(())
    }

    async fn publish(
        &self,
        exchange: &str,
        key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> anyhow::Result<()> {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let properties = properties.with_delivery_mode(2);
        let publish =
            self.channel.basic_publish(exchange.into(), key.into(), options, body, properties);
        let confirmation = publish.await?.await?;
        ensure!(matches!(confirmation, lapin::Confirmation::Ack(None)), "{confirmation:?}");
        Ok(())
    }
}

async fn declare(channel: &Channel, name: &str, mut arguments: FieldTable) -> anyhow::Result<()> {
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
    Ok(())
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> anyhow::Result<()> {
    let options = QueueBindOptions::default();
    let none = FieldTable::default();
    Ok(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none).await?)
}

async fn consume(channel: &Channel, queue: &str) -> anyhow::Result<Consumer> {
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    Ok(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?)
}

fn read_reports(delivery: &Delivery) -> anyhow::Result<Vec<Value>> {
    let properties = &delivery.properties;
    if properties.content_type().as_ref().is_none_or(|given| given.as_str() != REPORTS) {
        let id = properties.message_id().as_ref().map(ToString::to_string);
        return Ok(vec![json!({ "dead": true, "id": id })]);
    }
    let mut rest = delivery.data.strip_prefix(b"TYT1").context("no train")?;
    let mut part = || -> anyhow::Result<Vec<u8>> {
        let (length, more) = rest.split_first_chunk::<4>().context("cut off")?;
        let (part, more) = more.split_at(u32::from_be_bytes(*length) as usize);
        rest = more;
        Ok(part.to_vec())
    };
    let mut reports = Vec::new();
    while let Ok(head) = part() {
        let mut report: Value = serde_json::from_slice(&head)?;
        report["body"] = String::from_utf8(part()?)?.into();
        reports.push(report);
    }
    Ok(reports)
}

fn head(id: &str, kind: &str) -> Value {
    json!({ "id": id, "k": kind, "a": 1 })
}

/// A worker `w`, and the hand that moves it.
async fn start(describe: impl FnOnce(Worker) -> Worker) -> anyhow::Result<(Yard, Hand)> {
    let yard = Yard::builder()
        .dispatchers(0)
        .worker(|worker| describe(worker.id("w").builtin()))
        .start_without_waiting()
        .await?;
    let mut hand = Hand::new(yard.place().amqp_url()).await?;
    hand.beat("state up", |beat| beat["state"] == "up").await?;
    hand.greet("w").await?;
    Ok((yard, hand))
}

/// How many messages the worker's queue holds, acked ones excepted. (Counts of a quorum queue lag.)
async fn wait_empty(yard: &Yard) -> anyhow::Result<()> {
    let vhost = yard.place().vhost();
    wait_until("an empty queue", EVENTUALLY, async || {
        let list = ["list_queues", "-p", vhost, "name", "messages"];
        let queues = yard.servers().rabbitmq().rabbitmqctl(&list).await?;
        let is_empty = queues.lines().any(|line| line == "taskyard.worker.w\t0");
        ensure!(is_empty, "{queues}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn heartbeat_says_what_the_worker_is() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w.slots(2).weight(3).labels("gpu,zone=eu")).await?;
    let beat = hand.beat("anything", |_| true).await?;
    assert_eq!(beat["id"], "w");
    assert_eq!(beat["pool"], "default");
    assert_eq!(beat["kinds"], json!(["echo", "sleep", "fail"]));
    assert_eq!(
        (&beat["slots"], &beat["weight"], &beat["trains"]),
        (&json!(2), &json!(3), &json!(64))
    );
    assert_eq!(beat["labels"], json!(["gpu", "zone=eu"]));
    assert_eq!(beat["holding"], json!([]));
    yard.finish()
}

#[tokio::test]
async fn native_delivery_is_run_reported_and_acked() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    hand.native("w", "t1", "echo", "hello").await?;
    let report = hand.report().await?;
    assert_eq!((&report["t"], &report["id"]), (&json!("succeeded"), &json!("t1")));
    assert_eq!((&report["body"], &report["k"]), (&json!("hello"), &json!("echo")));
    assert_eq!((&report["a"], &report["w"]), (&json!(1), &json!("w")));
    wait_empty(&yard).await?;
    yard.finish()
}

#[tokio::test]
async fn train_is_acked_when_all_its_tasks_are_settled() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    let mut cars: Vec<_> = (0..50).map(|n| (head(&format!("t{n}"), "echo"), "x")).collect();
    cars.push((head("bad", "fail"), r#"{"permanent":true}"#));
    cars.push((head("panic", "fail"), r#"{"panic":true}"#));
    cars.push((head("unreadable", "sleep"), "nonsense"));
    hand.train("w", &cars).await?;
    let mut seen = Vec::new();
    while seen.len() < cars.len() {
        let report = hand.report().await?;
        if report["t"] == "started" {
            continue;
        }
        let id = report["id"].as_str().context("id")?.to_owned();
        match id.as_str() {
            "bad" | "unreadable" => {
                assert_eq!((&report["t"], &report["perm"]), (&json!("failed"), &json!(true)));
                assert_eq!(report["task"]["id"], json!(id));
            }
            "panic" => {
                assert_eq!((&report["t"], &report["perm"]), (&json!("failed"), &Value::Null));
                assert!(report["e"].as_str().is_some_and(|e| e.contains("panicked")), "{report}");
                assert_eq!(report["body"], r#"{"panic":true}"#);
            }
            _ => assert_eq!(report["t"], "succeeded"),
        }
        seen.push(id);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), cars.len());
    wait_empty(&yard).await?;
    yard.expect_warnings("panicked at");
    yard.finish()
}

#[tokio::test]
async fn long_task_is_reported_started_and_listed_until_it_ends() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    hand.task("w", head("t1", "sleep"), r#"{"ms":3000}"#).await?;
    assert_eq!(hand.report().await?["t"], "started");
    hand.beat("t1", |beat| beat["holding"] == json!(["t1:1"])).await?;
    let report = hand.report().await?;
    assert_eq!(report["t"], "succeeded");
    assert!(report["us"].as_u64().is_some_and(|us| us >= 2_900_000), "{report}");
    hand.beat("nothing held", |beat| beat["holding"] == json!([])).await?;
    yard.finish()
}

#[tokio::test]
async fn what_cannot_start_within_a_second_comes_back_with_its_payload() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    let mut wide = head("wide", "sleep");
    wide["s"] = json!(99);
    let next = (head("next", "echo"), "payload");
    hand.train("w", &[(wide, r#"{"ms":2000}"#), next]).await?;
    assert_eq!(hand.report().await?["t"], "started");
    let report = hand.report().await?;
    assert_eq!((&report["t"], &report["id"]), (&json!("returned"), &json!("next")));
    assert_eq!((&report["body"], &report["orph"]), (&json!("payload"), &Value::Null));
    assert_eq!(report["task"]["k"], "echo");
    let report = hand.report().await?;
    assert_eq!((&report["t"], &report["id"]), (&json!("succeeded"), &json!("wide")));
    wait_empty(&yard).await?;
    yard.finish()
}

#[tokio::test]
async fn start_by_in_the_past_is_refused() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    let mut late = head("late", "echo");
    late["by"] = json!(1000);
    hand.task("w", late, "x").await?;
    let report = hand.report().await?;
    assert_eq!((&report["t"], &report["ek"]), (&json!("failed"), &json!("expired")));
    assert_eq!(report["perm"], true);
    yard.finish()
}

#[tokio::test]
async fn timeout_ends_the_attempt() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    let mut task = head("t1", "sleep");
    task["to"] = json!(100);
    hand.task("w", task, r#"{"ms":60000}"#).await?;
    assert_eq!(hand.report().await?["t"], "started");
    let report = hand.report().await?;
    assert_eq!((&report["t"], &report["ek"]), (&json!("failed"), &json!("timeout")));
    assert_eq!(report["perm"], Value::Null);
    wait_empty(&yard).await?;
    yard.finish()
}

#[tokio::test]
async fn cancel_ends_what_runs() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    hand.task("w", head("t1", "sleep"), r#"{"ms":600000}"#).await?;
    assert_eq!(hand.report().await?["t"], "started");
    hand.cancel("t1").await?;
    wait_empty(&yard).await?;
    yard.finish()
}

#[tokio::test]
async fn suspect_is_reported_started_before_it_runs() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    let mut suspect = head("t1", "fail");
    suspect["sus"] = json!(true);
    hand.task("w", suspect, r#"{"abort":true}"#).await?;
    assert_eq!(hand.report().await?["t"], "started");
    assert!(!yard.worker("w").wait_exit(EVENTUALLY).await?.success());
    hand.no_report().await?;
    yard.finish()
}

#[tokio::test]
async fn held_task_is_acked_and_runs_on() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w.program(|p| p.args(["--held-after-ms", "200"]))).await?;
    hand.task("w", head("t1", "sleep"), r#"{"ms":600000}"#).await?;
    assert_eq!(hand.report().await?["t"], "started");
    let report = hand.report().await?;
    assert_eq!((&report["t"], &report["body"]), (&json!("held"), &json!(r#"{"ms":600000}"#)));
    assert_eq!(report["task"]["id"], "t1");
    wait_empty(&yard).await?;
    hand.beat("t1", |beat| beat["holding"] == json!(["t1:1"])).await?;
    hand.cancel("t1").await?;
    yard.finish()
}

#[tokio::test]
async fn redelivery_to_a_new_process_is_returned_as_orphan() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    hand.task("w", head("t1", "sleep"), r#"{"ms":60000}"#).await?;
    assert_eq!(hand.report().await?["t"], "started");
    let first = hand.beat("t1", |beat| beat["holding"] == json!(["t1:1"])).await?;
    yard.worker("w").kill9()?;
    yard.worker("w").start()?;
    let report = hand.report().await?;
    assert_eq!((&report["t"], &report["orph"]), (&json!("returned"), &json!(true)));
    assert_eq!((&report["body"], &report["task"]["a"]), (&json!(r#"{"ms":60000}"#), &json!(1)));
    hand.beat("a new boot", |beat| beat["boot"] != first["boot"]).await?;
    wait_empty(&yard).await?;
    yard.finish()
}

#[tokio::test]
async fn duplicate_of_what_is_settled_is_acked_and_not_run() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    hand.task("w", head("t1", "echo"), "x").await?;
    assert_eq!(hand.report().await?["t"], "succeeded");
    hand.task("w", head("t1", "echo"), "x").await?;
    hand.task("w", head("marker", "echo"), "x").await?;
    assert_eq!(hand.report().await?["id"], "marker");
    wait_empty(&yard).await?;
    yard.finish()
}

#[tokio::test]
async fn unreadable_message_goes_to_the_dispatcher() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    let properties = BasicProperties::default().with_message_id("odd".into());
    hand.publish("", "taskyard.worker.w", properties, b"?").await?;
    assert_eq!(hand.report().await?, json!({ "dead": true, "id": "odd" }));
    hand.task("w", head("t1", "echo"), "x").await?;
    assert_eq!(hand.report().await?["t"], "succeeded");
    wait_empty(&yard).await?;
    yard.expect_warnings("neither a task nor a train");
    yard.finish()
}

#[tokio::test]
async fn drain_finishes_what_runs_and_returns_the_rest() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w.slots(1)).await?;
    let cars = [(head("runs", "sleep"), r#"{"ms":3000}"#), (head("waits", "echo"), "x")];
    hand.train("w", &cars).await?;
    assert_eq!(hand.report().await?["t"], "started");
    yard.worker("w").signal(Signal::SIGTERM)?;
    hand.beat("draining", |beat| beat["state"] == "draining").await?;
    let report = hand.report().await?;
    assert_eq!((&report["t"], &report["id"]), (&json!("returned"), &json!("waits")));
    let report = hand.report().await?;
    assert_eq!((&report["t"], &report["id"]), (&json!("succeeded"), &json!("runs")));
    assert!(yard.worker("w").wait_exit(EVENTUALLY).await?.success());
    wait_empty(&yard).await?;
    yard.finish()
}

#[tokio::test]
async fn what_outlasts_the_grace_comes_back() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w.program(|p| p.args(["--grace-ms", "200"]))).await?;
    hand.task("w", head("t1", "sleep"), r#"{"ms":60000}"#).await?;
    assert_eq!(hand.report().await?["t"], "started");
    yard.worker("w").signal(Signal::SIGTERM)?;
    let report = hand.report().await?;
    assert_eq!((&report["t"], &report["id"]), (&json!("returned"), &json!("t1")));
    assert!(yard.worker("w").wait_exit(EVENTUALLY).await?.success());
    wait_empty(&yard).await?;
    yard.finish()
}

#[tokio::test]
async fn stop_is_for_one_boot_alone() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    let beat = hand.beat("a boot", |beat| beat["boot"].is_string()).await?;
    hand.control("w", &json!({ "do": "stop", "boot": "another", "why": "no" })).await?;
    hand.task("w", head("t1", "echo"), "x").await?;
    assert_eq!(hand.report().await?["t"], "succeeded");
    let stop = json!({ "do": "stop", "boot": beat["boot"], "why": "w has boots a and b" });
    hand.control("w", &stop).await?;
    assert_eq!(yard.worker("w").wait_exit(EVENTUALLY).await?.code(), Some(64));
    assert!(yard.worker("w").log().contains("w has boots a and b"));
    yard.expect_warnings("w has boots a and b");
    yard.finish()
}

#[tokio::test]
async fn consume_makes_the_worker_take_up_its_queue_anew() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    hand.task("w", head("t1", "sleep"), r#"{"ms":600000}"#).await?;
    assert_eq!(hand.report().await?["t"], "started");
    hand.control("w", &json!({ "do": "consume", "why": "nothing arrives" })).await?;
    wait_until("a second consumer", EVENTUALLY, async || {
        let log = yard.worker("w").log();
        ensure!(log.matches("consuming").count() == 2, "{log}");
        Ok(())
    })
    .await?;
    // What runs goes on, and is not begun again when its message comes back.
    hand.cancel("t1").await?;
    hand.task("w", head("t2", "echo"), "x").await?;
    let report = hand.report().await?;
    assert_eq!((&report["id"], &report["t"]), (&json!("t2"), &json!("succeeded")));
    wait_empty(&yard).await?;
    yard.expect_warnings("nothing arrives here");
    yard.finish()
}

#[tokio::test]
async fn running_task_survives_a_broker_that_dies() -> anyhow::Result<()> {
    let yard = Yard::builder()
        .dispatchers(0)
        .own_servers(Servers::builder())
        .worker(|w| w.id("w").builtin())
        .start_without_waiting()
        .await?;
    let mut hand = Hand::new(yard.place().amqp_url()).await?;
    hand.greet("w").await?;
    hand.task("w", head("t1", "sleep"), r#"{"ms":600000}"#).await?;
    assert_eq!(hand.report().await?["t"], "started");
    yard.servers().rabbitmq().kill9()?;
    yard.servers().rabbitmq().start().await?;
    let mut hand = Hand::new(yard.place().amqp_url()).await?;
    hand.beat("t1", |beat| beat["holding"] == json!(["t1:1"])).await?;
    hand.cancel("t1").await?;
    wait_empty(&yard).await?;
    hand.no_report().await?;
    yard.expect_warnings("no session with the broker");
    yard.finish()
}

#[tokio::test]
async fn program_of_the_handlers_file_runs_a_task() -> anyhow::Result<()> {
    let handlers = r#"
        [[handler]]
        kind = "text.*"
        exec = ["sh", "-c", 'tr a-z A-Z; printf " $TASKYARD_ID $TASKYARD_KIND $TASKYARD_ATTEMPT $A"; test -z "$TASKYARD_AMQP_URL"']
        env = { A = "b" }
        [[handler]]
        kind = "broken"
        exec = ["sh", "-c", "echo no such customer >&2; exit 65"]
    "#;
    let (yard, mut hand) = start(|w| w.handlers(handlers)).await?;
    hand.task("w", head("t1", "text.upper"), "hello").await?;
    loop {
        let report = hand.report().await?;
        if report["t"] != "started" {
            assert_eq!(report["body"], "HELLO t1 text.upper 1 b", "{report}");
            break;
        }
    }
    hand.native("w", "t2", "broken", "x").await?;
    loop {
        let report = hand.report().await?;
        if report["t"] != "started" {
            assert_eq!((&report["t"], &report["perm"]), (&json!("failed"), &json!(true)));
            assert_eq!(report["e"], "no such customer");
            break;
        }
    }
    yard.finish()
}

#[tokio::test]
async fn second_signal_ends_at_once() -> anyhow::Result<()> {
    let (yard, mut hand) = start(|w| w).await?;
    hand.task("w", head("t1", "sleep"), r#"{"ms":60000}"#).await?;
    assert_eq!(hand.report().await?["t"], "started");
    yard.worker("w").signal(Signal::SIGTERM)?;
    hand.beat("draining", |beat| beat["state"] == "draining").await?;
    yard.worker("w").signal(Signal::SIGTERM)?;
    assert!(yard.worker("w").wait_exit(Duration::from_secs(10)).await?.success());
    yard.finish()
}

#[tokio::test]
async fn wrong_password_ends_the_worker() -> anyhow::Result<()> {
    let port = Servers::shared().await?.rabbitmq().port();
    let url = format!("amqp://guest:wrong@127.0.0.1:{port}/%2f");
    let describe = |w: Worker| w.builtin().program(|p| p.env("TASKYARD_AMQP_URL", &url));
    let yard = Yard::builder().dispatchers(0).worker(describe).start_without_waiting().await?;
    let worker = yard.worker("worker");
    assert_eq!(worker.wait_exit(EVENTUALLY).await?.code(), Some(69));
    assert!(worker.log().contains("refuse") && !worker.log().contains("wrong@"));
    yard.expect_warnings("refuse");
    yard.finish()
}

#[tokio::test]
async fn worker_waits_for_a_broker_that_is_away() -> anyhow::Result<()> {
    let nowhere = "amqp://guest:guest@127.0.0.1:1/%2f";
    let describe = |w: Worker| w.builtin().program(|p| p.env("TASKYARD_AMQP_URL", nowhere));
    let yard = Yard::builder().dispatchers(0).worker(describe).start_without_waiting().await?;
    let worker = yard.worker("worker");
    wait_until("a try", EVENTUALLY, async || {
        ensure!(worker.log().contains("no session with the broker"), "{}", worker.log());
        anyhow::Ok(())
    })
    .await?;
    worker.signal(Signal::SIGTERM)?;
    assert!(worker.wait_exit(Duration::from_secs(10)).await?.success());
    yard.expect_warnings("no session with the broker");
    yard.finish()
}
