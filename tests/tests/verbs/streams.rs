//! Files of many tasks.

use crate::{file, objects, small_yard};
use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Stdio;
use std::time::Duration;
use taskyard_tests::{EVENTUALLY, ours};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn rows_of_a_table_become_payloads() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let mut table = String::from("file,id,width\n");
    for n in 1..=2_000 {
        table += &format!("{n}.png,{n},\"{n} \"\"px\"\"\"\n");
    }
    let path = file(&yard, "images.csv", table)?;
    let args = ["submit", "echo", "--csv", &path, "--id-prefix", "c-", "--json"];
    let reported = objects(&yard.taskyard(&args).await?.ok()?)?;
    let (summary, lines) = reported.split_last().context("there is a summary")?;
    assert_eq!(summary["summary"]["accepted"], 2_000);
    assert_eq!(summary["summary"]["complete"], true);
    assert!(lines.iter().all(|line| line["ok"] == true));
    // The header is line 1.
    yard.wait_state("c-2001", "succeeded", EVENTUALLY).await?;
    let task = yard.wait_state("c-8", "succeeded", EVENTUALLY).await?;
    let payload = String::from_utf8_lossy(task.bytes("result")).into_owned();
    assert_eq!(payload, r#"{"file":"7.png","id":"7","width":"7 \"px\""}"#);
    yard.finish()
}

#[tokio::test]
async fn columns_named_like_options_are_options() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let table = "kind;id;priority;max_attempts;tenant;file\n\
                 echo;o-1;7;3;shop;a.png\n\
                 echo;o-2;;;;b.png\n\
                 echo;o-3;high;;;c.png\n\
                 echo;o-4;1;;;d.png;more\n\
                 a b;o-5;;;;e.png\n";
    let path = file(&yard, "tasks.csv", table)?;
    let ran = yard.taskyard(&["submit", "--csv", &path, "--delimiter", ";"]).await?;
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    for said in ["line 4: \"priority\"", "line 5: it has 7 fields", "line 6: "] {
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    assert!(ran.stdout.starts_with("2 of 5 tasks accepted, 3 not accepted"), "{}", ran.stdout);
    let task = yard.wait_state("o-1", "succeeded", EVENTUALLY).await?;
    assert_eq!((task.number("priority"), task.number("max_attempts")), (7, 3));
    assert_eq!(
        (task.text("tenant"), task.bytes("result")),
        ("shop".into(), &br#"{"file":"a.png"}"#[..])
    );
    let task = yard.wait_state("o-2", "succeeded", EVENTUALLY).await?;
    assert_eq!((task.number("priority"), task.number("max_attempts")), (0, 5));
    let ran = yard.taskyard(&["submit", "--csv", &path]).await?;
    assert_eq!(ran.code, Some(64), "the header is one column");
    assert!(ran.stderr.contains("no column is named \"kind\""), "{}", ran.stderr);
    yard.finish()
}

#[tokio::test]
async fn an_interrupted_file_goes_on_where_it_ended() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let mut command = tokio::process::Command::new(ours("taskyard")?);
    command.args(["submit", "echo", "--ndjson", "-", "--id-prefix", "s-"]);
    command.env("TASKYARD_AMQP_URL", yard.place().amqp_url());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("stdin is a pipe")?;
    stdin.write_all(b"one\n\ntwo\n").await?;
    yard.wait_state("s-3", "succeeded", EVENTUALLY).await?;
    kill(Pid::from_raw(i32::try_from(child.id().context("it runs")?)?), Signal::SIGINT)?;
    let ended = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await??;
    let said = String::from_utf8(ended.stderr)?;
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(String::from_utf8(ended.stdout)?.starts_with("2 of 2 tasks accepted"));
    assert!(said.contains("nothing after line 3 was sent") && said.contains("--skip 3"), "{said}");
    drop(stdin);

    let path = file(&yard, "lines", "one\n\ntwo\nthree\n")?;
    let args = ["submit", "echo", "--ndjson", &path, "--id-prefix", "s-", "--skip", "3"];
    let rest = yard.taskyard(&args).await?.ok()?;
    assert!(rest.starts_with("1 of 1 tasks accepted"), "{rest}");
    let task = yard.wait_state("s-4", "succeeded", EVENTUALLY).await?;
    assert_eq!(task.bytes("result"), b"three");
    yard.finish()
}
