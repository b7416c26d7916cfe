//! Whatever a client, a worker or an operator sends: a clear error, no panic, no loop, nobody else
//! affected.

#[path = "bad_input/cases.rs"]
mod cases;
#[path = "bad_input/workers.rs"]
mod workers;

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use lapin::{
    BasicProperties, Confirmation,
    options::BasicGetOptions,
    types::{AMQPValue, FieldTable},
};
use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};

/// What must come of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The task runs, and returns its payload.
    Succeeds,
    /// The task is `rejected`, and the message among the rejected; the error says so.
    Rejected(&'static str),
    /// The message is among the rejected; there is no record of it.
    Aside(&'static str),
    /// RabbitMQ does not take it.
    RefusedByBroker,
    /// Nothing is seen of it.
    Nothing,
}

/// One line of the table.
#[derive(Clone, Debug)]
struct Case {
    name: String,
    exchange: &'static str,
    key: String,
    properties: BasicProperties,
    headers: FieldTable,
    body: Vec<u8>,
    then: Then,
}

impl Case {
    /// A submission of kind `echo` whose id and payload are made of its name.
    fn of(name: &str, then: Then) -> Self {
        let id = name.replace(' ', "-");
        Self {
            name: name.to_owned(),
            exchange: "taskyard.tasks",
            key: "echo".to_owned(),
            properties: BasicProperties::default().with_message_id(id.as_str().into()),
            headers: FieldTable::default(),
            body: name.as_bytes().to_vec(),
            then,
        }
    }

    fn to(mut self, exchange: &'static str, key: &str) -> Self {
        self.exchange = exchange;
        key.clone_into(&mut self.key);
        self
    }

    fn key(self, key: &str) -> Self {
        let exchange = self.exchange;
        self.to(exchange, key)
    }

    fn with(mut self, set: impl FnOnce(BasicProperties) -> BasicProperties) -> Self {
        self.properties = set(self.properties);
        self
    }

    fn header(mut self, name: &str, value: AMQPValue) -> Self {
        self.headers.insert(name.into(), value);
        self
    }

    fn text(self, name: &str, value: &str) -> Self {
        self.header(name, text(value))
    }

    fn number(self, name: &str, value: i64) -> Self {
        self.header(name, AMQPValue::LongLongInt(value))
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn id(&self) -> String {
        self.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default()
    }

    async fn publish(&self, yard: &Yard) -> anyhow::Result<()> {
        if self.exchange.is_empty() && self.key.is_empty() {
            // It comes as a part of another.
            return Ok(());
        }
        let properties = self.properties.clone().with_headers(self.headers.clone());
        let sent = yard.submit_raw(self.exchange, &self.key, properties, &self.body).await;
        match (self.then, sent) {
            (Then::RefusedByBroker, Ok(Confirmation::Ack(None))) => bail!("RabbitMQ took it"),
            (Then::RefusedByBroker, _) | (_, Ok(Confirmation::Ack(None))) => Ok(()),
            (_, other) => bail!("not taken: {other:?}"),
        }
    }

    async fn judge(&self, yard: &Yard, rejected: &mut Vec<Aside>) -> anyhow::Result<()> {
        let id = self.id();
        match self.then {
            Then::Succeeds => {
                let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
                if self.body.len() <= 1024 * 1024 {
                    ensure!(task.bytes("result") == self.body, "another result");
                } else {
                    ensure!(task.text("result_bytes") == self.body.len().to_string(), "{task:?}");
                }
            }
            Then::Rejected(why) => {
                let task = yard.wait_state(&id, "rejected", EVENTUALLY).await?;
                ensure!(task.text("error").contains(why), "{task:?}");
                ensure!(task.text("error_kind") == "rejected", "{task:?}");
                self.find(yard, why, rejected).await?;
            }
            Then::Aside(why) => self.find(yard, why, rejected).await?,
            Then::RefusedByBroker | Then::Nothing => {}
        }
        Ok(())
    }

    /// Waits for its message among the rejected.
    async fn find(&self, yard: &Yard, why: &str, rejected: &mut Vec<Aside>) -> anyhow::Result<()> {
        let channel = yard.channel().await?;
        let found = wait_until("its message among the rejected", EVENTUALLY, async || {
            let options = BasicGetOptions { no_ack: true };
            while let Some(got) = channel.basic_get("taskyard.rejected".into(), options).await? {
                let headers = got.properties.headers().clone().context("no headers")?;
                rejected.push(Aside { headers, body: got.data.clone() });
            }
            let is_it = |aside: &Aside| {
                let error = aside.text("x-task-error");
                aside.body == self.body && error.contains(why)
            };
            let at = rejected.iter().position(is_it).with_context(|| {
                let errors: Vec<_> = rejected.iter().map(|a| a.text("x-task-error")).collect();
                format!("{errors:?}")
            })?;
            anyhow::Ok(rejected.swap_remove(at))
        })
        .await?;
        ensure!(found.text("x-task-reason") == "rejected", "{:?}", found.headers);
        Ok(())
    }
}

/// A message among the rejected.
#[derive(Debug)]
struct Aside {
    headers: FieldTable,
    body: Vec<u8>,
}

impl Aside {
    fn text(&self, name: &str) -> String {
        match self.headers.inner().get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            other => format!("{other:?}"),
        }
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A yard of its own, with what such a test expects in the logs.
async fn yard() -> anyhow::Result<Yard> {
    let yard = Yard::builder().worker(|w| w.id("w1").slots(4).builtin()).start().await?;
    yard.expect_warnings("not understood");
    Ok(yard)
}

/// All of them at once; then each is judged, a good task runs, and nothing has broken.
async fn hold(yard: &Yard, cases: &[Case]) -> anyhow::Result<()> {
    for case in cases {
        case.publish(yard).await.with_context(|| case.name.clone())?;
    }
    let mut rejected = Vec::new();
    for case in cases {
        case.judge(yard, &mut rejected).await.with_context(|| case.name.clone())?;
    }
    ensure!(rejected.is_empty(), "rejected as well: {rejected:?}");
    is_well(yard).await
}

/// A good task runs promptly, and no session or process has ended.
async fn is_well(yard: &Yard) -> anyhow::Result<()> {
    let id = yard.submit(&Submission::of("echo", "good").priority(5)).await?;
    yard.wait_state(&id, "succeeded", Duration::from_secs(15)).await.context("a good task")?;
    for process in yard.processes() {
        ensure!(process.is_running()?, "{} has ended", process.name());
        for word in ["session lost", "panicked", "connection was lost"] {
            let log = process.log();
            let line = log.lines().find(|line| line.contains(word));
            ensure!(line.is_none(), "{}: {line:?}", process.name());
        }
    }
    Ok(())
}

#[tokio::test]
async fn submissions_that_break_a_rule_are_refused_with_the_reason() -> anyhow::Result<()> {
    let cases = cases::submissions();
    ensure!(cases.len() >= 50, "only {} cases", cases.len());
    let yard = yard().await?;
    hold(&yard, &cases).await?;
    yard.finish()
}

#[tokio::test]
async fn payloads_of_any_size_and_content_are_taken_or_refused() -> anyhow::Result<()> {
    let yard = yard().await?;
    hold(&yard, &cases::payloads()).await?;
    yard.finish()
}

#[tokio::test]
async fn each_task_of_a_bulk_is_judged_by_itself() -> anyhow::Result<()> {
    let yard = yard().await?;
    hold(&yard, &cases::bulks()).await?;
    let task = yard.wait_state("bulk-good", "succeeded", EVENTUALLY).await?;
    assert_eq!(task.bytes("result"), b"payload");
    for id in ["bulk-priority", "bulk-header"] {
        yard.wait_state(id, "rejected", EVENTUALLY).await?;
    }
    yard.finish()
}

#[tokio::test]
async fn malformed_twin_of_a_running_task_changes_nothing() -> anyhow::Result<()> {
    let yard = yard().await?;
    let running = Submission::of("sleep", r#"{"ms":3000}"#).id("twin");
    yard.submit(&running).await?;
    yard.wait_state("twin", "running", EVENTUALLY).await?;
    let twin = Case::of("twin", Then::Aside("priority 200")).with(|p| p.with_priority(200));
    hold(&yard, &[twin]).await?;
    let task = yard.wait_state("twin", "succeeded", EVENTUALLY).await?;
    assert_eq!((task.number("attempt"), task.text("error")), (1, String::new()));
    yard.finish()
}

/// `CC` is RabbitMQ's own: a message that is put aside must not be carried on to queues that only
/// dispatchers may write to.
#[tokio::test]
async fn what_is_put_aside_goes_nowhere_else() -> anyhow::Result<()> {
    let yard = yard().await?;
    let mut queues = lapin::types::FieldArray::default();
    queues.push(text("taskyard.dead"));
    let case = Case::of("carried", Then::Rejected("priority 77"))
        .with(|p| p.with_priority(77))
        .header("CC", AMQPValue::FieldArray(queues));
    hold(&yard, &[case]).await?;
    let channel = yard.channel().await?;
    let got = channel.basic_get("taskyard.dead".into(), BasicGetOptions::default()).await?;
    ensure!(got.is_none(), "it is among the dead letters as well");
    yard.finish()
}
