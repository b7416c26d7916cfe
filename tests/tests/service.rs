//! Health, readiness, metrics, TLS, and settings of the running programs.

use anyhow::ensure;
use std::process::Command;
use taskyard_tests::{EVENTUALLY, Servers, Submission, Yard, free_port, wait_until};

#[tokio::test]
async fn health_readiness_and_metrics_tell_what_is_so() -> anyhow::Result<()> {
    let yard =
        Yard::builder().dispatchers(2).worker(|w| w.id("w1").slots(2).builtin()).start().await?;
    let id = yard.submit(&Submission::of("echo", "counted")).await?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    let mut roles = Vec::new();
    for number in 0..2 {
        let (status, _) = yard.http_get(number, "/healthz").await?;
        ensure!(status == 200, "dispatcher {number} is not alive: {status}");
        let (status, body) = yard.http_get(number, "/readyz").await?;
        ensure!(status == 200, "dispatcher {number} is not ready: {status}");
        roles.push(body.trim().to_owned());
    }
    roles.sort();
    assert_eq!(roles, ["leading", "standing by"]);
    wait_until("the leader's counters show the task", EVENTUALLY, async || {
        let mut all = String::new();
        for number in 0..2 {
            all += &yard.http_get(number, "/metrics").await?.1;
        }
        for line in [
            "taskyard_tasks_accepted_total 1",
            "taskyard_tasks_finished_total{state=\"succeeded\"} 1",
            "taskyard_workers 1",
            "taskyard_slots 2",
            "taskyard_in_flight 0",
        ] {
            ensure!(all.lines().any(|found| found == line), "{line} is not in\n{all}");
        }
        anyhow::Ok(())
    })
    .await?;
    yard.finish()
}

#[tokio::test]
async fn a_dispatcher_without_redis_is_alive_and_not_ready() -> anyhow::Result<()> {
    let yard = Yard::builder().own_servers(Servers::builder()).dispatchers(1).start().await?;
    yard.servers().redis().kill9()?;
    wait_until("not ready", EVENTUALLY, async || {
        let (status, body) = yard.http_get(0, "/readyz").await?;
        ensure!(status == 503 && body.contains("Redis"), "{status} {body}");
        let (status, _) = yard.http_get(0, "/healthz").await?;
        ensure!(status == 200, "{status}");
        anyhow::Ok(())
    })
    .await?;
    yard.servers().redis().start().await?;
    wait_until("ready again", EVENTUALLY, async || {
        let (status, body) = yard.http_get(0, "/readyz").await?;
        ensure!(status == 200, "{status} {body}");
        anyhow::Ok(())
    })
    .await?;
    yard.discard();
    Ok(())
}

/// Asks a program for its health as a container's health check does.
fn probed(program: &str, http: &str, more: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
    let ran = Command::new(taskyard_tests::ours(program)?)
        .args(["--probe", "--http", http])
        .args(more)
        .env_clear()
        .output()?;
    let said = [ran.stdout, ran.stderr].concat();
    Ok((ran.status.code(), String::from_utf8_lossy(&said).trim().to_owned()))
}

#[tokio::test]
async fn probes_tell_whether_worker_and_dispatcher_are_of_use() -> anyhow::Result<()> {
    let http = format!("127.0.0.1:{}", free_port());
    let worker = async |code: Option<i32>, words: &str| {
        wait_until(words, EVENTUALLY, async || {
            let (got, said) = probed("taskyard-worker", &http, &["--builtin"])?;
            ensure!(got == code && said.contains(words), "{got:?} {said}");
            anyhow::Ok(())
        })
        .await
    };
    worker(Some(1), "nobody answers").await?;
    let yard = Yard::builder()
        .own_servers(Servers::builder())
        .dispatchers(1)
        .worker(|w| w.id("w1").builtin().program(|p| p.env("TASKYARD_HTTP", &http)))
        .start()
        .await?;
    worker(Some(0), "taking tasks").await?;
    assert_eq!(probed("taskyard-dispatcher", yard.http(0), &[])?, (Some(0), "leading".to_owned()));

    yard.servers().rabbitmq().kill9()?;
    worker(Some(1), "no tasks arrive").await?;
    wait_until("the dispatcher has seen it too", EVENTUALLY, async || {
        let (code, said) = probed("taskyard-dispatcher", yard.http(0), &[])?;
        ensure!(code == Some(1) && said == "no session with RabbitMQ", "{code:?} {said}");
        anyhow::Ok(())
    })
    .await?;
    yard.discard();
    Ok(())
}

#[tokio::test]
async fn everything_works_over_tls() -> anyhow::Result<()> {
    let yard = Yard::builder()
        .over_tls()
        .dispatchers(1)
        .worker(|w| w.id("w1").slots(2).builtin())
        .start()
        .await?;
    ensure!(yard.place().amqp_url().starts_with("amqp"), "{}", yard.place().amqp_url());
    let ran = yard.taskyard(&["submit", "echo", "--data", "sealed", "--wait"]).await?.ok()?;
    assert_eq!(ran, "sealed");
    yard.finish()
}

/// Runs the dispatcher with arguments that keep it from starting.
fn refused(args: &[&str]) -> (Option<i32>, String) {
    let program = taskyard_tests::ours("taskyard-dispatcher").expect("it has been built");
    let ran = Command::new(program).args(args).env_clear().output().expect("it runs");
    (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
}

#[test]
fn wrong_settings_are_all_told_at_once_and_end_with_64() {
    let (code, text) =
        refused(&["--order", "fastest", "--route", "nowhere", "--amqp-url", "http://x"]);
    assert_eq!(code, Some(64), "{text}");
    for part in ["fastest", "nowhere", "amqp://user:password@host", "fcfs", "weighted"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn settings_are_printed_without_passwords() {
    let program = taskyard_tests::ours("taskyard-dispatcher").expect("it has been built");
    let url = "amqp://me:secret1@host/%2f";
    let args = ["--print-config", "--amqp-url", url, "--redis-url", "redis://:secret2@host/0"];
    let ran = Command::new(program).args(args).env_clear().output().expect("it runs");
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{text}");
    assert!(text.contains("amqp://me:***@host"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}
