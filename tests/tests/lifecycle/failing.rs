//! Failures: retries, the end of them, dead letters, limits, lost workers.

use anyhow::ensure;
use lapin::types::AMQPValue;
use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};

use crate::{
    counts,
    foreign::{Foreign, text},
    mailbox::{Mailbox, depth, header, take},
    now_ms, small_yard, yard_without_workers,
};

#[tokio::test]
async fn each_backoff_waits_as_it_says() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let mut worker = Foreign::of("f1").slots(3).start(&yard).await?;
    // After the first and the second failure: at least, at most.
    let backoffs = [
        ("fixed:400", [(400, 400), (400, 400)]),
        ("linear:300", [(300, 300), (600, 600)]),
        ("exponential:200:300", [(0, 200), (0, 300)]),
    ];
    for (backoff, waits) in backoffs {
        let id = yard.submit(&Submission::of("echo", "x").text("x-task-backoff", backoff)).await?;
        for (number, (least, most)) in (1..).zip(waits) {
            let given = worker.next().await?;
            assert_eq!((given.attempt, given.number("x-task-failures")?), (number, number - 1));
            let before = now_ms();
            worker.fail(given, &format!("failure {number}")).await?;
            // It may be given out again before we look.
            let task = wait_until("the failure", EVENTUALLY, async || {
                let task = yard.state(&id).await?;
                ensure!(task.number("failures") == number, "{task:?}");
                anyhow::Ok(task)
            })
            .await?;
            assert_eq!(task.text("error"), format!("failure {number}"));
            assert_eq!(task.text("error_kind"), "failed");
            if task.state() == "retrying" {
                let next_at = task.number("next_at");
                assert!((before + least..=now_ms() + most).contains(&next_at), "{task:?}");
            }
            let again = wait_until("the next attempt", EVENTUALLY, async || {
                let task = yard.state(&id).await?;
                ensure!(task.number("attempt") == number + 1, "{task:?}");
                anyhow::Ok(task)
            })
            .await?;
            let waited = again.number("dispatched_at") - before;
            assert!(waited >= least, "{backoff}: {waited} ms after failure {number}");
        }
        let given = worker.next().await?;
        worker.succeed(given, b"at last").await?;
        let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
        assert_eq!((counts(&task), task.text("error")), ((3, 2, 0), String::new()));
    }
    yard.finish()
}

#[tokio::test]
async fn a_retry_waits_at_least_as_long_as_its_worker_asked() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let mut worker = Foreign::of("f1").start(&yard).await?;
    let id = yard.submit(&Submission::of("echo", "x").text("x-task-backoff", "fixed:10")).await?;
    let given = worker.next().await?;
    let before = now_ms();
    let asked = [("x-task-retry-after", AMQPValue::LongInt(1_200))];
    worker.report(&given, "failed", &asked, b"").await?;
    worker.nack(given).await?;
    let given = worker.next().await?;
    let task = yard.state(&id).await?;
    assert_eq!((given.id.as_str(), counts(&task)), (id.as_str(), (2, 1, 0)));
    let waited = task.number("dispatched_at") - before;
    assert!(waited >= 1_200, "{waited} ms: {task:?}");
    worker.succeed(given, b"").await?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    yard.finish()
}

#[tokio::test]
async fn a_failing_task_of_our_worker_is_retried_until_it_succeeds() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    for backoff in ["fixed:100", "linear:50", "exponential:50:200"] {
        let payload = r#"{"failures":3}"#;
        let task = Submission::of("fail", payload).text("x-task-backoff", backoff);
        let id = yard.submit(&task).await?;
        let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
        assert_eq!((counts(&task), task.text("result")), ((4, 3, 0), payload.to_owned()));
        assert_eq!((task.text("error"), task.text("next_at")), (String::new(), String::new()));
    }
    yard.finish()
}

#[tokio::test]
async fn the_last_failure_makes_a_dead_letter_with_everything_untouched() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let payload = br#"{"failures":9,"bytes":"\u00ff"}"#;
    let task = Submission::of("fail", payload)
        .id("dead:1")
        .priority(4)
        .number("x-task-max-attempts", 2)
        .text("x-task-backoff", "fixed:10")
        .text("x-task-tenant", "shop")
        .text("mine", "kept")
        .properties(|properties| {
            properties
                .with_content_type("application/json".into())
                .with_content_encoding("identity".into())
        });
    yard.submit(&task).await?;
    let task = yard.wait_state("dead:1", "failed", EVENTUALLY).await?;
    assert_eq!(counts(&task), (2, 2, 0));
    assert_eq!(task.text("error_kind"), "failed");
    assert!(task.text("error").contains("failure 2 of 9"), "{task:?}");

    let letter = take(&yard, "taskyard.dead").await?.delivery;
    assert_eq!(letter.data, payload);
    let of = |name: &str| header(&letter.properties, name);
    assert_eq!((of("x-task-reason"), of("x-task-attempt")), ("failed".into(), "2".into()));
    assert_eq!(of("x-task-error"), task.text("error"));
    assert_eq!((of("mine"), of("x-task-tenant")), ("kept".into(), "shop".into()));
    assert_eq!((of("x-task-max-attempts"), of("x-task-backoff")), ("2".into(), "fixed:10".into()));
    let properties = &letter.properties;
    assert_eq!(properties.message_id().as_ref().map(|id| id.as_str()), Some("dead:1"));
    assert_eq!(properties.kind().as_ref().map(|kind| kind.as_str()), Some("fail"));
    assert_eq!(*properties.priority(), Some(4));
    let content_type = properties.content_type().as_ref().map(|text| text.as_str());
    assert_eq!(content_type, Some("application/json"));
    let encoding = properties.content_encoding().as_ref().map(|text| text.as_str());
    assert_eq!(encoding, Some("identity"));
    yard.finish()
}

#[tokio::test]
async fn a_permanent_failure_is_not_retried() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let id = yard.submit(&Submission::of("fail", r#"{"permanent":true}"#)).await?;
    let task = yard.wait_state(&id, "failed", EVENTUALLY).await?;
    assert_eq!((counts(&task), task.text("error_kind")), ((1, 1, 0), "failed".into()));
    let letter = take(&yard, "taskyard.dead").await?.delivery;
    assert_eq!(header(&letter.properties, "x-task-attempt"), "1");

    // The same from a worker of another make, which says so in a header.
    let mut worker = Foreign::of("f1").start(&yard).await?;
    let id = yard.submit(&Submission::of("foreign", "")).await?;
    let given = worker.next().await?;
    let headers = [("x-task-error", text("no")), ("x-task-retryable", AMQPValue::Boolean(false))];
    worker.report(&given, "failed", &headers, b"").await?;
    worker.nack(given).await?;
    let task = yard.wait_state(&id, "failed", EVENTUALLY).await?;
    assert_eq!((counts(&task), task.text("error")), ((1, 1, 0), "no".into()));
    take(&yard, "taskyard.dead").await?;
    yard.finish()
}

#[tokio::test]
async fn a_nack_without_a_report_is_a_failure_without_a_text() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let mut worker = Foreign::of("f1").start(&yard).await?;
    let task = Submission::of("echo", "x").text("x-task-backoff", "fixed:10");
    let id = yard.submit(&task).await?;
    let given = worker.next().await?;
    worker.nack(given).await?;
    let given = worker.next().await?;
    assert_eq!((given.attempt, given.number("x-task-failures")?), (2, 1));
    worker.succeed(given, b"").await?;
    let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert_eq!(counts(&task), (2, 1, 0));
    yard.finish()
}

#[tokio::test]
async fn a_panic_fails_the_attempt_and_spares_the_worker() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let payload = r#"{"panic":true}"#;
    let task = Submission::of("fail", payload).number("x-task-max-attempts", 2);
    let id = yard.submit(&task.text("x-task-backoff", "fixed:10")).await?;
    let task = yard.wait_state(&id, "failed", EVENTUALLY).await?;
    assert_eq!((counts(&task), task.text("error_kind")), ((2, 2, 0), "failed".into()));
    assert!(task.text("error").contains("panic"), "{task:?}");
    let id = yard.submit(&Submission::of("echo", "")).await?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    assert!(yard.worker("w1").is_running()?);
    yard.expect_warnings("panic");
    yard.finish()
}

#[tokio::test]
async fn our_worker_ends_what_runs_over_its_limit() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let task = Submission::of("sleep", r#"{"ms":60000}"#).number("x-task-timeout", 300);
    let task = task.number("x-task-max-attempts", 2).text("x-task-backoff", "fixed:10");
    let id = yard.submit(&task).await?;
    let task = yard.wait_state(&id, "failed", EVENTUALLY).await?;
    assert_eq!((counts(&task), task.text("error_kind")), ((2, 2, 0), "timeout".into()));
    let letter = take(&yard, "taskyard.dead").await?.delivery;
    assert_eq!(header(&letter.properties, "x-task-reason"), "timeout");
    yard.finish()
}

#[tokio::test]
async fn the_dispatcher_ends_what_a_worker_lets_run() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let mut mailbox = Mailbox::open(&yard).await?;
    let mut silent = Foreign::of("f1").slots(2).start(&yard).await?;
    let task = Submission::of("echo", "x").id("slow").reply_to(mailbox.address(), "c");
    let task = task.number("x-task-timeout", 100).number("x-task-max-attempts", 2);
    yard.submit(&task.text("x-task-backoff", "fixed:10")).await?;
    let first = silent.next().await?;
    silent.report(&first, "started", &[], b"").await?;
    // It goes on elsewhere (here: in the other slot), and then nowhere.
    let second = silent.next().await?;
    assert_eq!((second.attempt, second.number("x-task-failures")?), (2, 1));
    silent.report(&second, "started", &[], b"").await?;
    let task = yard.wait_state("slow", "failed", EVENTUALLY).await?;
    assert_eq!((counts(&task), task.text("error_kind")), ((2, 2, 0), "timeout".into()));
    let letter = mailbox.next().await?;
    assert_eq!(letter.about(), ("failed".into(), "slow".into(), "c".into()));
    assert_eq!(letter.header("x-task-error-kind"), "timeout");
    let dead = take(&yard, "taskyard.dead").await?.delivery;
    assert_eq!(
        (dead.data.as_slice(), header(&dead.properties, "x-task-attempt")),
        (&b"x"[..], "2".into())
    );

    // What the worker says much later changes nothing, and its slots are free again.
    silent.succeed(first, b"too late").await?;
    silent.succeed(second, b"too late").await?;
    yard.submit(&Submission::of("echo", "").id("next")).await?;
    let given = silent.next().await?;
    assert_eq!(given.id, "next");
    silent.succeed(given, b"").await?;
    yard.wait_state("next", "succeeded", EVENTUALLY).await?;
    assert_eq!(yard.state("slow").await?.state(), "failed");
    yard.finish()
}

#[tokio::test]
async fn a_task_that_kills_its_workers_ends_as_lost() -> anyhow::Result<()> {
    let yard = small_yard().await?;
    let payload = r#"{"abort":true,"ms":500}"#;
    let task = Submission::of("fail", payload).id("poison").number("x-task-max-losses", 1);
    yard.submit(&task).await?;
    for _ in 0..2 {
        yard.worker("w1").wait_exit(EVENTUALLY).await?;
        yard.worker("w1").start()?;
    }
    let task = yard.wait_state("poison", "failed", EVENTUALLY).await?;
    assert_eq!((counts(&task), task.text("error_kind")), ((2, 0, 2), "lost".into()));
    let letter = take(&yard, "taskyard.dead").await?.delivery;
    assert_eq!(header(&letter.properties, "x-task-reason"), "lost");
    assert_eq!(letter.data, payload.as_bytes());
    // The worker lives on without it.
    let id = yard.submit(&Submission::of("echo", "")).await?;
    yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
    yard.expect_warnings("a worker was lost while it ran a task");
    yard.expect_warnings("panicked");
    yard.finish()
}

#[tokio::test]
async fn dead_letters_are_shown_and_replayed_by_the_command_line() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let mut mailbox = Mailbox::open(&yard).await?;
    let mut worker = Foreign::of("f1").start(&yard).await?;
    let task = Submission::of("echo", "again").id("d1").number("x-task-max-attempts", 1);
    yard.submit(&task.reply_to(mailbox.address(), "c").text("mine", "kept")).await?;
    let given = worker.next().await?;
    worker.fail(given, "not today").await?;
    assert_eq!(mailbox.next().await?.about().0, "failed");
    let listed = wait_until("a dead letter", EVENTUALLY, async || {
        let listed = yard.taskyard(&["dead", "ls"]).await?.ok()?;
        ensure!(listed.contains("d1"), "{listed}");
        anyhow::Ok(listed)
    })
    .await?;
    assert!(listed.contains("not today"), "{listed}");
    assert_eq!(yard.taskyard(&["dead", "show", "d1", "--payload"]).await?.ok()?, "again");

    yard.taskyard(&["dead", "replay", "d1"]).await?.ok()?;
    let given = worker.next().await?;
    assert_eq!((given.attempt, given.number("x-task-failures")?), (2, 0));
    assert_eq!(given.header("mine"), Some(&text("kept")));
    worker.succeed(given, b"better").await?;
    let task = wait_until("another life", EVENTUALLY, async || {
        let task = yard.state("d1").await?;
        ensure!(task.state() == "succeeded", "{task:?}");
        anyhow::Ok(task)
    })
    .await?;
    assert_eq!((counts(&task), task.text("error")), ((2, 0, 0), String::new()));
    let mut about = mailbox.next().await?.about();
    // A reply may come twice: a nacked copy that is read before the first is struck out finds it owed.
    if about.0 == "failed" {
        about = mailbox.next().await?.about();
    }
    assert_eq!(about, ("succeeded".into(), "d1".into(), "c".into()));
    is_empty(&yard, "taskyard.dead").await?;
    yard.finish()
}

async fn is_empty(yard: &Yard, queue: &str) -> anyhow::Result<()> {
    wait_until(queue, EVENTUALLY, async || {
        let depth = depth(yard, queue).await?;
        ensure!(depth == 0, "{depth}");
        anyhow::Ok(())
    })
    .await
}

#[tokio::test]
async fn what_a_worker_acks_instead_of_nacking_is_not_thrown_away() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let mut worker = Foreign::of("f1").slots(3).start(&yard).await?;
    let hasty =
        |id: &str| Submission::of("echo", "kept").id(id).text("x-task-backoff", "fixed:100");
    let last = |id: &str| hasty(id).number("x-task-max-attempts", 1);
    for (task, says) in [(hasty("a1"), "failed"), (hasty("a2"), "returned"), (last("a3"), "failed")]
    {
        yard.submit(&task).await?;
        let given = worker.next().await?;
        worker.report(&given, says, &[("x-task-error", text("no"))], b"").await?;
        worker.ack(given).await?;
    }
    for _ in 0..2 {
        let given = worker.next().await?;
        assert_eq!((given.attempt, given.delivery.data.as_slice()), (2, b"kept".as_slice()));
        worker.succeed(given, b"done").await?;
    }
    for (id, failures) in [("a1", 1), ("a2", 0)] {
        let task = yard.wait_state(id, "succeeded", EVENTUALLY).await?;
        assert_eq!(counts(&task), (2, failures, 0));
    }
    assert_eq!(yard.state("a3").await?.text("state"), "failed");
    let letter = take(&yard, "taskyard.dead").await?;
    assert_eq!(letter.delivery.properties.message_id().as_ref().map(|id| id.as_str()), Some("a3"));
    assert_eq!(letter.delivery.data, b"kept");
    wait_until("no payload is left", EVENTUALLY, async || {
        let mut exists = redis::cmd("EXISTS");
        exists.arg(&["a1", "a2", "a3"].map(|id| format!("{{taskyard:task:{id}}}:payload")));
        let left: u32 = yard.redis(&exists).await?;
        ensure!(left == 0, "{left}");
        anyhow::Ok(())
    })
    .await?;
    yard.finish()
}
