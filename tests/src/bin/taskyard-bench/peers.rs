//! `taskyard-bench peers`: other task queues beside Taskyard, in one sitting.
//!
//! All do the same work on the same private RabbitMQ and Redis: the same number of echo tasks of 100
//! bytes, whose results are kept in Redis, read back and compared with what was sent. In each round
//! everybody is measured once, one after the other, the bare relay too. Each number is the median over
//! the rounds; each ratio is taken within its round first. `docs/peers.md` has everybody's settings, what
//! each promises, and how to read the table.
//!
//! | measure | Taskyard | the others (`tests/peers/`) |
//! | --- | --- | --- |
//! | `single` | first submit to last result | the same |
//! | `bulk` | the same, 100 a message | where it can submit many in one call: 100 a call |
//! | `drain` | first task finished to the last, of a backlog | first result seen to the last |
//! | `idle_result` | one task at a time, submit to the result seen in Redis | submit to the result in hand |
//!
//! # `target/bench/peers.json`
//!
//! - `schema`: 1. `taken_at`: ms since the epoch. `version`, `cores`, `settings`: what ran and where.
//! - `versions`: by peer, of its packages.
//! - `rounds`: a list of objects, by system (`taskyard`, `celery`, ...), then by measure, as in
//!   `summary.json`; those of `taskyard` hold `raw_two` and `raw_three`, too.
//! - `table`: by measure, a list of `system` (`relay` first), its medians, and the ratios `to_taskyard`
//!   and `to_relay` (p50 where it is a latency; the relay is `raw_two`, for latency `raw_three`).
//! - `losses`: a list of `round`, `system`, `measure`, `tasks`, `missing`, `wrong`, for each measurement in
//!   which results were missing or wrong. Such a one is in no table.

mod comparison;
mod peer;
mod report;

use std::path::PathBuf;

use self::{
    comparison::Comparison,
    peer::{Peer, Stand},
};
use crate::{
    load::{Bench, Sizes, System},
    results::Measure,
};

/// What Taskyard is asked for; the bare relay comes with it.
const MEASURES: [Measure; 5] =
    [Measure::Single, Measure::Bulk, Measure::Drain, Measure::RawThree, Measure::IdleResult];

/// Options of `taskyard-bench peers`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often everything is measured; medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// A tenth of the tasks, and one round: only to see that it works
    #[arg(long)]
    quick: bool,
    /// Tasks of each throughput
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    tasks: u32,
    /// Only these peers
    #[arg(long, value_delimiter = ',', value_name = "PEERS")]
    only: Vec<Peer>,
    #[command(flatten)]
    system: System,
    /// Where the summary goes
    #[arg(long, default_value = "target/bench/peers.json", value_name = "FILE")]
    summary: PathBuf,
}

impl Options {
    fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.rounds }
    }

    fn peers(&self) -> impl Iterator<Item = Peer> {
        let wants = |peer: &Peer| self.only.is_empty() || self.only.contains(peer);
        Peer::ALL.into_iter().filter(wants)
    }

    /// The same for everybody.
    fn sizes(&self) -> Sizes {
        let part = if self.quick { 10 } else { 1 };
        let tasks = self.tasks as usize / part;
        Sizes { single: tasks, bulk: tasks, drain: tasks, idle: 500 / part }
    }
}

/// Measures everybody, prints the table and writes the file.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    peer::must_be_installed(options.peers())?;
    println!("Starting private servers, a dispatcher, {} worker(s) ...", options.system.workers);
    let sizes = options.sizes();
    let mut bench = Bench::start(&options.system, sizes).await?;
    let stand = Stand::new(bench.yard(), sizes).await?;
    bench.warm_up().await?;
    let mut comparison = Comparison::new(options);
    for number in 1..=options.rounds() {
        println!("Round {number} of {}\n taskyard", options.rounds());
        comparison.begin_round(bench.round(&MEASURES).await?);
        for peer in options.peers() {
            println!(" {}", peer.name());
            for measure in peer.measures() {
                let report = stand.measure(peer, *measure).await?;
                println!("  {:<12} {report}", measure.name());
                comparison.add(peer, *measure, report);
            }
        }
    }
    bench.end();
    comparison.print();
    comparison.write(&options.summary)?;
    println!("\nAlso in {}", options.summary.display());
    Ok(())
}
