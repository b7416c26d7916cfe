//! Programs that stay.

use anyhow::ensure;
use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};

use crate::{counts, wait_file, yard_with};

/// Notes who started, and does what the payload says.
const RESIDENT: &str = r#"
import json, os, subprocess, sys, time

with open("started", "a") as file:
    print(os.getpid(), file=file)
for line in sys.stdin:
    task = json.loads(line)
    say = lambda **words: print(json.dumps({"id": task["id"], **words}), flush=True)
    match task["payload"]:
        case "pid":
            say(ok=True, result=str(os.getpid()))
        case "hang":
            with open("child", "w") as file:
                print(subprocess.Popen(["sleep", "600"]).pid, file=file)
            say(progress=40, note="hanging")
            time.sleep(600)
        case "die" if task["failures"] == 0:
            sys.exit("it hurts")
        case "babble" if task["failures"] == 0:
            print("this is no answer", flush=True)
        case "ask" if task["failures"] == 0:
            say(error="busy", retry_after_ms=1000)
        case "together":
            open("here-" + task["id"], "w")
            while not (os.path.exists("here-a") and os.path.exists("here-b")):
                time.sleep(0.05)
            say(ok=True)
        case _:
            say(ok=True, result="at last")
"#;

/// A yard with that program, and these keys of its handler besides.
async fn yard(more: &str, slots: u32) -> anyhow::Result<Yard> {
    let handlers = format!(
        "[[handler]]\nkind = \"x\"\nresident = [\"python3\", \"-c\", '''{RESIDENT}''']\n{more}\n"
    );
    yard_with(&handlers, slots).await
}

fn once(payload: &str) -> Submission {
    Submission::of("x", payload).text("x-task-backoff", "fixed:10")
}

async fn result(yard: &Yard, payload: &str) -> anyhow::Result<String> {
    let id = yard.submit(&once(payload)).await?;
    Ok(yard.wait_state(&id, "succeeded", EVENTUALLY).await?.text("result"))
}

fn started(yard: &Yard) -> usize {
    let text = std::fs::read_to_string(yard.folder().join("started")).unwrap_or_default();
    text.lines().count()
}

/// Waits until a process has ended.
pub(crate) async fn wait_gone(pid: &str) -> anyhow::Result<()> {
    let pid = nix::unistd::Pid::from_raw(pid.parse()?);
    wait_until(&format!("the end of {pid}"), EVENTUALLY, async || {
        // Signal 0 asks whether it is there. What nobody has waited for still has a number.
        let is_there = nix::sys::signal::kill(pid, None).is_ok();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
        let is_alive = status.map_or(is_there, |status| status.contains("VmSize"));
        ensure!(!is_alive, "it is alive");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn one_process_takes_many_tasks_and_ends_with_the_worker() -> anyhow::Result<()> {
    let yard = yard("", 1).await?;
    assert_eq!(started(&yard), 0, "nobody has asked for it yet");
    let pid = result(&yard, "pid").await?;
    for _ in 0..5 {
        assert_eq!(result(&yard, "pid").await?, pid);
    }
    assert_eq!(started(&yard), 1);
    yard.shut_down().await?;
    wait_gone(&pid).await
}

#[tokio::test]
async fn as_many_processes_as_its_concurrency() -> anyhow::Result<()> {
    let yard = yard("concurrency = 2", 6).await?;
    for id in ["a", "b"] {
        yard.submit(&once("together").id(id)).await?;
    }
    let mut ids = vec!["a".to_owned(), "b".to_owned()];
    for _ in 0..10 {
        ids.push(yard.submit(&once("pid")).await?);
    }
    yard.wait_all(&ids, "succeeded", EVENTUALLY).await?;
    assert_eq!(started(&yard), 2);
    yard.shut_down().await
}

#[tokio::test]
async fn a_process_is_replaced_after_so_many_tasks() -> anyhow::Result<()> {
    let yard = yard("recycle_after = 2", 1).await?;
    let mut pids = Vec::new();
    for _ in 0..6 {
        pids.push(result(&yard, "pid").await?);
    }
    assert_eq!((&pids[0], &pids[2], &pids[4]), (&pids[1], &pids[3], &pids[5]));
    assert!(pids[0] != pids[2] && pids[2] != pids[4], "{pids:?}");
    wait_gone(&pids[0]).await?;
    yard.shut_down().await
}

#[tokio::test]
async fn its_death_and_broken_answers_are_failed_attempts_and_another_is_started()
-> anyhow::Result<()> {
    let yard = yard("", 1).await?;
    for (payload, error) in [
        ("die", "the program ended without an answer: exit code 1: it hurts"),
        ("babble", "a broken answer: "),
    ] {
        let failing = once(payload).text("x-task-backoff", "fixed:700");
        let id = yard.submit(&failing).await?;
        wait_until("the failure", EVENTUALLY, async || {
            let task = yard.state(&id).await?;
            ensure!(task.text("error").starts_with(error), "{task:?}");
            anyhow::Ok(())
        })
        .await?;
        let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
        assert_eq!((counts(&task), task.text("result")), ((2, 1), "at last".to_owned()));
    }
    assert_eq!(started(&yard), 3);
    yard.shut_down().await
}

#[tokio::test]
async fn an_error_says_how_long_to_wait() -> anyhow::Result<()> {
    let yard = yard("", 1).await?;
    let id = yard.submit(&once("ask")).await?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert_eq!(counts(&task), (2, 1));
    let waited = task.number("dispatched_at") - task.number("submitted_at");
    assert!(waited >= 1_000, "{waited} ms: {task:?}");
    assert_eq!(started(&yard), 1);
    yard.shut_down().await
}

#[tokio::test]
async fn a_task_that_takes_too_long_costs_the_process_and_its_group() -> anyhow::Result<()> {
    let yard = yard("timeout_ms = 1500", 1).await?;
    let id = yard.submit(&once("hang").number("x-task-max-attempts", 1)).await?;
    let task = yard.wait_state(&id, "failed", EVENTUALLY).await?;
    let error = ("timeout".to_owned(), "it ran longer than 1500 ms".to_owned());
    assert_eq!((task.text("error_kind"), task.text("error")), error);
    wait_gone(&wait_file(&yard, "started").await?).await?;
    wait_gone(&wait_file(&yard, "child").await?).await?;
    result(&yard, "pid").await?;
    assert_eq!(started(&yard), 2);
    yard.shut_down().await
}

#[tokio::test]
async fn a_cancelled_task_ends_its_process_and_its_group() -> anyhow::Result<()> {
    let yard = yard("", 1).await?;
    let id = yard.submit(&once("hang")).await?;
    wait_until("its progress", EVENTUALLY, async || {
        let task = yard.state(&id).await?;
        ensure!(task.text("progress_note") == "hanging", "{task:?}");
        anyhow::Ok(())
    })
    .await?;
    yard.taskyard(&["cancel", &id]).await?.ok()?;
    yard.wait_state(&id, "cancelled", EVENTUALLY).await?;
    wait_gone(&wait_file(&yard, "started").await?).await?;
    wait_gone(&wait_file(&yard, "child").await?).await?;
    yard.shut_down().await
}
