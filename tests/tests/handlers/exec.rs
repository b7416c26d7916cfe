//! Programs that are started for each task.

use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use anyhow::ensure;
use taskyard_tests::{EVENTUALLY, Submission, wait_until};

use crate::{counts, wait_file, yard_with};

#[tokio::test]
async fn a_file_of_before_works_as_it_did() -> anyhow::Result<()> {
    let handlers = r#"
        [[handler]]
        kind = "old.*"
        exec = ["sh", "-c", "printf \"$A $TASKYARD_KIND $PWD \"; cat"]
        timeout_ms = 60000
        dir = "/"
        env = { A = "b" }
    "#;
    let yard = yard_with(handlers, 2).await?;
    let id = yard.submit(&Submission::of("old.kind", "payload")).await?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert_eq!(task.text("result"), "b old.kind / payload");
    yard.shut_down().await
}

#[tokio::test]
async fn what_a_program_says_while_it_runs_is_seen() -> anyhow::Result<()> {
    let handlers = r#"
        [[handler]]
        kind = "x"
        exec = ["sh", "-c", """
            echo 'what is this?' >&$TASKYARD_REPORT_FD
            echo '{"progress":40,"note":"reading"}' >&$TASKYARD_REPORT_FD
            while [ ! -e go ]; do sleep 0.05; done
        """]
    "#;
    let yard = yard_with(handlers, 2).await?;
    let id = yard.submit(&Submission::of("x", "")).await?;
    wait_until("its progress", EVENTUALLY, async || {
        let task = yard.state(&id).await?;
        let seen = (task.text("progress"), task.text("progress_note"));
        ensure!(seen == ("40".to_owned(), "reading".to_owned()), "{task:?}");
        Ok(())
    })
    .await?;
    std::fs::write(yard.folder().join("go"), "")?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    // The broken line is told once, however many there are.
    let again = yard.submit(&Submission::of("x", "")).await?;
    yard.wait_state(&again, "succeeded", EVENTUALLY).await?;
    let log = yard.worker("w1").log();
    assert_eq!(log.matches("a line of reports is not understood").count(), 1, "{log}");
    yard.expect_warnings("a line of reports is not understood");
    yard.shut_down().await
}

#[tokio::test]
async fn only_so_many_of_a_handler_run_at_once() -> anyhow::Result<()> {
    // Whoever finds the folder there is not alone.
    let handlers = r#"
        [[handler]]
        kind = "alone"
        exec = ["sh", "-c", "mkdir inside && sleep 0.05 && rmdir inside"]
        concurrency = 1
        [[handler]]
        kind = "free"
        exec = ["sh", "-c", "touch \"free-$TASKYARD_ID\"; while [ ! -e free-a ] || [ ! -e free-b ]; do sleep 0.05; done"]
    "#;
    let yard = yard_with(handlers, 8).await?;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(yard.submit(&Submission::of("alone", "").number("x-task-max-attempts", 1)).await?);
    }
    yard.wait_all(&ids, "succeeded", EVENTUALLY).await?;
    // Two that wait for each other can only end where both run.
    for id in ["a", "b"] {
        yard.submit(&Submission::of("free", "").id(id)).await?;
    }
    yard.wait_all(&["a".to_owned(), "b".to_owned()], "succeeded", EVENTUALLY).await?;
    yard.shut_down().await
}

#[tokio::test]
async fn limits_hold_for_the_program_from_its_first_instruction() -> anyhow::Result<()> {
    let handlers = r#"
        [[handler]]
        kind = "limits"
        exec = ["sh", "-c", "echo '{\"log\":\"x\"}' >&$TASKYARD_REPORT_FD && ulimit -v && ulimit -t && cat"]
        memory_max = "512m"
        cpu_seconds_max = 7
        [[handler]]
        kind = "memory"
        exec = ["python3", "-c", "bytearray(1 << 30)"]
        memory_max = "512m"
        [[handler]]
        kind = "cpu"
        exec = ["sh", "-c", "while :; do :; done"]
        cpu_seconds_max = 1
    "#;
    let yard = yard_with(handlers, 2).await?;
    let once = |kind| Submission::of(kind, "payload").number("x-task-max-attempts", 1);
    let id = yard.submit(&once("limits")).await?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert_eq!(task.text("result"), format!("{}\n7\npayload", 512 * 1024));
    let id = yard.submit(&once("memory")).await?;
    let task = yard.wait_state(&id, "failed", EVENTUALLY).await?;
    assert!(task.text("error").ends_with("MemoryError"), "{task:?}");
    let id = yard.submit(&once("cpu")).await?;
    let task = yard.wait_state(&id, "failed", EVENTUALLY).await?;
    assert_eq!(task.text("error"), "it used more than 1 s of processor time");
    yard.shut_down().await
}

#[tokio::test]
async fn a_program_that_vanished_is_retried_under_limits_too() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("program");
    let write = |text: &str| -> anyhow::Result<()> {
        // Moved into place as a whole: nobody runs half of it.
        let new = file.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::set_permissions(&new, Permissions::from_mode(0o755))?;
        Ok(std::fs::rename(&new, &file)?)
    };
    write("#!/bin/sh\n")?;
    let handlers = format!(
        "[[handler]]\nkind = \"x\"\nexec = [\"./program\"]\nmemory_max = \"512m\"\ndir = {folder:?}\n",
        folder = folder.path()
    );
    let yard = yard_with(&handlers, 1).await?;
    // The file is looked for when the worker starts, and gone now.
    std::fs::remove_file(&file)?;
    let task = Submission::of("x", "").number("x-task-max-attempts", 100);
    let id = yard.submit(&task.text("x-task-backoff", "fixed:100")).await?;
    wait_until("a failure", EVENTUALLY, async || {
        let task = yard.state(&id).await?;
        ensure!(task.text("error").contains("./program cannot be run"), "{task:?}");
        Ok(())
    })
    .await?;
    write("#!/bin/sh\necho back\n")?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert_eq!(task.text("result"), "back\n");
    yard.shut_down().await
}

#[tokio::test]
async fn a_program_runs_as_its_user() -> anyhow::Result<()> {
    let handlers = r#"
        [[handler]]
        kind = "named"
        exec = ["sh", "-c", "id -u; id -G; echo $USER $HOME"]
        user = "nobody"
        dir = "/"
        [[handler]]
        kind = "numbered"
        exec = ["sh", "-c", "id -u; id -g; ulimit -t"]
        uid = 12345
        gid = 23456
        cpu_seconds_max = 9
        dir = "/"
    "#;
    if !nix::unistd::geteuid().is_root() {
        // Only root may; everybody else is told so.
        let yard = taskyard_tests::Yard::builder()
            .worker(|w| w.id("w1").handlers(handlers))
            .start_without_waiting()
            .await?;
        let status = yard.worker("w1").wait_exit(EVENTUALLY).await?;
        assert_eq!(status.code(), Some(64));
        let log = yard.worker("w1").log();
        assert!(log.contains("only a worker that runs as root"), "{log}");
        yard.discard();
        return Ok(());
    }
    let yard = yard_with(handlers, 2).await?;
    let result = async |kind| {
        let id = yard.submit(&Submission::of(kind, "")).await?;
        let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
        anyhow::Ok(task.text("result"))
    };
    let ran =
        std::process::Command::new("sh").args(["-c", "id -u nobody; id -g nobody"]).output()?;
    let ids = String::from_utf8(ran.stdout)?;
    let named = result("named").await?;
    assert!(named.starts_with(&ids) && named.contains("nobody /"), "{named}");
    assert_eq!(result("numbered").await?, "12345\n23456\n9\n");
    yard.shut_down().await
}

#[tokio::test]
async fn a_secret_is_its_handlers_alone() -> anyhow::Result<()> {
    let handlers = r#"
        [[handler]]
        kind = "has"
        exec = ["sh", "-c", "printf \"$KEY ${TOKEN-none}\""]
        env = { KEY = { env = "TOKEN" } }
        [[handler]]
        kind = "other"
        exec = ["sh", "-c", "printf \"${TOKEN-none} ${TASKYARD_AMQP_URL-none} $PLAIN\""]
    "#;
    let yard = taskyard_tests::Yard::builder()
        .worker(|w| {
            let w = w.id("w1").handlers(handlers);
            w.program(|p| p.env("TOKEN", "secret").env("PLAIN", "there"))
        })
        .start()
        .await?;
    for (kind, result) in [("has", "secret none"), ("other", "none none there")] {
        let id = yard.submit(&Submission::of(kind, "")).await?;
        let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
        assert_eq!(task.text("result"), result, "{kind}");
    }
    yard.shut_down().await
}

#[tokio::test]
async fn a_cancelled_program_and_what_it_started_are_gone() -> anyhow::Result<()> {
    let handlers = r#"
        [[handler]]
        kind = "x"
        exec = ["sh", "-c", "sleep 600 & echo $! > child; wait"]
        concurrency = 1
    "#;
    let yard = yard_with(handlers, 2).await?;
    let first = yard.submit(&Submission::of("x", "")).await?;
    let pid = wait_file(&yard, "child").await?;
    // One that waits for its handler can be cancelled too.
    let second = yard.submit(&Submission::of("x", "")).await?;
    yard.wait_state(&second, "running", EVENTUALLY).await?;
    for id in [&second, &first] {
        yard.taskyard(&["cancel", id]).await?.ok()?;
        let task = yard.wait_state(id, "cancelled", EVENTUALLY).await?;
        assert_eq!(counts(&task), (1, 0));
    }
    crate::resident::wait_gone(&pid).await?;
    yard.shut_down().await
}
