//! `ls` with its filters, and what is said besides answers.

use crate::{file, objects, small_yard};
use anyhow::ensure;
use serde_json::Value;
use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};

async fn ids(yard: &Yard, args: &[&str]) -> anyhow::Result<Vec<String>> {
    let listed = objects(&yard.taskyard(&[&["ls", "--json"], args].concat()).await?.ok()?)?;
    let id = |task: &Value| task["id"].as_str().unwrap_or_default().to_owned();
    let mut ids: Vec<String> = listed.iter().map(id).collect();
    ids.sort();
    Ok(ids)
}

#[tokio::test]
async fn filters_narrow_the_list() -> anyhow::Result<()> {
    let mut yard = small_yard().await?;
    let args = ["submit", "echo", "--id", "a", "--tenant", "shop", "--wait"];
    yard.taskyard(&args).await?.ok()?;
    yard.taskyard(&["submit", "echo", "--id", "b", "--wait"]).await?.ok()?;
    yard.add_worker(|w| w.id("w2").handlers("[[handler]]\nkind = \"x.y\"\nexec = [\"cat\"]\n"))
        .await?;
    yard.taskyard(&["submit", "x.y", "--id", "c", "--wait"]).await?.ok()?;
    yard.submit(&Submission::of("nobody.takes.it", "").id("q")).await?;
    yard.wait_state("q", "queued", EVENTUALLY).await?;
    wait_until("all are in the list", EVENTUALLY, async || {
        let listed = ids(&yard, &[]).await?;
        ensure!(listed == ["a", "b", "c"], "{listed:?}");
        anyhow::Ok(())
    })
    .await?;
    assert_eq!(ids(&yard, &["--tenant", "shop"]).await?, ["a"]);
    assert_eq!(ids(&yard, &["--worker", "w2"]).await?, ["c"]);
    assert_eq!(ids(&yard, &["--worker", "w1", "--kind", "echo"]).await?, ["a", "b"]);
    assert_eq!(ids(&yard, &["--pool", "default", "--kind", "*.y"]).await?, ["c"]);
    assert_eq!(ids(&yard, &["--pool", "mail"]).await?, [""; 0]);
    assert_eq!(ids(&yard, &["--since", "1h"]).await?, ["a", "b", "c"]);
    assert_eq!(ids(&yard, &["--since", "2100-01-01T00:00:00Z"]).await?, [""; 0]);
    assert_eq!(ids(&yard, &["--state", "queued", "--since", "1h"]).await?, ["q"]);

    let long = yard.taskyard(&["ls", "--long"]).await?.ok()?;
    assert!(long.lines().next().is_some_and(|head| head.contains("TENANT")), "{long}");
    assert!(long.lines().any(|row| row.contains("shop") && row.contains("w1")), "{long}");
    let short = yard.taskyard(&["ls", "--limit", "1"]).await?;
    assert_eq!(short.stdout.lines().count(), 2, "{}", short.stdout);
    assert!(short.stderr.contains("there are more; --limit"), "{}", short.stderr);
    yard.finish()
}

#[tokio::test]
async fn a_full_list_says_what_is_not_in_it() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let mut add = redis::cmd("ZADD");
    add.arg("taskyard:recent:expired");
    for n in 0..10_000_u64 {
        add.arg(1_700_000_000_000 + n).arg(format!("old-{n}"));
    }
    let _: () = yard.redis(&add).await?;
    let ran = yard.taskyard(&["ls", "--state", "expired", "--tenant", "shop"]).await?;
    let said = "the list of expired tasks is full: those that ended before 2023-11-14";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    let args = ["ls", "--state", "expired", "--since", "1h"];
    let ran = yard.taskyard(&args).await?;
    assert!(!ran.stderr.contains("full"), "what is asked for is all within: {}", ran.stderr);
    yard.finish()
}

#[tokio::test]
async fn hints_say_what_to_do_next() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    yard.submit(&Submission::of("nobody.takes.it", "").id("q")).await?;
    let shown = wait_until("the reason is recorded", EVENTUALLY, async || {
        let shown = yard.taskyard(&["status", "q"]).await?;
        ensure!(shown.stdout.contains("no worker takes"), "{}", shown.stdout);
        anyhow::Ok(shown)
    })
    .await?;
    assert!(shown.stderr.contains("hint: `taskyard workers`"), "{}", shown.stderr);
    assert!(!shown.stderr.contains('\x1b'), "{}", shown.stderr);
    yard.taskyard(&["submit", "echo", "--id", "e", "--wait"]).await?.ok()?;
    assert_eq!(yard.taskyard(&["status", "e"]).await?.stderr, "");
    let wrong = yard.taskyard(&["ls", "--state", "done"]).await?;
    assert_eq!(wrong.code, Some(64));
    assert!(
        wrong.stderr.contains("queued") && wrong.stderr.contains("rejected"),
        "{}",
        wrong.stderr
    );
    // Nobody listens on port 1: the flag to mend is named.
    let ran = yard.taskyard(&["status", "e", "--redis-url", "redis://127.0.0.1:1"]).await?;
    assert_eq!(ran.code, Some(69));
    assert!(ran.stderr.contains("--redis-url"), "{}", ran.stderr);
    yard.finish()
}

#[tokio::test]
async fn watch_prints_a_line_for_each_pool_and_look() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let text: String = (1..=500).map(|n| format!("{n}\n")).collect();
    let path = file(&yard, "lines", text)?;
    yard.taskyard(&["submit", "echo", "--ndjson", &path]).await?.ok()?;
    wait_until("all are counted", EVENTUALLY, async || {
        let watched = yard.taskyard(&["watch", "--count", "1"]).await?.ok()?;
        ensure!(watched.contains("accepted 500 succeeded 500 failed 0"), "{watched}");
        anyhow::Ok(())
    })
    .await?;
    let args = ["watch", "--count", "3", "--interval", "100ms", "--pool", "default"];
    let watched = yard.taskyard(&args).await?.ok()?;
    assert_eq!(watched.lines().count(), 3, "{watched}");
    assert!(watched.lines().all(|line| line.contains("Z default in ")), "{watched}");
    assert!(!watched.contains('\x1b'), "{watched}");
    yard.finish()
}
