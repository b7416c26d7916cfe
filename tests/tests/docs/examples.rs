//! Examples in the documents run.

use crate::{blocks, read};
use anyhow::ensure;
use std::process::Command;
use taskyard_tests::{EVENTUALLY, Submission, Yard, ours, wait_until};

fn python(document: &str) -> Vec<String> {
    blocks(&read(document), "python")
}

#[tokio::test]
async fn examples_of_submissions_run() -> anyhow::Result<()> {
    let handler = "[[handler]]\nkind = \"image.resize\"\nexec = [\"cat\"]\n";
    let yard = Yard::builder().worker(|w| w.id("w1").builtin().handlers(handler)).start().await?;

    let [single] = &python("README.md")[..] else { panic!("one Python example in the README") };
    yard.python(single, &[]).await?.ok()?;
    let task = yard.wait_state("resize-a.png", "succeeded", EVENTUALLY).await?;
    assert_eq!(task.number("max_attempts"), 3);

    let bulk = &python("docs/wire.md")[0];
    yard.python(bulk, &[]).await?.ok()?;
    let ids: Vec<String> = (0..100).map(|n| format!("bulk-{n}")).collect();
    yard.wait_all(&ids, "succeeded", EVENTUALLY).await?;
    assert_eq!(yard.state("bulk-57").await?.bytes("result"), b"payload 57");

    let readme = read("README.md");
    let line = readme.lines().find(|line| line.starts_with("amqp-publish")).expect("an example");
    let url = yard.place().amqp_url();
    let status = Command::new("sh").args(["-c", line]).env("TASKYARD_AMQP_URL", url).status()?;
    ensure!(status.success(), "{line}");
    wait_until("the last success", EVENTUALLY, async || {
        let count = yard.redis_cli(&["ZCARD", "taskyard:recent:succeeded"]).await?.ok()?;
        ensure!(count.trim() == "102", "{count}");
        anyhow::Ok(())
    })
    .await?;
    yard.finish()
}

#[tokio::test]
async fn example_of_a_worker_runs() -> anyhow::Result<()> {
    let yard = Yard::builder().start().await?;
    let worker = &python("docs/wire.md")[1];
    let ended = yard.python(worker, &[]);
    let run = async {
        let id = yard.submit(&Submission::of("text.upper", "loud")).await?;
        let task = yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
        assert_eq!(task.bytes("result"), b"LOUD");
        let id = yard.submit(&Submission::of("text.upper", "more")).await?;
        yard.wait_state(&id, "succeeded", EVENTUALLY).await
    };
    tokio::select! {
        ended = ended => anyhow::bail!("the worker ended: {ended:?}"),
        ran = run => drop(ran?),
    }
    yard.finish()
}

#[tokio::test]
async fn example_of_a_handlers_file_is_understood() -> anyhow::Result<()> {
    let [example] = &blocks(&read("docs/handlers.md"), "toml")[..] else {
        panic!("one handlers file in docs/handlers.md")
    };
    // The programs of the reader's own stand for those that are everywhere.
    let handlers = example.replace("\"convert\"", "\"cat\"");
    let yard = Yard::builder()
        .worker(|w| w.id("w1").handlers(&handlers).program(|p| p.env("BILLING_TOKEN", "secret")))
        .start()
        .await?;
    let kinds = yard.worker_field("w1", "kinds").await?;
    for kind in ["image.resize", "text.#", "invoice.send"] {
        ensure!(kinds.contains(kind), "{kind} is not in {kinds}");
    }
    yard.finish()
}

#[test]
fn example_of_a_configuration_is_understood() {
    let [example] = &blocks(&read("docs/operations.md"), "toml")[..] else {
        panic!("one configuration file in docs/operations.md")
    };
    let file = tempfile::NamedTempFile::new().expect("it is there");
    std::fs::write(file.path(), example).expect("it is there");
    let mut command = Command::new(ours("taskyard-dispatcher").expect("it is there"));
    let output = command
        .arg("--print-config")
        .arg("--config")
        .arg(file.path())
        .output()
        .expect("it is there");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.contains("email.send"), "{stdout}");
}
