//! The command line against a whole system.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use taskyard_tests::{EVENTUALLY, Servers, Submission, Yard, wait_until};
use tokio::io::AsyncWriteExt;

async fn small_yard() -> anyhow::Result<Yard> {
    Yard::builder().worker(|w| w.id("w1").slots(4).builtin()).start().await
}

fn lines(text: &str) -> anyhow::Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
}

fn write(yard: &Yard, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = yard.folder().join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

#[tokio::test]
async fn submit_prints_an_id_that_status_and_result_know() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let id = yard.taskyard(&["submit", "echo", "--data", "hello"]).await?.ok()?;
    let id = id.trim_end();
    let waited = yard.taskyard(&["result", id, "--wait"]).await?;
    assert_eq!((waited.stdout.as_str(), waited.stderr.as_str()), ("hello", ""));

    let shown = yard.taskyard(&["status", id]).await?.ok()?;
    assert!(shown.contains("succeeded") && shown.contains("echo"), "{shown}");
    assert!(!shown.contains('\x1b'), "{shown}");
    let status = yard.taskyard(&["status", id, "--json"]).await?.ok()?;
    let status = &lines(&status)?[0];
    assert_eq!(status["id"], id);
    assert_eq!(status["state"], "succeeded");
    assert_eq!(status["attempt"], 1);
    assert_eq!(status["result"], "hello");
    assert_eq!(status["next_at"], Value::Null);
    assert!(status["finished_at"].is_u64());
    yard.finish()
}

#[tokio::test]
async fn wait_prints_the_result_raw_and_exits_by_state() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let path = yard.folder().join("bytes");
    std::fs::write(&path, [b'a', b'\n', b'b'])?;
    let file = path.to_str().context("a path of ours is UTF-8")?;
    let ran = yard.taskyard(&["submit", "echo", "--file", file, "--wait"]).await?;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "a\nb"));
    assert_eq!(ran.stderr, "");

    let permanent = r#"{"permanent":true}"#;
    let ran = yard.taskyard(&["submit", "fail", "--data", permanent, "--wait"]).await?;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("failed"), "{}", ran.stderr);

    let args = ["submit", "fail", "--data", permanent, "--id", "f1", "--wait", "--json"];
    let ran = yard.taskyard(&args).await?;
    assert_eq!(ran.code, Some(1));
    let outcome = &lines(&ran.stdout)?[0];
    assert_eq!((&outcome["id"], &outcome["state"]), (&"f1".into(), &"failed".into()));
    assert_eq!(outcome["result"], Value::Null);
    let ran = yard.taskyard(&["result", "f1"]).await?;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));

    let args = ["submit", "sleep", "--data", r#"{"ms":20000}"#, "--wait", "--wait-timeout", "1s"];
    let ran = yard.taskyard(&[&args[..], &["--id", "slow"]].concat()).await?;
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("slow") && ran.stderr.contains("--wait"), "{}", ran.stderr);
    assert_eq!(yard.taskyard(&["result", "slow"]).await?.code, Some(2));
    yard.finish()
}

#[tokio::test]
async fn unknown_tasks_are_said_to_be_unknown() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    for args in [["status", "nobody"], ["result", "nobody"], ["cancel", "nobody"]] {
        let ran = yard.taskyard(&args).await?;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""), "{args:?} {}", ran.stderr);
        assert!(ran.stderr.contains("no such task"), "{}", ran.stderr);
    }
    let ran = yard.taskyard(&["status", "nobody", "--json"]).await?;
    assert_eq!(lines(&ran.stdout)?[0]["state"], Value::Null);
    let ran = yard.taskyard(&["dead", "show", "nobody"]).await?;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    yard.finish()
}

#[tokio::test]
async fn every_option_reaches_the_task() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let options = [
        "submit",
        "echo",
        "--data",
        "x",
        "--id",
        "o1",
        "--priority",
        "7",
        "--delay",
        "200ms",
        "--expires",
        "1h",
        "--timeout",
        "10s",
        "--max-attempts",
        "3",
        "--backoff",
        "fixed:10",
        "--max-losses",
        "2",
        "--tenant",
        "shop",
        "--slots",
        "2",
        "--deadline",
        "+1h",
        "--estimate",
        "5ms",
        "--keep",
        "2h",
        "--content-type",
        "text/plain",
        "--header",
        "mine=1",
        "--traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ];
    yard.taskyard(&options).await?.ok()?;
    let task = yard.wait_state("o1", "succeeded", EVENTUALLY).await?;
    assert_eq!((task.number("priority"), task.text("tenant")), (7, "shop".to_owned()));
    assert_eq!((task.number("max_attempts"), task.number("max_losses")), (3, 2));
    let waited_ms = task.number("dispatched_at") - task.number("submitted_at");
    assert!(waited_ms >= 200, "{waited_ms} ms");
    let args = ["submit", "echo", "--id", "o2", "--requires", "moon"];
    yard.taskyard(&args).await?.ok()?;
    yard.wait_state("o2", "queued", EVENTUALLY).await?;
    yard.finish()
}

#[tokio::test]
async fn a_file_of_payloads_becomes_a_task_for_each_line() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let text: String = (1..=2_500).map(|n| format!("line {n}\n")).collect();
    let path = write(&yard, "lines", &text)?;
    let file = path.to_str().context("a path of ours is UTF-8")?;
    let args = ["submit", "echo", "--ndjson", file, "--id-prefix", "l-", "--json"];
    let reported = lines(&yard.taskyard(&args).await?.ok()?)?;
    let (summary, reported) = reported.split_last().context("there is a summary")?;
    assert_eq!(summary["summary"]["accepted"], 2_500);
    assert!(reported.iter().all(|line| line["ok"] == true));
    assert_eq!(reported.len(), 2_500);
    let ids: Vec<String> = (1..=2_500).map(|n| format!("l-{n}")).collect();
    yard.wait_all(&ids, "succeeded", EVENTUALLY).await?;
    let task = yard.state("l-1234").await?;
    assert_eq!(task.bytes("result"), b"line 1234");
    // Once more: nothing changes.
    let again = yard.taskyard(&["submit", "echo", "--ndjson", file, "--id-prefix", "l-"]).await?;
    assert!(again.ok()?.starts_with("2500 of 2500 tasks accepted"));
    assert_eq!(yard.state("l-1234").await?.number("attempt"), 1);
    yard.finish()
}

#[tokio::test]
async fn wrong_lines_are_named_and_harm_no_other() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let text = concat!(
        r#"{"kind":"echo","id":"n1","data":{"b":1,"a":[2.50]}}"#,
        "\n",
        "\n",
        "{not json\n",
        r#"{"kind":"echo","id":"n2","data":"plain","priority":3,"max_attempts":2}"#,
        "\n",
        r#"{"kind":"echo","id":"n3","priority":12}"#,
        "\n",
        r#"{"kind":"echo","id":"n4","data_base64":"AAH/","delay":"100ms"}"#,
    );
    let path = write(&yard, "tasks.ndjson", text)?;
    let file = path.to_str().context("a path of ours is UTF-8")?;
    let ran = yard.taskyard(&["submit", "--ndjson", file]).await?;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("line 3: ") && ran.stderr.contains("line 5: "), "{}", ran.stderr);
    assert!(ran.stdout.starts_with("3 of 5 tasks accepted, 2 not accepted"), "{}", ran.stdout);
    let ids = ["n1", "n2", "n4"].map(String::from);
    yard.wait_all(&ids, "succeeded", EVENTUALLY).await?;
    assert_eq!(yard.state("n1").await?.bytes("result"), br#"{"b":1,"a":[2.50]}"#);
    assert_eq!(yard.state("n2").await?.bytes("result"), b"plain");
    assert_eq!(yard.state("n2").await?.number("max_attempts"), 2);
    assert_eq!(yard.state("n4").await?.bytes("result"), &[0, 1, 255]);
    yard.finish()
}

#[tokio::test]
async fn lists_show_tasks_workers_and_counts() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    yard.submit(&Submission::of("echo", "1").id("e1")).await?;
    yard.submit(&Submission::of("fail", r#"{"permanent":true}"#).id("f1")).await?;
    yard.wait_state("e1", "succeeded", EVENTUALLY).await?;
    yard.wait_state("f1", "failed", EVENTUALLY).await?;
    wait_until("both in the lists", EVENTUALLY, async || {
        let listed = lines(&yard.taskyard(&["ls", "--json"]).await?.ok()?)?;
        ensure!(listed.len() == 2, "{listed:?}");
        anyhow::Ok(())
    })
    .await?;
    let failed = lines(&yard.taskyard(&["ls", "--state", "failed", "--json"]).await?.ok()?)?;
    assert_eq!((failed.len(), &failed[0]["id"]), (1, &"f1".into()));
    let echoes = lines(&yard.taskyard(&["ls", "--kind", "ec*", "--json"]).await?.ok()?)?;
    assert_eq!(echoes.len(), 0, "* is a word, not a part of one");
    let echoes = lines(&yard.taskyard(&["ls", "--kind", "echo", "--json"]).await?.ok()?)?;
    assert_eq!((echoes.len(), &echoes[0]["id"]), (1, &"e1".into()));
    let table = yard.taskyard(&["ls"]).await?.ok()?;
    assert!(table.starts_with("ID ") && table.lines().count() == 3, "{table}");
    yard.submit(&Submission::of("nobody.takes.it", "").id("q1")).await?;
    yard.wait_state("q1", "queued", EVENTUALLY).await?;
    let ids = |states: &'static str| {
        let yard = &yard;
        async move {
            let listed = lines(&yard.taskyard(&["ls", "--state", states, "--json"]).await?.ok()?)?;
            anyhow::Ok(listed.iter().map(|task| task["id"].to_string()).collect::<Vec<_>>())
        }
    };
    assert_eq!(ids("queued").await?, ["\"q1\""]);
    assert_eq!(ids("queued,failed").await?, ["\"q1\"", "\"f1\""]);
    assert_eq!(ids("running").await?, [""; 0]);

    let workers = lines(&yard.taskyard(&["workers", "--json"]).await?.ok()?)?;
    assert_eq!((&workers[0]["id"], &workers[0]["slots"]), (&"w1".into(), &4.into()));
    let table = yard.taskyard(&["workers"]).await?.ok()?;
    assert!(table.contains("w1") && table.contains("up"), "{table}");

    wait_until("counted", EVENTUALLY, async || {
        let stats = lines(&yard.taskyard(&["stats", "--json"]).await?.ok()?)?;
        ensure!(stats.len() == 1 && stats[0]["pool"] == "default", "{stats:?}");
        ensure!(stats[0]["succeeded"] == 1 && stats[0]["failed"] == 1, "{stats:?}");
        anyhow::Ok(())
    })
    .await?;
    yard.finish()
}

#[tokio::test]
async fn cancel_ends_a_task_that_waits_and_one_that_runs() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    yard.taskyard(&["submit", "echo", "--id", "c1", "--delay", "1h"]).await?.ok()?;
    yard.wait_state("c1", "delayed", EVENTUALLY).await?;
    let args = ["submit", "sleep", "--data", r#"{"ms":60000}"#, "--id", "c2"];
    yard.taskyard(&args).await?.ok()?;
    yard.wait_state("c2", "running", EVENTUALLY).await?;
    let answers = lines(&yard.taskyard(&["cancel", "c1", "c2", "--json"]).await?.ok()?)?;
    assert!(answers.iter().all(|answer| answer["ok"] == true), "{answers:?}");
    yard.wait_state("c1", "cancelled", EVENTUALLY).await?;
    yard.wait_state("c2", "cancelled", EVENTUALLY).await?;
    let again = yard.taskyard(&["cancel", "c1"]).await?;
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    assert_eq!(yard.taskyard(&["result", "c1"]).await?.code, Some(1));
    yard.finish()
}

#[tokio::test]
async fn dead_letters_are_listed_shown_and_replayed() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let none = yard.taskyard(&["dead", "ls"]).await?;
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), ""));
    // Fails for good at its first attempt, and would succeed at its third.
    let payload = r#"{"failures":1}"#;
    let ids = ["d1", "d2"].map(String::from);
    for id in &ids {
        let args = ["submit", "fail", "--data", payload, "--id", id, "--max-attempts", "1"];
        yard.taskyard(&args).await?.ok()?;
    }
    yard.wait_all(&ids, "failed", EVENTUALLY).await?;
    let listed = wait_until("both dead", EVENTUALLY, async || {
        let listed = lines(&yard.taskyard(&["dead", "ls", "--json"]).await?.ok()?)?;
        ensure!(listed.len() == 2, "{listed:?}");
        Ok::<_, anyhow::Error>(listed)
    })
    .await?;
    assert_eq!((&listed[0]["kind"], &listed[0]["bytes"]), (&"fail".into(), &payload.len().into()));
    let table = yard.taskyard(&["dead", "ls"]).await?.ok()?;
    assert!(table.contains("d1") && table.contains("d2"), "{table}");
    let shown = lines(&yard.taskyard(&["dead", "show", "d1", "--json"]).await?.ok()?)?;
    assert_eq!((&shown[0]["id"], &shown[0]["payload"]), (&"d1".into(), &payload.into()));
    let raw = yard.taskyard(&["dead", "show", "d1", "--payload"]).await?.ok()?;
    assert_eq!(raw, payload);

    let ran = yard.taskyard(&["dead", "replay", "d1", "nobody"]).await?;
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert_eq!(ran.stdout, "d1 replayed\n");
    let all = yard.taskyard(&["dead", "replay", "--all", "--json"]).await?.ok()?;
    let replayed = lines(&all)?[0]["replayed"].as_u64().context("a number")?;
    assert!(replayed >= 1, "d2, and d1 if it has failed again by now");
    for id in &ids {
        wait_until("failed a second time", EVENTUALLY, async || {
            let task = yard.state(id).await?;
            ensure!(task.state() == "failed" && task.number("attempt") >= 2, "{task:?}");
            anyhow::Ok(())
        })
        .await?;
    }
    yard.finish()
}

#[tokio::test]
async fn without_a_leader_commands_say_so() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    yard.dispatcher(0).kill9()?;
    let ran = yard.taskyard(&["cancel", "any"]).await?;
    assert_eq!(ran.code, Some(69), "{}", ran.stderr);
    assert!(ran.stderr.contains("no dispatcher answered within 5 s"), "{}", ran.stderr);
    // Submitting needs no leader: RabbitMQ keeps the task.
    let id = yard.taskyard(&["submit", "echo", "--data", "later"]).await?.ok()?;
    yard.dispatcher(0).start()?;
    yard.wait_state(id.trim_end(), "succeeded", EVENTUALLY).await?;
    yard.discard();
    Ok(())
}

#[tokio::test]
async fn a_signal_stops_reading_and_loses_nothing_silently() -> anyhow::Result<()> {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let yard = small_yard().await?;
    let mut command = tokio::process::Command::new(program()?);
    command.args(["submit", "echo", "--ndjson", "-", "--id-prefix", "s-", "--json"]);
    command.env("TASKYARD_AMQP_URL", yard.place().amqp_url());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("stdin is a pipe")?;
    stdin.write_all(b"one\ntwo\n").await?;
    // Both go out although the input goes on: nothing waits for a message to be full.
    yard.wait_state("s-2", "succeeded", EVENTUALLY).await?;
    let pid = i32::try_from(child.id().context("it runs")?)?;
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    let ended = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await??;
    assert_eq!(ended.status.code(), Some(1));
    let reported = lines(std::str::from_utf8(&ended.stdout)?)?;
    assert_eq!(reported.len(), 3, "{reported:?}");
    assert_eq!(reported[2]["summary"]["accepted"], 2);
    let said = String::from_utf8(ended.stderr)?;
    assert!(said.contains("nothing after line 2"), "{said}");
    drop(stdin);
    yard.finish()
}

#[tokio::test]
async fn a_broker_that_dies_leaves_no_line_without_an_outcome() -> anyhow::Result<()> {
    let yard = Yard::builder()
        .own_servers(Servers::builder())
        .worker(|w| w.id("w1").slots(4).builtin())
        .start()
        .await?;
    let mut command = tokio::process::Command::new(program()?);
    command.args(["submit", "echo", "--ndjson", "-", "--id-prefix", "b-", "--json"]);
    // A type of their own makes the lines travel alone.
    command.args(["--patience", "5s", "--content-type", "text/plain"]);
    command.env("TASKYARD_AMQP_URL", yard.place().amqp_url());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("stdin is a pipe")?;
    let ended = tokio::spawn(child.wait_with_output());
    stdin.write_all(b"one\ntwo\n").await?;
    yard.wait_state("b-2", "succeeded", EVENTUALLY).await?;
    yard.servers().rabbitmq().kill9()?;
    stdin.write_all(b"three\nfour\n").await?;
    let ended = tokio::time::timeout(EVENTUALLY, ended).await???;
    assert_eq!(ended.status.code(), Some(69));
    let reported = lines(std::str::from_utf8(&ended.stdout)?)?;
    let (summary, reported) = reported.split_last().context("there is a summary")?;
    assert_eq!(summary["summary"]["accepted"], 2, "{reported:?}");
    assert_eq!(summary["summary"]["lines"], 4, "{reported:?}");
    assert_eq!(reported.len(), 4, "{reported:?}");
    let said = String::from_utf8(ended.stderr)?;
    assert!(said.contains("nothing after line 4") && said.contains("--skip 2 "), "{said}");
    drop(stdin);
    yard.discard();
    Ok(())
}

#[tokio::test]
async fn tls_reaches_rabbitmq_and_redis() -> anyhow::Result<()> {
    let yard = Yard::builder().over_tls().worker(|w| w.id("w1").builtin()).start().await?;
    let ca = yard.servers().ca_file().context("the servers speak TLS")?.display().to_string();
    let amqps = yard.place().amqps_url().context("the servers speak TLS")?.to_owned();
    let rediss = yard.place().rediss_url().context("the servers speak TLS")?.to_owned();
    let with = |args: &[&'static str]| {
        let flags = ["--amqp-url", &amqps, "--redis-url", &rediss, "--tls-ca", &ca];
        args.iter().copied().chain(flags).map(String::from).collect::<Vec<_>>()
    };
    let run = async |args: &[&'static str]| {
        let args = with(args);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        yard.taskyard(&args).await?.ok()
    };
    assert_eq!(run(&["submit", "echo", "--data", "x", "--id", "t1", "--wait"]).await?, "x");
    assert!(run(&["status", "t1"]).await?.contains("succeeded"));
    // Without our authority the servers are strangers.
    let args = ["submit", "echo", "--amqp-url", &amqps];
    assert_eq!(yard.taskyard(&args).await?.code, Some(69));
    yard.finish()
}

fn program() -> anyhow::Result<PathBuf> {
    let mut folder = std::env::current_exe()?;
    while folder.pop() {
        if folder.join("taskyard").is_file() {
            return Ok(folder.join("taskyard"));
        }
    }
    anyhow::bail!("taskyard is not built: run `make build`")
}
