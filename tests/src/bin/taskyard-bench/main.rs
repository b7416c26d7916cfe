//! `taskyard-bench` measures Taskyard on private servers, in ratios to what the broker itself can do.
//!
//! Absolute numbers vary with the machine and with what else runs on it. So every round also measures
//! the *raw limit* (see [`raw`]) on the same broker: the same client library relaying the same messages
//! through two quorum queues, without scheduling and without Redis. Each number is the median over the
//! rounds; each ratio is taken within its round first.
//!
//! | measure | what |
//! | --- | --- |
//! | `raw_two` | submit, relay, worker: 100-byte messages, confirmed, acked after the confirm; before and after the others of its round |
//! | `single` | echo tasks of 100 bytes, a message each, 1,000 unconfirmed: first submit to last result in Redis |
//! | `bulk` | the same, 100 a message |
//! | `drain` | a backlog submitted while no worker runs; from the first task finished to the last |
//! | `raw_three` | submit, relay, worker, outcome: one message at a time |
//! | `idle_reply` | one task at a time, submit to the reply received |
//! | `idle_result` | one task at a time, submit to the result seen in Redis |
//!
//! Redis does not rewrite its append-only file meanwhile: it would do so at sizes that come by chance,
//! and one round would pay for all. Every result of `single`, `bulk` and `drain` is read back and
//! compared with its payload, after the clock has stopped.
//!
//! # `target/bench/summary.json`
//!
//! - `schema`: 1. `taken_at`: ms since the epoch. `version`, `cores`, `settings`: what ran and where.
//! - `rounds`: a list of objects, by measure. A throughput has `tasks`, `seconds`, `per_s`, a latency
//!   `tasks`, `p50_ms`, `p99_ms`. Both have `scripts`: calls of scripts in Redis a task, and `cpu_us`:
//!   processor time a task in microseconds, by `broker`, `redis`, `dispatcher`, `worker`, and `bench`
//!   (the producer, and in raw measures every role).
//! - `median`: the same objects; each number is the median over the rounds.
//! - `ratios`: `single`, `bulk`, `drain` over `raw_two`; `idle_reply`, `idle_result` over `raw_three`
//!   (p50), each the median of the ratios of the rounds.
//! - `targets`: a list of `name` (of a ratio), `at_least` or `at_most`, `is_met`.
//!
//! `taskyard-bench peers` measures other task queues beside it: see [`peers`]. `taskyard-bench scale`
//! measures how the cost grows: see [`scale`].
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people at a terminal"
)]

mod cpu;
mod load;
mod peers;
mod raw;
mod results;
mod scale;
mod summary;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    load::{Bench, Sizes, System},
    results::Measure,
    summary::Summary,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure throughput and latency of Taskyard, in ratios to the limit of the bare broker
#[derive(Debug, Parser)]
#[command(name = "taskyard-bench", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// How often everything is measured; medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A fifth of the tasks, and one round: only to see that it works
    #[arg(long)]
    quick: bool,
    /// Only these measures (the raw ones are always taken)
    #[arg(long, value_delimiter = ',', value_name = "MEASURES")]
    only: Vec<Measure>,
    #[command(flatten)]
    system: System,
    /// Where the summary goes
    #[arg(long, default_value = "target/bench/summary.json", value_name = "FILE")]
    summary: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure Celery, Dramatiq, Taskiq and BullMQ beside Taskyard, on the same servers
    Peers(peers::Options),
    /// Measure how the cost grows with payloads, tasks under way, workers and waiting tasks
    Scale(scale::Options),
    /// Be many workers
    #[command(hide = true)]
    Crowd(scale::CrowdOptions),
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut cli = Cli::parse();
    if cli.quick {
        cli.rounds = 1;
    }
    let ran = match &cli.command {
        Some(Command::Peers(options)) => peers::run(options).await,
        Some(Command::Scale(options)) => scale::run(options).await,
        Some(Command::Crowd(options)) => scale::crowd(options).await,
        None => run(&cli).await,
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> anyhow::Result<()> {
    println!("Starting private servers, a dispatcher, {} worker(s) ...", cli.system.workers);
    let mut bench = Bench::start(&cli.system, Sizes::usual(cli.quick)).await?;
    bench.warm_up().await?;
    let mut summary = Summary::new(cli);
    for number in 1..=cli.rounds {
        println!("Round {number} of {}", cli.rounds);
        let round = bench.round(&cli.only).await?;
        summary.add(round);
    }
    bench.end();
    summary.print();
    summary.write(&cli.summary)?;
    println!("\nAlso in {}", cli.summary.display());
    Ok(())
}
