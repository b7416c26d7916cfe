//! What may be wrong with a RabbitMQ, one thing after the other on one node.

use crate::patient::{Expected, Patient};
use anyhow::{Context, ensure};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use std::time::Duration;
use taskyard_tests::{RabbitMq, Servers};

/// What makes something wrong, what sets it right again (arguments of `rabbitmqctl`), and what is found.
type Case<'a> = (Vec<&'a str>, Vec<&'a str>, Expected<'a>);

async fn channel(url: &str) -> anyhow::Result<Channel> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    Ok(connection.create_channel().await?)
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments
}

async fn declare(channel: &Channel, queue: &str) -> anyhow::Result<()> {
    let options = QueueDeclareOptions::durable();
    channel.queue_declare(queue.into(), options, quorum()).await?;
    Ok(())
}

#[tokio::test]
async fn each_misconfiguration_of_rabbitmq_is_found() -> anyhow::Result<()> {
    let servers = Servers::builder()
        .management()
        .consumer_timeout(Duration::from_secs(60))
        .rabbitmq_conf("max_message_size = 1000000")
        .start()
        .await?;
    let (place, rabbitmq) = (servers.place().await?, servers.rabbitmq());
    let (vhost, patient) = (place.vhost(), Patient::at(&servers, &place));
    let channel = channel(place.amqp_url()).await?;
    // A queue and an exchange of our names that are not ours, and two pools that share a kind.
    declare(&channel, "taskyard.dead").await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let (name, none) = ("taskyard.tasks".into(), FieldTable::default());
    channel.exchange_declare(name, ExchangeKind::Topic, durable, none).await?;
    for (pool, kinds) in [("mail", "mail.#"), ("web", "*.send")] {
        let queue = format!("taskyard.submit.{pool}");
        declare(&channel, &queue).await?;
        let (queue, exchange) = (queue.as_str().into(), "taskyard.tasks".into());
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        channel.queue_bind(queue, exchange, kinds.into(), options, none).await?;
    }
    let environment = rabbitmq.rabbitmqctl(&["environment"]).await?;
    let args = ["--rabbitmq-environment", "-"];
    let found = patient.wait_for(&args, &environment, ("bindings", "problem", "mail")).await?;
    assert_eq!(found.code, Some(1));
    for expected in [
        ("rabbitmq-consumer-timeout", "problem", "60000 ms"),
        ("rabbitmq-message-size", "problem", "1000000"),
        ("rabbitmq-cluster", "warning", "one node"),
        ("rabbitmq-user", "warning", "guest"),
        ("queues", "problem", "taskyard.dead is another"),
        ("queues", "problem", "taskyard.tasks is another"),
        ("queues", "problem", "taskyard.rejected does not exist"),
        ("queues", "problem", "taskyard.again.web does not exist"),
        ("dispatchers", "problem", "no dispatcher has served the pool mail"),
    ] {
        ensure!(found.find(expected).is_some(), "{expected:?} is not in {found:#?}");
    }
    each(&patient, rabbitmq, &cases(vhost)).await
}

/// Policies and an alarm.
fn cases(vhost: &str) -> Vec<Case<'_>> {
    let policies = [
        ("policy", r#"{"max-length":5}"#, "max-length 5"),
        ("policy", r#"{"dead-letter-exchange":"x"}"#, "dead-letter-exchange \"x\""),
        ("policy", r#"{"delivery-limit":20}"#, "delivery-limit 20"),
        ("operator_policy", r#"{"message-ttl":60000}"#, "message-ttl 60000"),
        ("operator_policy", r#"{"expires":60000}"#, "expires 60000"),
    ];
    let case = |(sort, definition, part)| {
        let (set, clear) = match sort {
            "policy" => ("set_policy", "clear_policy"),
            _ => ("set_operator_policy", "clear_operator_policy"),
        };
        let wrong = vec![set, "-p", vhost, "tidy", r"^taskyard\.", definition];
        (wrong, vec![clear, "-p", vhost, "tidy"], ("policies", "problem", part))
    };
    let mut cases: Vec<Case<'_>> = policies.map(case).into();
    let watermark = |fraction| vec!["set_vm_memory_high_watermark", fraction];
    let alarm = ("rabbitmq-alarms", "problem", "memory alarm");
    cases.push((watermark("0.0001"), watermark("0.4"), alarm));
    cases
}

async fn each(patient: &Patient, rabbitmq: &RabbitMq, cases: &[Case<'_>]) -> anyhow::Result<()> {
    for (wrong, right, expected) in cases {
        let before = patient.examine(&[], "").await?;
        ensure!(before.find(*expected).is_none(), "{expected:?} before {wrong:?}");
        rabbitmq.rabbitmqctl(wrong).await?;
        let report = patient.wait_for(&[], "", *expected).await?;
        assert_eq!(report.code, Some(1), "{wrong:?}");
        rabbitmq.rabbitmqctl(right).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_alarm_is_noticed_without_the_management_api() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    let place = servers.place().await?;
    let patient = Patient::at(&servers, &place);
    let rabbitmq = servers.rabbitmq();
    rabbitmq.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0001"]).await?;
    let report = patient.wait_for(&[], "", ("rabbitmq-alarms", "problem", "blocks")).await?;
    ensure!(report.find(("rabbitmq-message-size", "unknown", "alarm")).is_some(), "{report:#?}");
    let report = patient.examine(&["--role", "worker"], "").await?;
    ensure!(report.find(("rabbitmq-user", "unknown", "alarm")).is_some(), "{report:#?}");
    Ok(())
}

/// A user with these permissions, and the address that it uses.
async fn user(
    servers: &Servers,
    place: &taskyard_tests::Place,
    name: &str,
    permissions: [&str; 3],
) -> anyhow::Result<String> {
    let [configure, write, read] = permissions;
    let rabbitmq = servers.rabbitmq();
    rabbitmq.rabbitmqctl(&["add_user", name, "secret"]).await?;
    let set = ["set_permissions", "-p", place.vhost(), name, configure, write, read];
    rabbitmq.rabbitmqctl(&set).await?;
    Ok(place.amqp_url().replace("guest:guest", &format!("{name}:secret")))
}

#[tokio::test]
async fn missing_and_superfluous_permissions_are_found() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    let place = servers.place().await?;
    let mut patient = Patient::at(&servers, &place);
    declare(&channel(place.amqp_url()).await?, "taskyard.dead").await?;
    let everything = user(&servers, &place, "everything", [".*"; 3]).await?;
    let nothing = user(&servers, &place, "nothing", ["^$"; 3]).await?;

    patient.amqp_url = nothing;
    for (role, expected) in [
        ("submitter", "nothing may not publish to taskyard.tasks"),
        ("submitter", "nothing may not have a queue of its own"),
        ("worker", "nothing may not publish to taskyard.heartbeats"),
        ("worker", "nothing may not bind a queue of its own to taskyard.control"),
        ("worker", "nothing may not consume taskyard.worker.w1"),
        ("dispatcher", "nothing may not publish to the default exchange"),
        ("dispatcher", "nothing may not consume taskyard.dead"),
    ] {
        let args = ["--role", role, "--worker-id", "w1"];
        let report = patient.examine(&args, "").await?;
        assert_eq!(report.code, Some(1), "{report:#?}");
        ensure!(report.find(("rabbitmq-user", "problem", expected)).is_some(), "{report:#?}");
    }
    // It may not declare either, so nothing can be compared.
    let report = patient.examine(&[], "").await?;
    ensure!(report.find(("queues", "unknown", "nothing may not declare")).is_some(), "{report:#?}");

    patient.amqp_url = everything;
    for role in ["submitter", "worker"] {
        let report = patient.examine(&["--role", role], "").await?;
        for part in ["to the default exchange", "to taskyard.again", "to taskyard.delay.0"] {
            ensure!(report.find(("rabbitmq-user", "warning", part)).is_some(), "{report:#?}");
        }
    }
    patient.amqp_url = place.amqp_url().replace("guest:guest", "guest:wrong");
    let report = patient.examine(&[], "").await?;
    assert_eq!(report.code, Some(69));
    let refused = report.find(("rabbitmq-reach", "problem", "refused"));
    refused.map(drop).context(format!("{report:#?}"))
}

/// The commands that are proposed have the regexes of docs/operations.md.
#[tokio::test]
async fn the_proposed_permissions_are_the_documented_ones() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    let place = servers.place().await?;
    let mut patient = Patient::at(&servers, &place);
    patient.amqp_url = user(&servers, &place, "nothing", ["^$"; 3]).await?;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    // A worker's row is about `w1`; workers that share a user have `worker\..*`.
    let document = std::fs::read_to_string(path)?.replace(r"worker\.w1", r"worker\..*");
    for role in ["submitter", "worker", "dispatcher"] {
        let report = patient.examine(&["--role", role], "").await?;
        let finding = report.find(("rabbitmq-user", "problem", "")).context("a problem")?;
        let fix = finding.fix.clone().unwrap_or_default();
        let regexes: Vec<&str> = fix.split('\'').skip(1).step_by(2).collect();
        let cells: Vec<String> =
            regexes.iter().map(|r| format!("`{}`", r.replace('|', r"\|"))).collect();
        ensure!(document.contains(&cells.join(" | ")), "{role}: {cells:?} are not documented");
    }
    Ok(())
}
