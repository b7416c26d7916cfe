//! What tasks log, from the handler to the command line.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use redis::cmd;
use serde_json::{Value, json};
use taskyard_tests::{EVENTUALLY, Process, Servers, Submission, Yard, ours, wait_until};

async fn small_yard() -> anyhow::Result<Yard> {
    Yard::builder().worker(|w| w.id("w1").slots(4).builtin()).start().await
}

/// A task that logs these lines, and then runs for so long.
fn logging(id: &str, ms: u32, lines: &[String]) -> Submission {
    Submission::of("sleep", json!({ "ms": ms, "log": lines }).to_string()).id(id)
}

fn line(text: &str) -> [String; 1] {
    [text.to_owned()]
}

/// The lines that `taskyard logs` prints, as JSON.
async fn log(yard: &Yard, args: &[&str]) -> anyhow::Result<Vec<Value>> {
    let said = yard.taskyard(&[&["logs", "--json"], args].concat()).await?.ok()?;
    said.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Waits until the log of a task has so many lines; all of them.
async fn wait_log(yard: &Yard, id: &str, count: usize) -> anyhow::Result<Vec<Value>> {
    wait_until(&format!("{count} lines of {id}"), EVENTUALLY, async || {
        let lines = log(yard, &[id]).await?;
        ensure!(lines.len() == count, "{lines:?}");
        Ok(lines)
    })
    .await
}

fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["text"].as_str().unwrap_or_default()).collect()
}

/// Publishes a `log` report, as a worker of another make does, or a liar.
async fn report(yard: &Yard, id: &str, attempt: i32, text: &[u8]) -> anyhow::Result<()> {
    let mut headers = FieldTable::default();
    headers.insert("x-task-attempt".into(), AMQPValue::LongInt(attempt));
    let properties = BasicProperties::default()
        .with_type("log".into())
        .with_message_id(id.into())
        .with_headers(headers);
    yard.submit_raw("taskyard.outcomes", "default", properties, text).await.map(drop)
}

async fn log_exists(yard: &Yard, id: &str) -> anyhow::Result<bool> {
    yard.redis(cmd("EXISTS").arg(format!("{{taskyard:task:{id}}}:log"))).await
}

/// `taskyard logs --follow`, which prints into a file.
fn follower(yard: &Yard, id: &str) -> anyhow::Result<Process> {
    let mut command = Command::new(ours("taskyard")?);
    command
        .args(["logs", "-f", id, "--amqp-url", yard.place().amqp_url()])
        .args(["--redis-url", yard.place().redis_url()]);
    let process = Process::new("follower", &yard.folder().join("follower.log"), command)?;
    process.start()?;
    Ok(process)
}

#[tokio::test]
async fn lines_are_printed_in_order_with_time_and_worker() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let lines = ["one", "two\nthree", "\u{1b}[31mred", "café"].map(str::to_owned);
    yard.submit(&logging("t1", 0, &lines)).await?;
    let task = yard.wait_state("t1", "succeeded", EVENTUALLY).await?;
    let lines = wait_log(&yard, "t1", 5).await?;
    assert_eq!(texts(&lines), ["one", "two", "three", "\u{1b}[31mred", "café"]);
    for line in &lines {
        assert_eq!((&line["attempt"], &line["worker"]), (&json!(1), &json!("w1")));
        let at = line["at"].as_i64().context("an instant")?;
        assert!(
            (task.number("submitted_at") - 1_000..task.number("finished_at") + 1_000).contains(&at)
        );
    }

    let shown = yard.taskyard(&["logs", "t1", "--tail", "2"]).await?.ok()?;
    let shown: Vec<_> = shown.lines().collect();
    assert!(
        shown[0].ends_with("Z 1 w1 ␛[31mred") && shown[1].ends_with("Z 1 w1 café"),
        "{shown:?}"
    );
    let none = yard.taskyard(&["logs", "t1", "--attempt", "2"]).await?;
    assert_eq!(
        (none.code, none.stdout.as_str(), none.stderr.as_str()),
        (Some(0), "", "no lines\n")
    );
    yard.finish()
}

#[tokio::test]
async fn a_python_worker_logs_each_attempt() -> anyhow::Result<()> {
    let yard = Yard::builder().start().await?;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/worker.py");
    let worker = yard.python_process("py1", &example)?;
    worker.start()?;
    let task = Submission::of("py.fail", "2").id("t1").text("x-task-backoff", "fixed:100");
    yard.submit(&task).await?;
    yard.wait_state("t1", "succeeded", EVENTUALLY).await?;
    let lines = wait_log(&yard, "t1", 3).await?;
    let attempts: Vec<_> = lines.iter().map(|line| line["attempt"].as_i64()).collect();
    assert_eq!(attempts, [Some(1), Some(2), Some(3)]);
    assert_eq!(texts(&lines), ["py.fail begins"; 3]);
    assert_eq!(lines[0]["worker"], "py1");
    let second = log(&yard, &["t1", "--attempt", "2"]).await?;
    assert_eq!(second, lines[1..2]);
    yard.finish()
}

#[tokio::test]
async fn who_follows_sees_lines_while_it_runs_and_how_it_ends() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    yard.submit(&logging("long", 600_000, &line("it has begun"))).await?;
    yard.wait_state("long", "running", EVENTUALLY).await?;
    let follower = follower(&yard, "long")?;
    wait_until("the line", EVENTUALLY, async || {
        let printed = follower.log();
        ensure!(printed.contains("it has begun"), "{printed}");
        anyhow::Ok(())
    })
    .await?;
    assert!(follower.is_running()?, "{}", follower.log());
    report(&yard, "long", 1, b"and goes on").await?;
    wait_until("the next line", EVENTUALLY, async || {
        let printed = follower.log();
        ensure!(printed.contains("and goes on"), "{printed}");
        anyhow::Ok(())
    })
    .await?;
    yard.taskyard(&["cancel", "long"]).await?.ok()?;
    let status = follower.wait_exit(EVENTUALLY).await?;
    assert_eq!(status.code(), Some(1), "{}", follower.log());
    assert!(follower.log().contains("task long ended as cancelled"), "{}", follower.log());

    yard.submit(&logging("short", 100, &line("last"))).await?;
    yard.wait_state("short", "succeeded", EVENTUALLY).await?;
    let ran = yard.taskyard(&["logs", "--follow", "short"]).await?;
    assert_eq!(ran.stderr, "task short ended as succeeded\n");
    assert!(ran.ok()?.ends_with(" 1 w1 last\n"));
    yard.finish()
}

#[tokio::test]
async fn unknown_tasks_are_said_to_be_unknown() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    for args in [&["logs", "nobody"][..], &["logs", "-f", "nobody"]] {
        let ran = yard.taskyard(args).await?;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""), "{ran:?}");
        assert!(ran.stderr.contains("no such task: nobody"), "{ran:?}");
    }
    yard.finish()
}

#[tokio::test]
async fn reports_of_others_are_mended_and_those_about_nothing_leave_nothing() -> anyhow::Result<()>
{
    let yard = small_yard().await?;
    yard.submit(&Submission::of("echo", "").id("known")).await?;
    yard.wait_state("known", "succeeded", EVENTUALLY).await?;
    report(&yard, "nobody", 1, b"a lie").await?;
    report(&yard, "known", 1, b"").await?;
    report(&yard, "known", 7, b"br\xffken\r\n").await?;
    report(&yard, "known", 7, &[b'x'; 10_000]).await?;
    let lines = wait_log(&yard, "known", 2).await?;
    let texts = texts(&lines);
    assert_eq!((texts[0], &lines[0]["attempt"]), ("br\u{fffd}ken", &json!(7)));
    assert!(texts[1].len() <= 4_096 && texts[1].ends_with(" bytes more)"), "{}", texts[1]);
    // It came before these.
    assert!(!log_exists(&yard, "nobody").await?);
    assert_eq!(yard.state("nobody").await?.state(), "");
    yard.finish()
}

#[tokio::test]
async fn a_flood_of_lines_is_capped_and_delays_no_outcome() -> anyhow::Result<()> {
    const FLOODS: usize = 3;
    let yard = small_yard().await?;
    let other = async || {
        let began = Instant::now();
        let id = yard.submit(&Submission::of("echo", "through")).await?;
        yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
        anyhow::Ok(began.elapsed())
    };
    let mut calm = Duration::ZERO;
    for _ in 0..10 {
        calm = calm.max(other().await?);
    }
    let lines: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    let mut slowest = Duration::ZERO;
    for n in 0..FLOODS {
        yard.submit(&logging(&format!("flood-{n}"), 0, &lines)).await?;
        for _ in 0..10 {
            slowest = slowest.max(other().await?);
        }
    }
    // All the lines would take a minute.
    ensure!(slowest < calm + Duration::from_secs(5), "{slowest:?}; before the flood {calm:?}");
    for n in 0..FLOODS {
        let id = format!("flood-{n}");
        yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
        wait_until("the last line", EVENTUALLY, async || {
            let lines = log(&yard, &[&id]).await?;
            let texts = texts(&lines);
            ensure!(texts.last() == Some(&"99999"), "{:?}", texts.last());
            ensure!(texts.len() <= 1_000, "{} lines", texts.len());
            let says_so = texts.iter().any(|text| text.starts_with("(lines dropped here: "));
            ensure!(says_so || texts.len() == 1_000, "nothing says that lines are missing");
            anyhow::Ok(())
        })
        .await?;
    }
    yard.finish()
}

#[tokio::test]
async fn a_log_is_remembered_as_long_as_its_task() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let task = logging("t1", 1_000, &line("long before its end")).number("x-task-keep", 600_000);
    yard.submit(&task).await?;
    wait_log(&yard, "t1", 1).await?;
    yard.wait_state("t1", "succeeded", EVENTUALLY).await?;
    wait_until("the log expires", EVENTUALLY, async || {
        let left: i64 = yard.redis(cmd("PTTL").arg("{taskyard:task:t1}:log")).await?;
        let of_task: i64 = yard.redis(cmd("PTTL").arg("taskyard:task:t1")).await?;
        ensure!(left > 0 && (of_task - left).abs() < 10_000, "{left} ms, the task {of_task} ms");
        anyhow::Ok(())
    })
    .await?;
    // A task that logs nothing costs nothing.
    yard.submit(&Submission::of("echo", "").id("quiet")).await?;
    yard.wait_state("quiet", "succeeded", EVENTUALLY).await?;
    assert!(!log_exists(&yard, "quiet").await?);
    yard.finish()
}

#[tokio::test]
async fn lines_wait_for_redis_and_nothing_waits_for_them() -> anyhow::Result<()> {
    let yard = Yard::builder()
        .own_servers(Servers::builder())
        .worker(|w| w.id("w1").slots(4).builtin())
        .start()
        .await?;
    yard.submit(&logging("runs", 600_000, &line("before"))).await?;
    yard.wait_state("runs", "running", EVENTUALLY).await?;
    wait_log(&yard, "runs", 1).await?;
    // It writes its file, and hangs up instead of answering.
    let _ = yard.redis::<()>(&cmd("SHUTDOWN")).await;
    yard.servers().redis().process().wait_exit(EVENTUALLY).await?;
    for n in 0..200 {
        report(&yard, "runs", 1, format!("meanwhile {n}\n").repeat(10_000).as_bytes()).await?;
    }
    yard.submit(&Submission::of("echo", "").id("meanwhile")).await?;
    wait_until("more lines than can wait", EVENTUALLY, async || {
        let (_, metrics) = yard.http_get(0, "/metrics").await?;
        let name = "taskyard_log_reports_dropped_total ";
        let dropped = metrics.lines().find_map(|line| line.strip_prefix(name));
        ensure!(dropped.is_some_and(|count| count != "0"), "{dropped:?}");
        Ok(())
    })
    .await?;
    yard.servers().redis().start().await?;
    yard.wait_state("meanwhile", "succeeded", EVENTUALLY).await?;
    report(&yard, "runs", 1, b"after").await?;
    wait_until("lines are kept again", EVENTUALLY, async || {
        let lines = log(&yard, &["runs", "--tail", "1"]).await?;
        if texts(&lines) != ["after"] {
            // Those that wait may leave no room for it yet.
            report(&yard, "runs", 1, b"after").await?;
            anyhow::bail!("{lines:?}");
        }
        Ok(())
    })
    .await?;
    yard.taskyard(&["cancel", "runs"]).await?.ok()?;
    yard.wait_state("runs", "cancelled", EVENTUALLY).await?;
    yard.expect_warnings("Redis does not answer");
    yard.expect_warnings("connection to redis given up");
    yard.finish()
}
