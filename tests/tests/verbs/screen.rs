//! What needs a terminal, on a pseudo terminal: `terminal.py` runs it and presses keys.

use crate::{objects, small_yard};
use anyhow::ensure;
use serde_json::{Value, json};
use taskyard_tests::{EVENTUALLY, Submission, Yard, ours, wait_until};

const DRIVER: &str = include_str!("terminal.py");

/// Runs `taskyard` with these arguments on a terminal; how it left it.
async fn on_a_terminal(yard: &Yard, steps: Value, args: &[&str]) -> anyhow::Result<Value> {
    let (program, steps) = (ours("taskyard")?.display().to_string(), steps.to_string());
    let args = [&["30", "120", steps.as_str(), program.as_str()], args].concat();
    let ran = yard.python(DRIVER, &args).await?.ok()?;
    Ok(objects(&ran)?.remove(0))
}

/// A yard on which one task succeeded, one failed, and one is queued, and all are in the lists.
async fn busy_yard() -> anyhow::Result<Yard> {
    let yard = small_yard().await?;
    yard.submit(&Submission::of("echo", "the result").id("t-good")).await?;
    yard.submit(&Submission::of("fail", r#"{"permanent":true}"#).id("t-bad")).await?;
    yard.submit(&Submission::of("nobody.takes.it", "").id("t-waits")).await?;
    wait_until("both are listed", EVENTUALLY, async || {
        let listed = objects(&yard.taskyard(&["ls", "--json"]).await?.ok()?)?;
        ensure!(listed.len() == 2, "{listed:?}");
        anyhow::Ok(())
    })
    .await?;
    Ok(yard)
}

#[tokio::test]
async fn top_shows_everything_and_gives_the_terminal_back() -> anyhow::Result<()> {
    let yard = busy_yard().await?;
    let steps = json!([
        { "wait": ["POOL", "default", "accepted a second", "q quit"], "keys": "\t" },
        { "wait": ["BUSY", "w1", "up", "gpu"], "keys": "\t" },
        { "wait": ["taskyard.lane.default.9", "taskyard.dead", "about"], "keys": "\t" },
        { "wait": ["t-bad", "of the latest 200", "/ filter by kind"], "keys": "\x1b[D" },
        { "wait": ["t-good", "echo"], "keys": "/" },
        { "wait": ["kind: "], "keys": "no.such" },
        { "wait": ["kind: no.such"], "keys": "\r" },
        { "wait": ["of the kind no.such"], "keys": "\x1b" },
        { "wait": ["t-good"], "keys": "\r" },
        { "wait": ["the result", "submitted_at", "esc back"], "size": [12, 60] },
        { "wait": ["t-good", "esc back"], "keys": "1" },
        { "wait": ["POOL"], "keys": "q" },
    ]);
    let left = on_a_terminal(&yard, steps, &["top", "--interval", "200ms"]).await?;
    assert_eq!(left["code"], 0, "{left}");
    assert_eq!((&left["was_full_screen"], &left["is_full_screen"]), (&true.into(), &false.into()));
    assert_eq!((&left["is_as_before"], &left["has_colours"]), (&true.into(), &true.into()));
    yard.finish()
}

#[tokio::test]
async fn signals_end_top_in_order() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    for signal in ["SIGTERM", "SIGINT", "SIGHUP"] {
        let steps = json!([{ "wait": ["POOL", "default"], "signal": signal }]);
        let left = on_a_terminal(&yard, steps, &["top"]).await?;
        assert_eq!((&left["code"], &left["is_as_before"]), (&0.into(), &true.into()), "{left}");
        assert_eq!(left["is_full_screen"], false, "{left}");
    }
    let steps = json!([{ "wait": ["POOL", "default"], "keys": "\x03" }]);
    let left = on_a_terminal(&yard, steps, &["top"]).await?;
    assert_eq!((&left["code"], &left["is_as_before"]), (&0.into(), &true.into()), "{left}");
    yard.finish()
}

#[tokio::test]
async fn top_says_what_is_out_of_reach_and_goes_on() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let steps = json!([
        { "wait": ["default"], "keys": "3" },
        { "wait": ["RabbitMQ cannot be asked"], "keys": "1" },
        { "wait": ["POOL", "default"], "keys": "q" },
    ]);
    let args = ["top", "--interval", "200ms", "--amqp-url", "amqp://127.0.0.1:1/%2f"];
    assert_eq!(on_a_terminal(&yard, steps, &args).await?["code"], 0);
    let steps = json!([{ "wait": ["redis is out of reach"], "keys": "q" }]);
    let args = ["top", "--interval", "200ms", "--redis-url", "redis://127.0.0.1:1"];
    assert_eq!(on_a_terminal(&yard, steps, &args).await?["code"], 0);
    yard.finish()
}

#[tokio::test]
async fn top_needs_a_terminal_and_watch_does_not() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let ran = yard.taskyard(&["top"]).await?;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(64), ""));
    assert!(
        ran.stderr.contains("terminal") && ran.stderr.contains("taskyard watch"),
        "{}",
        ran.stderr
    );
    yard.finish()
}

#[tokio::test]
async fn progress_is_shown_and_an_interruption_says_how_to_go_on() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let steps = json!([
        { "wait": ["0 confirmed"], "keys": "one\n" },
        { "wait": ["1 confirmed"], "keys": "two\n" },
        { "wait": ["2 confirmed", "/s"], "keys": "\x03" },
    ]);
    let args = ["submit", "echo", "--ndjson", "-", "--id-prefix", "p-"];
    let left = on_a_terminal(&yard, steps, &args).await?;
    let screen = left["screen"].as_str().unwrap_or_default();
    assert_eq!(left["code"], 1, "{screen}");
    for said in ["2 of 2 tasks accepted", "stopped by a signal", "--skip 2"] {
        assert!(screen.contains(said), "no {said:?} in\n{screen}");
    }
    yard.finish()
}

#[tokio::test]
async fn watch_draws_its_table_over_the_last_one() -> anyhow::Result<()> {
    let yard = busy_yard().await?;
    let args = ["watch", "--interval", "100ms", "--count", "5"];
    let left = on_a_terminal(&yard, json!([]), &args).await?;
    let screen = left["screen"].as_str().unwrap_or_default();
    assert_eq!(
        (screen.matches("POOL").count(), screen.matches("default").count()),
        (1, 1),
        "{screen}"
    );
    assert_eq!((&left["code"], &left["has_colours"]), (&0.into(), &true.into()), "{screen}");
    yard.finish()
}
