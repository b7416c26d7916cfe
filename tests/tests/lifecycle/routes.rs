//! Which worker gets a task, and how many at once.

use anyhow::ensure;
use taskyard_tests::{EVENTUALLY, Submission, Yard, wait_until};

use crate::{foreign::Foreign, yard_without_workers};

async fn yard_with(args: &[&str]) -> anyhow::Result<Yard> {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    Yard::builder().each_dispatcher(|d| d.args(args)).start().await
}

async fn submit(yard: &Yard, id: &str) -> anyhow::Result<()> {
    yard.submit(&Submission::of("echo", "").id(id)).await?;
    Ok(())
}

#[tokio::test]
async fn all_labels_that_a_task_requires_are_needed() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let picky = |id: &str| Submission::of("echo", "").id(id).text("x-task-requires", "gpu,zone=eu");
    let mut plain = Foreign::of("plain").slots(9).labels(&["gpu", "zone=us"]).start(&yard).await?;
    yard.submit(&picky("l1")).await?;
    let task = yard.wait_state("l1", "queued", EVENTUALLY).await?;
    assert_eq!(task.text("reason"), "no worker takes this kind with its labels and slots");
    let labels = ["zone=eu", "big", "gpu"];
    let mut fitting = Foreign::of("fitting").slots(9).labels(&labels).start(&yard).await?;
    for id in ["l1", "l2", "l3"] {
        if id != "l1" {
            yard.submit(&picky(id)).await?;
        }
        let given = fitting.next().await?;
        assert_eq!(given.id, id);
        fitting.succeed(given, b"").await?;
    }
    // Who requires nothing may go to either.
    for n in 0..6 {
        submit(&yard, &format!("any{n}")).await?;
    }
    let given = plain.next().await?;
    assert!(given.id.starts_with("any"), "{given:?}");
    yard.finish()
}

#[tokio::test]
async fn a_task_of_two_slots_needs_a_worker_with_both_free() -> anyhow::Result<()> {
    let yard = yard_without_workers().await?;
    let wide = |id: &str| Submission::of("echo", "").id(id).number("x-task-slots", 2);
    let mut one = Foreign::of("one").slots(1).start(&yard).await?;
    yard.submit(&wide("wide1")).await?;
    yard.wait_state("wide1", "queued", EVENTUALLY).await?;
    let mut two = Foreign::of("two").slots(2).start(&yard).await?;
    let given = two.next().await?;
    assert_eq!(given.id, "wide1");

    // The other worker has a slot, and this one is full.
    submit(&yard, "narrow1").await?;
    let narrow1 = one.next().await?;
    submit(&yard, "narrow2").await?;
    yard.submit(&wide("wide2")).await?;
    let waiting = ["narrow2", "wide2"].map(String::from);
    yard.wait_all(&waiting, "queued", EVENTUALLY).await?;
    two.succeed(given, b"").await?;
    let narrow2 = two.next().await?;
    assert_eq!(narrow2.id, "narrow2");
    // One of its slots is free, and one of the other worker's will be.
    one.succeed(narrow1, b"").await?;
    yard.wait_state("narrow1", "succeeded", EVENTUALLY).await?;
    assert_eq!(yard.state("wide2").await?.state(), "queued");
    two.succeed(narrow2, b"").await?;
    let given = two.next().await?;
    assert_eq!((given.id.as_str(), two.holds()), ("wide2", 1));
    two.succeed(given, b"").await?;
    yard.wait_state("wide2", "succeeded", EVENTUALLY).await?;
    yard.finish()
}

#[tokio::test]
async fn weights_are_kept_in_proportion_and_smoothly() -> anyhow::Result<()> {
    let yard = yard_with(&["--mode", "passive", "--route", "weighted"]).await?;
    let mut workers = [
        Foreign::of("heavy").weight(5).start(&yard).await?,
        Foreign::of("light1").weight(1).start(&yard).await?,
        Foreign::of("light2").weight(1).start(&yard).await?,
    ];
    // One task at a time, so that all three are free whenever one is chosen.
    let mut chosen = Vec::new();
    for n in 0..140 {
        let id = format!("t{n}");
        submit(&yard, &id).await?;
        let (number, given) = Foreign::next_of(&mut workers).await?;
        workers[number].succeed(given, b"").await?;
        yard.wait_state(&id, "succeeded", EVENTUALLY).await?;
        chosen.push(number);
    }
    let counts = [0, 1, 2].map(|number| chosen.iter().filter(|&&n| n == number).count());
    assert!((95..=105).contains(&counts[0]), "{counts:?}");
    assert!((15..=25).contains(&counts[1]) && (15..=25).contains(&counts[2]), "{counts:?}");
    // Spread out: no long runs of anybody (the ideal is 4 of the heavy one, 1 of the others).
    let longest = |number| chosen.split(|&n| n != number).map(<[usize]>::len).max();
    let runs = [0, 1, 2].map(longest);
    assert!(runs[0] <= Some(6) && runs[1] <= Some(2) && runs[2] <= Some(2), "{chosen:?}");
    yard.finish()
}

#[tokio::test]
async fn the_least_loaded_worker_has_the_smallest_share_of_its_slots_taken() -> anyhow::Result<()> {
    let yard = yard_with(&["--route", "least_loaded", "--mode", "passive"]).await?;
    let mut workers = [
        Foreign::of("big").slots(4).start(&yard).await?,
        Foreign::of("small").slots(2).start(&yard).await?,
    ];
    let mut held = [0, 0];
    for n in 0..6 {
        submit(&yard, &format!("t{n}")).await?;
        let shares = [held[0] * 2, held[1] * 4];
        let (number, _given) = Foreign::next_of(&mut workers).await?;
        assert!(shares[number] <= shares[1 - number], "{held:?}, then {number}");
        held[number] += 1;
    }
    assert_eq!(held, [4, 2]);
    yard.finish()
}

#[tokio::test]
async fn in_passive_mode_a_worker_never_holds_more_than_its_slots() -> anyhow::Result<()> {
    let yard = yard_with(&["--mode", "passive"]).await?;
    let mut worker = Foreign::of("f1").slots(2).start(&yard).await?;
    // So many short ones that another mode would send some ahead.
    for n in 0..30 {
        submit(&yard, &format!("short{n}")).await?;
        let given = worker.next().await?;
        let ran = [("x-task-ran-us", lapin::types::AMQPValue::LongLongInt(50))];
        worker.report(&given, "succeeded", &ran, b"").await?;
        worker.ack(given).await?;
    }
    let ids: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    for id in &ids {
        submit(&yard, id).await?;
    }
    let mut held = std::collections::VecDeque::from([worker.next().await?, worker.next().await?]);
    for done in 0..ids.len() {
        let queued = ids.len().saturating_sub(done + 2);
        wait_until("all others are queued", EVENTUALLY, async || {
            let states = yard.states(&ids).await?;
            let now = states.iter().filter(|state| *state == "queued").count();
            ensure!(now == queued, "{states:?}");
            anyhow::Ok(())
        })
        .await?;
        assert_eq!(worker.queued(&yard).await?, 0, "all that was sent has been delivered");
        let given = held.pop_front().expect("two are held, but for the end");
        worker.succeed(given, b"").await?;
        if queued > 0 {
            held.push_back(worker.next().await?);
        }
        assert!(worker.holds() <= 2);
    }
    yard.finish()
}
