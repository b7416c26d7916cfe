//! Clients and workers of other makes, as their users would write them.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use taskyard_tests::{EVENTUALLY, Process, Submission, Yard, wait_until};

async fn small_yard() -> anyhow::Result<Yard> {
    Yard::builder().worker(|w| w.id("w1").slots(2).builtin()).start().await
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(name)
}

/// A worker in Python that the dispatcher knows.
async fn python_worker(yard: &Yard, id: &str) -> anyhow::Result<Process> {
    let process = yard.python_process(id, &example("worker.py"))?;
    process.start()?;
    wait_until(&format!("{id} is up"), EVENTUALLY, async || {
        let state = yard.worker_field(id, "state").await?;
        let is_at_work = process.log().contains("is at work") && process.is_running()?;
        ensure!(state == "up" && is_at_work, "{state:?}: {}", process.log_tail(20));
        anyhow::Ok(())
    })
    .await?;
    Ok(process)
}

async fn field(yard: &Yard, id: &str, name: &str) -> anyhow::Result<String> {
    let shown = yard.redis_cli(&["HGET", &format!("taskyard:task:{id}"), name]).await?.ok()?;
    Ok(shown.trim_end_matches('\n').to_owned())
}

#[tokio::test]
async fn a_shell_submits_and_looks() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let args = ["-e", "taskyard.tasks", "-r", "echo", "-b", r#"{"file":"a.png"}"#, "-p"];
    yard.amqp_publish(&args).await?.ok()?;
    let id = wait_until("its id", EVENTUALLY, async || {
        let recent = yard.redis_cli(&["ZRANGE", "taskyard:recent:succeeded", "0", "-1"]).await?;
        let id = recent.ok()?.trim().to_owned();
        ensure!(!id.is_empty(), "none has succeeded");
        anyhow::Ok(id)
    })
    .await?;
    assert_eq!(field(&yard, &id, "state").await?, "succeeded");
    assert_eq!(field(&yard, &id, "kind").await?, "echo");
    assert_eq!(field(&yard, &id, "result").await?, r#"{"file":"a.png"}"#);

    // Every header of amqp-publish is a text.
    let args = ["-e", "taskyard.tasks", "-r", "fail", "-b", r#"{"permanent":true}"#];
    let headers = ["-H", "x-task-max-attempts: 3", "-H", "x-task-tenant: shell"];
    yard.amqp_publish(&[&args[..], &headers].concat()).await?.ok()?;
    let id = wait_until("the failed one", EVENTUALLY, async || {
        let recent = yard.redis_cli(&["ZRANGE", "taskyard:recent:failed", "0", "-1"]).await?;
        let id = recent.ok()?.trim().to_owned();
        ensure!(!id.is_empty(), "none has failed");
        anyhow::Ok(id)
    })
    .await?;
    assert_eq!(field(&yard, &id, "max_attempts").await?, "3");
    assert_eq!(field(&yard, &id, "tenant").await?, "shell");
    yard.finish()
}

#[tokio::test]
async fn pika_submits_with_all_types_of_headers() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let script = "
import os, pika
connection = pika.BlockingConnection(pika.URLParameters(os.environ['TASKYARD_AMQP_URL']))
channel = connection.channel()
channel.confirm_delivery()
headers = {
    'x-task-delay': 200, 'x-task-max-attempts': '7', 'x-task-timeout': 2**40 // 10**4,
    'x-task-tenant': 'café', 'mine': {'deep': [1, None, True, 'x']},
}
properties = pika.BasicProperties(
    message_id='p1', priority=5, delivery_mode=2, headers=headers, content_type='text/plain',
    timestamp=1700000000, app_id='test', user_id='guest')
channel.basic_publish('taskyard.tasks', 'echo', b'typed', properties, mandatory=True)
";
    yard.python(script, &[]).await?.ok()?;
    let task = yard.wait_state("p1", "succeeded", EVENTUALLY).await?;
    assert_eq!((task.text("result"), task.text("tenant")), ("typed".into(), "café".into()));
    assert_eq!((task.number("priority"), task.number("max_attempts")), (5, 7));
    let waited = task.number("dispatched_at") - task.number("submitted_at");
    assert!(waited >= 200, "{waited} ms");
    yard.finish()
}

#[tokio::test]
async fn the_example_client_submits_and_waits() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let script = std::fs::read_to_string(example("submit.py"))?;
    let said = yard.python(&script, &["echo", "hello"]).await?.ok()?;
    let (answer, result) = said.split_once('\n').context("two lines")?;
    let (id, state) = answer.trim().split_once(' ').context("id and state")?;
    assert_eq!((state, result), ("succeeded", "hello\n"));
    assert_eq!(field(&yard, id, "state").await?, "succeeded");
    let ran = yard.python(&script, &["fail", r#"{"permanent":true}"#]).await?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains(" failed fails for good"), "{ran:?}");
    yard.finish()
}

#[tokio::test]
async fn the_example_worker_succeeds_fails_and_retries() -> anyhow::Result<()> {
    let yard = Yard::builder().start().await?;
    let worker = python_worker(&yard, "py1").await?;
    let upper = yard.submit(&Submission::of("py.upper", "quiet")).await?;
    let fails = Submission::of("py.fail", "2").text("x-task-backoff", "fixed:100");
    let fails = yard.submit(&fails).await?;
    let wrong = yard.submit(&Submission::of("py.unknown", "")).await?;

    let task = yard.wait_state(&upper, "succeeded", EVENTUALLY).await?;
    assert_eq!((task.text("result"), task.text("worker")), ("QUIET".into(), "py1".into()));
    let task = yard.wait_state(&fails, "succeeded", EVENTUALLY).await?;
    assert_eq!((task.number("attempt"), task.number("failures")), (3, 2));
    assert_eq!(task.text("result"), "at last");
    let task = yard.wait_state(&wrong, "failed", EVENTUALLY).await?;
    assert_eq!((task.number("attempt"), task.number("failures")), (1, 1));
    assert_eq!(task.text("error"), "no such kind: py.unknown");
    assert!(worker.is_running()?, "{}", worker.log());
    yard.finish()
}

#[tokio::test]
async fn tasks_of_a_killed_example_worker_run_elsewhere() -> anyhow::Result<()> {
    let yard = Yard::builder().start().await?;
    let worker = python_worker(&yard, "py1").await?;
    let runs = yard.submit(&Submission::of("py.sleep", "60")).await?;
    let task = yard.wait_state(&runs, "running", EVENTUALLY).await?;
    assert_eq!(task.text("worker"), "py1");
    worker.kill9()?;
    yard.submit(&Submission::of("py.upper", "waits").id("waits")).await?;
    let _other = python_worker(&yard, "py2").await?;

    // What had not begun costs nothing; what ran is charged when its worker has been silent for 30 s.
    let task = yard.wait_state("waits", "succeeded", EVENTUALLY).await?;
    assert_eq!((task.text("worker"), task.number("losses")), ("py2".into(), 0));
    let task = wait_until("the lost one runs again", EVENTUALLY * 2, async || {
        let task = yard.state(&runs).await?;
        ensure!(task.state() == "running" && task.number("attempt") == 2, "{task:?}");
        anyhow::Ok(task)
    })
    .await?;
    assert_eq!((task.text("worker"), task.number("losses")), ("py2".into(), 1));
    yard.expect_warnings("worker lost");
    yard.expect_warnings("a worker was lost while it ran a task");
    yard.finish()
}

#[tokio::test]
async fn an_orphan_is_returned_by_the_next_life_of_the_example_worker() -> anyhow::Result<()> {
    let yard = Yard::builder().start().await?;
    let worker = python_worker(&yard, "py1").await?;
    let id = yard.submit(&Submission::of("py.sleep", "5")).await?;
    yard.wait_state(&id, "running", EVENTUALLY).await?;
    worker.kill9()?;
    worker.start()?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY * 2).await?;
    assert_eq!((task.number("attempt"), task.number("losses")), (2, 1), "{}", worker.log());
    assert_eq!((task.number("failures"), task.text("worker")), (0, "py1".into()));
    yard.expect_warnings("a worker was lost while it ran a task");
    yard.finish()
}
