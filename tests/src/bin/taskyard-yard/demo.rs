//! A real job on real input, and its check.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use taskyard_tests::Yard;

use crate::{
    Failure,
    check::{self, Report},
    job::{self, Done, Task},
    progress::{self, Progress},
    system::{self, WORKERS, until_interrupted},
    tree::{File, Tree},
};

/// Left out of the default folder: not ours, too much, and changing while we look.
const SKIP: [&str; 2] = [".git", "target"];
/// When nothing has moved for so long, something is wrong.
const STUCK_AFTER: Duration = Duration::from_secs(120);
/// How often Redis is asked how far the tasks are; more rarely when asking takes long.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Wrong results that are printed one by one.
const WRONG_SHOWN: usize = 20;

/// Runs the demo on that folder, or on the current one.
pub(crate) async fn run(dir: Option<PathBuf>) -> Result<(), Failure> {
    let (folder, skip) = match &dir {
        Some(dir) => (dir.as_path(), &[][..]),
        None => (Path::new("."), &SKIP[..]),
    };
    let tree = look(folder, skip).map_err(Failure::Usage)?;
    if tree.files.is_empty() {
        println!("No file in {}: nothing to do.", folder.display());
        return Ok(());
    }
    let yard = system::start().await?;
    let job = until_interrupted(work(&yard, tree)).await;
    let job = match job {
        Ok(outcome) => outcome,
        Err(interrupted) => {
            yard.discard();
            return Err(interrupted);
        }
    };
    // Dropping the yard on the way out prints the programs' logs.
    job.map_err(Failure::Software)?;
    yard.discard();
    println!("\nEverything is cleaned up. Go on with:");
    println!("  make demo DIR=/usr/share   the same with thousands of files");
    println!("  make up                    a system that stays, to submit tasks of your own");
    println!("  README.md                  how to write handlers and submit from your language");
    Ok(())
}

/// Finds the files and says so.
fn look(folder: &Path, skip: &[&str]) -> anyhow::Result<Tree> {
    let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let tree = Tree::of(&folder, skip).with_context(|| folder.display().to_string())?;
    let mebibytes = tree.bytes() as f64 / f64::from(1 << 20);
    println!("{} files, {mebibytes:.1} MiB in {}", tree.files.len(), folder.display());
    if !skip.is_empty() {
        println!("  without {}", skip.join(" and "));
    }
    for (what, count) in &tree.left_out {
        println!("  left out: {count} {what}");
    }
    Ok(tree)
}

async fn work(yard: &Yard, tree: Tree) -> anyhow::Result<()> {
    let run = format!("demo-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let tasks = job::tasks(&run, &tree.files);
    println!("Submitting a task per file, priorities 0 to 9; 1 in 100 fails its first attempt.");
    let place = yard.place();
    let (submitted, took) =
        tokio::try_join!(submit(place.amqp_url(), &tasks), watch(yard, &tasks))?;
    let done = job::collect(place.redis_url(), &tasks).await?;
    println!("All accepted after {submitted:.1?}, all final after {took:.1?}. By worker:");
    print_shares(&done);

    println!("Comparing with sha256sum, run over the same files one after the other ...");
    let begun = Instant::now();
    let files = tree.files;
    let (files, expected) = tokio::task::spawn_blocking(move || {
        check::sequentially(&files).map(|expected| (files, expected))
    })
    .await??;
    println!("  which took {:.1?}", begun.elapsed());
    conclude(&files, &tasks, &check::compare(&files, &tasks, &done, &expected))
}

async fn submit(amqp_url: &str, tasks: &[Task]) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    job::submit(amqp_url, tasks).await?;
    Ok(begun.elapsed())
}

/// Shows how far the tasks are until all are final.
async fn watch(yard: &Yard, tasks: &[Task]) -> anyhow::Result<Duration> {
    let mut progress = Progress::begin(tasks.len());
    let mut open: Vec<String> = tasks.iter().map(|task| task.id.clone()).collect();
    let mut ended = BTreeMap::<&'static str, usize>::new();
    let (mut last_counts, mut moved_at) = (BTreeMap::new(), Instant::now());
    while !open.is_empty() {
        let asked_at = Instant::now();
        let states = yard.states(&open).await?;
        let mut counts = ended.clone();
        let mut still_open = Vec::new();
        for (id, state) in open.into_iter().zip(states) {
            let row = progress::row(&state);
            *counts.entry(row).or_default() += 1;
            if matches!(row, "succeeded" | "failed") {
                *ended.entry(row).or_default() += 1;
            } else {
                still_open.push(id);
            }
        }
        open = still_open;
        progress.show(&counts);
        if counts != last_counts {
            (last_counts, moved_at) = (counts, Instant::now());
        } else if moved_at.elapsed() > STUCK_AFTER {
            let example = open.first().map(String::as_str).unwrap_or_default();
            let hash = yard.state(example).await?;
            bail!("nothing has moved for {STUCK_AFTER:?}: {last_counts:?}; {example}: {hash:?}");
        }
        if !open.is_empty() {
            tokio::time::sleep(LOOK_EVERY.max(asked_at.elapsed() * 4)).await;
        }
    }
    Ok(progress.end())
}

fn print_shares(done: &[Done]) {
    for (worker, weight) in WORKERS {
        let count = done.iter().filter(|done| done.worker == worker).count();
        let share = count as f64 * 100.0 / done.len() as f64;
        println!("  {worker} (weight {weight}) {count:>8}  {share:.0} %");
    }
    println!(
        "  (weights decide where several have a slot free; under full load each gets what it finishes)"
    );
}

fn conclude(files: &[File], tasks: &[Task], report: &Report) -> anyhow::Result<()> {
    for line in report.wrong.iter().take(WRONG_SHOWN) {
        println!("  WRONG: {line}");
    }
    if !report.wrong.is_empty() {
        return Err(anyhow!("{} of {} results are wrong", report.wrong.len(), files.len()));
    }
    let flaky = tasks.iter().filter(|task| task.is_flaky).count();
    println!("\nRight: {} of {} results are what sha256sum prints,", report.equal, files.len());
    println!("       {} of {flaky} made to fail were tried again.", report.retried);
    if report.unreadable > 0 {
        println!("       {} files could not be read, by neither.", report.unreadable);
    }
    if report.changed > 0 {
        println!("       {} files were changed while we worked.", report.changed);
    }
    Ok(())
}
