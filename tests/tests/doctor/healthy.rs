use crate::patient::{Patient, text};
use anyhow::ensure;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;
use taskyard_tests::{EVENTUALLY, Servers, Submission, Yard, ours};

/// A running yard on servers of its own, and the names of all queues before and after: the doctor
/// changes nothing.
#[tokio::test]
async fn a_healthy_yard_has_no_problems_and_stays_as_it_is() -> anyhow::Result<()> {
    let yard = Yard::builder()
        .own_servers(Servers::builder().management())
        .dispatchers(2)
        .worker(|w| w.id("w1").slots(2).builtin())
        .start()
        .await?;
    let id = yard.submit(&Submission::of("echo", "well")).await?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    let patient = Patient::at(yard.servers(), yard.place());
    let rabbitmq = yard.servers().rabbitmq();
    let environment = rabbitmq.rabbitmqctl(&["environment"]).await?;
    let queues = async || {
        let args = ["list_queues", "-p", yard.place().vhost(), "name", "arguments", "policy"];
        let listing = rabbitmq.rabbitmqctl(&args).await?;
        anyhow::Ok(listing.lines().map(str::to_owned).collect::<BTreeSet<_>>())
    };
    let keys = async || {
        let keys = yard.redis_cli(&["--scan"]).await?.ok()?;
        anyhow::Ok(keys.lines().map(str::to_owned).collect::<BTreeSet<_>>())
    };
    let before = (queues().await?, keys().await?);
    let expected = ("dispatchers", "ok", "each with somebody who stands by");
    for role in ["operator", "dispatcher"] {
        let args = ["--role", role, "--rabbitmq-environment", "-"];
        let report = patient.wait_for(&args, &environment, expected).await?;
        assert_eq!(report.code, Some(0), "{report:#?}");
        // What a private server of a test is: one node, and a user that everybody knows.
        let complaints: Vec<&str> = report.complaints().iter().map(|(check, ..)| *check).collect();
        assert_eq!(complaints, ["rabbitmq-cluster", "rabbitmq-user"], "{report:#?}");
        let unknown = report.findings.iter().find(|f| f.verdict == "unknown");
        ensure!(unknown.is_none(), "{unknown:?}");
    }
    assert_eq!((queues().await?, keys().await?), before, "it changed something");
    // It holds nothing back either: everything is still at work.
    let id = yard.submit(&Submission::of("echo", "still well")).await?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    yard.finish()
}

#[tokio::test]
async fn where_no_dispatcher_has_run_yet_servers_are_judged_and_nothing_is_made()
-> anyhow::Result<()> {
    let servers = Servers::shared().await?;
    let place = servers.place().await?;
    let patient = Patient::at(servers, &place);
    let report = patient.examine(&[], "").await?;
    assert_eq!(report.code, Some(0), "{report:#?}");
    for expected in [
        ("queues", "ok", "no dispatcher has run yet"),
        ("dispatchers", "ok", "no dispatcher has run yet"),
        ("policies", "unknown", "--management-url is not given"),
        ("bindings", "unknown", "--management-url is not given"),
        ("rabbitmq-cluster", "unknown", "--management-url is not given"),
        ("rabbitmq-consumer-timeout", "unknown", "not to be seen"),
        ("rabbitmq-version", "ok", "RabbitMQ"),
        ("redis-version", "ok", "7."),
    ] {
        ensure!(report.find(expected).is_some(), "{expected:?} is not in {report:#?}");
    }
    let queues = ["list_queues", "-p", place.vhost(), "--no-table-headers", "name"];
    assert_eq!(servers.rabbitmq().rabbitmqctl(&queues).await?.trim(), "");
    Ok(())
}

#[tokio::test]
async fn everything_is_asked_over_tls() -> anyhow::Result<()> {
    let servers = Servers::builder().tls().management().start().await?;
    let place = servers.place().await?;
    let mut patient = Patient::at(&servers, &place);
    patient.amqp_url = place.amqps_url().unwrap_or_default().to_owned();
    patient.redis_url = place.rediss_url().unwrap_or_default().to_owned();
    patient.ca_file = servers.ca_file().map(ToOwned::to_owned);
    let report = patient.wait_for(&[], "", ("policies", "ok", "no policy")).await?;
    assert_eq!(report.code, Some(0), "{report:#?}");
    ensure!(report.find(("rabbitmq-version", "ok", "RabbitMQ")).is_some(), "{report:#?}");
    Ok(())
}

#[tokio::test]
async fn what_is_away_is_out_of_reach() -> anyhow::Result<()> {
    let servers = Servers::start().await?;
    let place = servers.place().await?;
    let patient = Patient::at(&servers, &place);
    servers.redis().kill9()?;
    let report = patient.examine(&[], "").await?;
    assert_eq!(report.code, Some(69));
    ensure!(report.find(("redis-reach", "problem", "redis")).is_some(), "{report:#?}");
    ensure!(report.find(("rabbitmq-reach", "ok", "guest")).is_some(), "{report:#?}");
    // Workers have none.
    let report = patient.examine(&["--role", "worker"], "").await?;
    assert_eq!(report.code, Some(0), "{report:#?}");
    servers.redis().start().await?;
    servers.rabbitmq().kill9()?;
    let report = patient.examine(&[], "").await?;
    assert_eq!(report.code, Some(69));
    ensure!(report.find(("rabbitmq-reach", "problem", "no broker")).is_some(), "{report:#?}");
    ensure!(report.find(("redis-reach", "ok", "")).is_some(), "{report:#?}");
    Ok(())
}

#[tokio::test]
async fn people_read_lines_with_reasons_and_remedies() -> anyhow::Result<()> {
    let servers = Servers::shared().await?;
    let place = servers.place().await?;
    let mut command = Command::new(ours("taskyard")?);
    command.env_clear().arg("doctor");
    command.args(["--amqp-url", place.amqp_url(), "--redis-url", place.redis_url()]);
    let ran = command.output()?;
    let (stdout, stderr) = (String::from_utf8(ran.stdout)?, String::from_utf8(ran.stderr)?);
    for part in ["warning  rabbitmq-user", "why: ", "fix: rabbitmqctl", "ok       redis-memory"] {
        ensure!(stdout.contains(part), "{part} is not in\n{stdout}");
    }
    assert_eq!(stderr, "problems: 0, warnings: 1\n");
    Ok(())
}

#[tokio::test]
async fn wrong_options_are_usage_errors() -> anyhow::Result<()> {
    let run = async |args: &[&str]| {
        let mut command = Command::new(ours("taskyard")?);
        anyhow::Ok(command.env_clear().arg("doctor").args(args).output()?)
    };
    for args in [
        ["--role", "king"],
        ["--management-url", "rabbit:15672"],
        ["--rabbitmq-environment", "/nowhere"],
        ["--rabbitmq-environment", "/dev/null"],
    ] {
        assert_eq!(run(&args).await?.status.code(), Some(64), "{args:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_list_of_checks_says_why_each_is_there() -> anyhow::Result<()> {
    let ran = Command::new(ours("taskyard")?).args(["doctor", "--list", "--json"]).output()?;
    let listed = String::from_utf8(ran.stdout)?;
    let checks: Vec<Value> = listed.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(checks.len() > 15, "{listed}");
    for check in &checks {
        for name in ["check", "looks_at", "why", "mend"] {
            ensure!(!text(check, name).is_empty(), "{check} says no {name}");
        }
    }
    Ok(())
}
