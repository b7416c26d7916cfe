//! Whole systems in one thread and on a virtual clock: the real scheduler, and everything around it
//! simulated. One seed draws the workload, the faults and every delay.
#![expect(clippy::unwrap_used, reason = "what cannot be is a failed test")]

mod chance;
mod message;

mod broker;
mod store;

mod dispatcher;
mod plan;
mod worker;

mod oracle;
mod trace;
mod world;

mod shell;
mod trouble;

use world::World;

/// Runs a seed twice; both must be the same to the last byte, and keep every promise.
fn simulate(seed: u64) {
    let (digest, _, end) = World::new(seed, false).run();
    if let Err(breach) = end {
        panic!(
            "{breach}\nseed {seed}: replay with TASKYARD_SEED={seed} \
             cargo test --release -p taskyard-scheduler --test simulation replay -- --nocapture"
        );
    }
    let (again, ..) = World::new(seed, false).run();
    assert_eq!(digest, again, "seed {seed} does not repeat itself");
}

fn simulate_all(seeds: std::ops::Range<u64>) {
    seeds.for_each(simulate);
}

#[test]
fn nothing_is_lost_and_everything_ends_first_half() {
    simulate_all(0..1_000);
}

#[test]
fn nothing_is_lost_and_everything_ends_second_half() {
    simulate_all(1_000..2_000);
}

/// The seed of `TASKYARD_SEED`, with all that happens; without one there is nothing to replay.
#[test]
#[expect(clippy::disallowed_methods, reason = "the one input of a replay")]
#[expect(clippy::disallowed_macros, clippy::print_stdout, reason = "it is there to be read")]
fn replay() {
    let Ok(seed) = std::env::var("TASKYARD_SEED") else { return };
    let (_, text, end) = World::new(seed.parse().expect("a seed is a number"), true).run();
    println!("{text}");
    end.expect("the promises are kept");
}

/// All seeds below `TASKYARD_SURVEY`, to the end, with a line for each that fails: for a change that may
/// break many. Without a number there is nothing to survey.
#[test]
#[expect(clippy::disallowed_methods, reason = "the one input of a survey")]
#[expect(clippy::disallowed_macros, clippy::print_stdout, reason = "it is there to be read")]
fn survey() {
    let Ok(count) = std::env::var("TASKYARD_SURVEY") else { return };
    let failed = (0..count.parse().expect("a number of seeds"))
        .filter(|seed| {
            let breach = match std::panic::catch_unwind(|| World::new(*seed, false).run().2) {
                Ok(Ok(())) => return false,
                Ok(Err(breach)) => breach,
                Err(_) => "it panicked".to_owned(),
            };
            println!("seed {seed}: {}", breach.lines().next().unwrap_or_default());
            true
        })
        .count();
    assert_eq!(failed, 0, "of {count} seeds");
}
