//! Each role with exactly the permissions that docs/operations.md gives it.

use anyhow::{Context, ensure};
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use taskyard_tests::{EVENTUALLY, Servers, Yard};

/// The document's rows: a role, and what it may configure, write and read.
fn documented() -> anyhow::Result<Vec<(String, [String; 3])>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let text = std::fs::read_to_string(path)?;
    let (_, rest) = text.split_once("| user | configure | write | read |").context("the table")?;
    let (table, after) = rest.split_once("\n\n").context("the end of the table")?;
    ensure!(after.contains("ACL SETUSER"), "the rules for Redis follow");
    let mut roles = Vec::new();
    for row in table.lines().skip(2) {
        let cells = row.trim_matches('|').trim().replace("\\|", "\0");
        let cells: Vec<String> =
            cells.split('|').map(|cell| cell.trim().trim_matches('`').replace('\0', "|")).collect();
        let [role, configure, write, read] = cells.try_into().ok().context("four cells")?;
        let role = role.split(' ').next().context("a role")?.to_owned();
        roles.push((role, [configure, write, read]));
    }
    Ok(roles)
}

/// Servers with the documented users, and the virtual host and database of the next yard on them.
struct Guarded {
    servers: Servers,
    vhost: String,
}

impl Guarded {
    async fn start() -> anyhow::Result<Self> {
        let servers = Servers::start().await?;
        // They are made some at a time and given out in order: the yard gets the second.
        ensure!(servers.rabbitmq().take_vhost().await? == "test-1", "the first virtual host");
        let guarded = Self { servers, vhost: "test-2".to_owned() };
        for (role, [configure, write, read]) in documented()? {
            let rabbitmq = guarded.servers.rabbitmq();
            rabbitmq.rabbitmqctl(&["add_user", &role, "secret"]).await?;
            let set = ["set_permissions", "-p", &guarded.vhost, &role, &configure, &write, &read];
            rabbitmq.rabbitmqctl(&set).await?;
        }
        Ok(guarded)
    }

    fn amqp_url(&self, role: &str) -> String {
        self.servers.rabbitmq().url(&self.vhost).replace("guest:guest", &format!("{role}:secret"))
    }

    /// The address for a user of Redis that is allowed what the document says.
    async fn redis_url(&self, role: &str) -> anyhow::Result<String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let text = std::fs::read_to_string(path)?;
        let rule = text
            .lines()
            .find(|line| line.starts_with("ACL SETUSER") && line.contains(role))
            .context("a rule")?;
        let mut command = redis::Cmd::new();
        rule.replace("SECRET", "secret").split_whitespace().for_each(|word| {
            command.arg(word);
        });
        let url = self.servers.redis().url(1);
        let mut connection =
            redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?;
        command.exec_async(&mut connection).await?;
        Ok(url.replace("redis://", &format!("redis://{role}:secret@")))
    }
}

/// Whether a user may publish there.
async fn may_publish(url: &str, exchange: &str, key: &str) -> anyhow::Result<bool> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let confirm =
        match channel.basic_publish(exchange.into(), key.into(), options, b"", properties).await {
            Ok(confirm) => confirm.await.map(drop),
            Err(error) => Err(error),
        };
    refusal(confirm)
}

/// Whether a user may read that queue.
async fn may_consume(url: &str, queue: &str) -> anyhow::Result<bool> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let options = BasicConsumeOptions::default();
    let consume = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    refusal(consume.await.map(drop))
}

/// `false` where the broker says that it is not allowed; anything else is no answer to that.
fn refusal(outcome: Result<(), lapin::Error>) -> anyhow::Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.to_string().contains("ACCESS_REFUSED") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn roles_with_exactly_the_documented_permissions_suffice() -> anyhow::Result<()> {
    let guarded = Guarded::start().await?;
    let [submitter, worker, dispatcher] =
        ["submitter", "worker", "dispatcher"].map(|role| guarded.amqp_url(role));
    let redis = guarded.redis_url("dispatcher").await?;
    let reader = guarded.redis_url("reader").await?;
    let yard = Yard::builder()
        .on(guarded.servers)
        .each_dispatcher(|d| {
            d.env("TASKYARD_AMQP_URL", &dispatcher).env("TASKYARD_REDIS_URL", &redis)
        })
        .worker(|w| w.id("w1").builtin().program(|p| p.env("TASKYARD_AMQP_URL", &worker)))
        .start()
        .await?;
    ensure!(yard.place().vhost() == guarded.vhost, "another virtual host than expected");
    let there = ["--amqp-url", &submitter, "--redis-url", &reader];
    let taskyard = async |args: &[&str]| yard.taskyard(&[args, &there[..]].concat()).await;

    let said = taskyard(&["submit", "echo", "--data", "hello", "--wait"]).await?.ok()?;
    assert_eq!(said, "hello");
    // Retried at once, and by a delay.
    for backoff in ["fixed:10", "fixed:3000"] {
        let options = ["--data", r#"{"failures":1}"#, "--backoff", backoff, "--wait"];
        taskyard(&[&["submit", "fail"], &options[..]].concat()).await?.ok()?;
    }
    // Failed, looked at, replayed.
    let options = ["--id", "dead", "--data", r#"{"permanent":true}"#];
    taskyard(&[&["submit", "fail"], &options[..]].concat()).await?.ok()?;
    yard.wait_state("dead", "failed", EVENTUALLY).await?;
    taskyard(&["dead", "ls"]).await?.ok()?;
    // Cancelled while it runs, which the worker hears over the control exchange.
    let options = ["--id", "long", "--data", r#"{"ms":600000}"#];
    taskyard(&[&["submit", "sleep"], &options[..]].concat()).await?.ok()?;
    yard.wait_state("long", "running", EVENTUALLY).await?;
    taskyard(&["cancel", "long"]).await?.ok()?;
    yard.wait_state("long", "cancelled", EVENTUALLY).await?;
    taskyard(&["status", "long"]).await?.ok()?;
    taskyard(&["workers"]).await?.ok()?;
    // Logged.
    let options = ["--id", "logs", "--data", r#"{"ms":0,"log":["a line"]}"#];
    taskyard(&[&["submit", "sleep"], &options[..]].concat()).await?.ok()?;
    yard.wait_state("logs", "succeeded", EVENTUALLY).await?;
    let log = taskyard(&["logs", "--follow", "logs"]).await?.ok()?;
    assert!(log.ends_with(" a line\n"), "{log}");

    let own = "taskyard.again.default";
    for (exchange, key) in
        [("", own), ("taskyard.again", "default"), ("taskyard.delay.0", "default")]
    {
        for url in [&submitter, &worker] {
            assert!(!may_publish(url, exchange, key).await?, "{url} forges through {exchange:?}");
        }
    }
    for exchange in ["taskyard.outcomes", "taskyard.heartbeats", "taskyard.control"] {
        assert!(!may_publish(&submitter, exchange, "w1").await?, "submitter to {exchange}");
    }
    for exchange in ["taskyard.tasks", "taskyard.commands", "taskyard.control"] {
        assert!(!may_publish(&worker, exchange, "echo").await?, "worker to {exchange}");
    }
    for queue in ["taskyard.submit.default", "taskyard.dead", "taskyard.worker.dispatcher.probe"] {
        for url in [&submitter, &worker] {
            assert!(!may_consume(url, queue).await?, "{url} reads {queue}");
        }
    }
    let mut connection =
        redis::Client::open(reader.as_str())?.get_multiplexed_async_connection().await?;
    let write: Result<(), _> = redis::cmd("HSET")
        .arg("taskyard:task:dead")
        .arg("state")
        .arg("succeeded")
        .query_async(&mut connection)
        .await;
    assert!(write.is_err(), "readers do not write");
    yard.finish()
}
