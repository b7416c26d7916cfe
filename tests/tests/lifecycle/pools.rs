//! Pools: kinds that belong together, with dispatchers and workers of their own.

use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};

use crate::counts;
use crate::mailbox::depth;

const CONFIG: &str = r##"
[[pools]]
name = "mail"
kinds = ["mail.#", "echo"]
priority = 4

[[kinds]]
kind = "mail.now"
priority = 8
"##;

async fn two_pools() -> anyhow::Result<Yard> {
    Yard::builder()
        .each_dispatcher(|d| d.config(CONFIG))
        .dispatcher(|d| d.args(["--pool", "mail"]))
        .worker(|w| w.id("mailer").pool("mail").builtin())
        .worker(|w| w.id("other").builtin())
        .start()
        .await
}

#[tokio::test]
async fn a_task_goes_to_the_pool_of_its_kind() -> anyhow::Result<()> {
    let yard = two_pools().await?;
    let mail = yard.submit(&Submission::of("echo", "mail")).await?;
    let rest = yard.submit(&Submission::of("sleep", r#"{"ms":1}"#)).await?;
    let mail = yard.wait_state(&mail, "succeeded", EVENTUALLY).await?;
    assert_eq!((mail.text("pool"), mail.text("worker")), ("mail".into(), "mailer".into()));
    assert_eq!(mail.text("priority"), "4", "the pool's");
    let rest = yard.wait_state(&rest, "succeeded", EVENTUALLY).await?;
    assert_eq!((rest.text("pool"), rest.text("worker")), ("default".into(), "other".into()));
    assert_eq!(rest.text("priority"), "0");
    let urgent = yard.submit(&Submission::of("mail.now", "")).await?;
    let urgent = yard.wait_state(&urgent, "queued", EVENTUALLY).await?;
    assert_eq!(urgent.text("priority"), "8", "the kind's goes before the pool's");
    let own = Submission::of("mail.now", "").properties(|p| p.with_priority(1));
    let own = yard.submit(&own).await?;
    assert_eq!(yard.wait_state(&own, "queued", EVENTUALLY).await?.text("priority"), "1");
    yard.finish()
}

#[tokio::test]
async fn a_type_that_differs_from_the_routing_key_is_the_kind() -> anyhow::Result<()> {
    let yard = two_pools().await?;
    // By its routing key it gets into one pool, by its kind it belongs to the other.
    let typed = |key: &str, kind: &str, id: &str| {
        Submission::of(key, r#"{"ms":1}"#).id(id).properties(|p| p.with_type(kind.into()))
    };
    let there_and_back =
        [("sleep", "echo", "mailer", "mail"), ("echo", "sleep", "other", "default")];
    for (key, kind, worker, pool) in there_and_back {
        yard.submit(&typed(key, kind, kind)).await?;
        let task = yard.wait_state(kind, "succeeded", EVENTUALLY).await?;
        assert_eq!((task.text("kind"), task.text("pool")), (kind.into(), pool.into()));
        assert_eq!((task.text("worker"), counts(&task)), (worker.into(), (1, 0, 0)));
    }
    yard.finish()
}

#[tokio::test]
async fn a_pool_without_a_dispatcher_keeps_its_tasks_and_troubles_nobody() -> anyhow::Result<()> {
    let yard = Yard::builder()
        .each_dispatcher(|d| d.config(CONFIG))
        .worker(|w| w.id("other").builtin())
        .start()
        .await?;
    let waiting = yard.submit(&Submission::of("mail.send", "by its key")).await?;
    // Into the default pool by its routing key, and from there to where its kind belongs.
    let moved = Submission::of("sleep", "by its kind").id("moved");
    yard.submit(&moved.properties(|p| p.with_type("mail.send".into()))).await?;
    let rest = yard.submit(&Submission::of("sleep", r#"{"ms":1}"#)).await?;
    yard.wait_state(&rest, "succeeded", EVENTUALLY).await?;
    assert_eq!(depth(&yard, "taskyard.submit.mail").await?, 1);
    wait_until("the moved task in its pool", EVENTUALLY, async || {
        anyhow::ensure!(depth(&yard, "taskyard.again.mail").await? == 1);
        anyhow::Ok(())
    })
    .await?;
    for id in [waiting.as_str(), "moved"] {
        assert_eq!(yard.state(id).await?.text("state"), "", "{id} is recorded by its own pool");
    }
    yard.finish()
}

#[tokio::test]
async fn delays_and_retries_come_back_to_their_pool() -> anyhow::Result<()> {
    let yard = two_pools().await?;
    let late = Submission::of("echo", "late").number("x-task-delay", 3_000);
    let late = yard.submit(&late).await?;
    let failing = Submission::of("mail.fail", r#"{"failures":1}"#)
        .properties(|p| p.with_type("fail".into()))
        .text("x-task-backoff", "fixed:2500");
    let failing = yard.submit(&failing).await?;
    let late = yard.wait_state(&late, "succeeded", EVENTUALLY).await?;
    assert_eq!((late.text("pool"), counts(&late)), ("mail".into(), (1, 0, 0)));
    let failing = yard.wait_state(&failing, "succeeded", EVENTUALLY).await?;
    assert_eq!((failing.text("pool"), counts(&failing)), ("default".into(), (2, 1, 0)));
    yard.finish()
}
