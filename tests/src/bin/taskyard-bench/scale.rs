//! `taskyard-bench scale`: how the cost of a task grows with payloads, tasks under way, workers, and with
//! what waits.
//!
//! Every part starts private servers of its own and measures its limit in the same sitting; see the
//! documentation of the program for what is measured and for the raw limits.
//!
//! | part | rows | besides rates, ratios and CPU a task |
//! | --- | --- | --- |
//! | `payloads` | 100 bytes, 1 KiB, 64 KiB; a message a task, and 100 a message | bytes in Redis a finished task |
//! | `in_flight` | 1, 10, 100, 1,000 tasks at once, each until its reply | latencies of both; the raw limit relays as many at once |
//! | `workers` | 1, 10, 100, 1,000 workers in one process, with 64 slots or one each | the dispatcher's memory and idle CPU |
//! | `backlog` | 1,000,000 waiting tasks, then as many workers as one | memory of dispatcher, broker and Redis, and how soon a task of priority 9 ends |
//!
//! # `target/bench/scale.json`
//!
//! `schema`: 1. `taken_at`: ms since the epoch. `version`, `cores`, `quick`. `parts`: by part a list of rows:
//! `what`, then the numbers of the table, with `cpu_us` by role as in `summary.json`.

mod backlog;
mod crowd;
mod in_flight;
mod payloads;
mod workers;

pub(crate) use self::crowd::{CrowdOptions, crowd};

use crate::load::{Bench, Sizes, System};
use crate::results::Measured;
use crate::summary::{ROLES, write};
use anyhow::Context;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Options of `taskyard-bench scale`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A tenth of the tasks and at most 100 workers: only to see that it works
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Part>,
    /// Where the summary goes
    #[arg(long, default_value = "target/bench/scale.json", value_name = "FILE")]
    summary: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Part {
    Payloads,
    InFlight,
    Workers,
    Backlog,
}

impl Part {
    const ALL: [Self; 4] = [Self::Payloads, Self::InFlight, Self::Workers, Self::Backlog];

    fn name(self) -> &'static str {
        match self {
            Self::Payloads => "payloads",
            Self::InFlight => "in_flight",
            Self::Workers => "workers",
            Self::Backlog => "backlog",
        }
    }
}

/// A line of a table.
#[derive(Debug, Default)]
struct Row {
    what: String,
    numbers: Vec<(&'static str, f64)>,
    cpu_us: Vec<(&'static str, f64)>,
}

impl Row {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    fn with(mut self, name: &'static str, number: f64) -> Self {
        self.numbers.push((name, number));
        self
    }

    /// Processor time as it was measured.
    fn with_cpu(mut self, measured: &Measured) -> Self {
        let of =
            |role: &'static str| (role, measured.cpu_us.get(role).copied().unwrap_or_default());
        self.cpu_us = ROLES.map(of).to_vec();
        self
    }

    fn json(&self) -> Value {
        let object = |numbers: &[(&str, f64)]| -> Map<String, Value> {
            numbers.iter().map(|(name, number)| ((*name).to_owned(), (*number).into())).collect()
        };
        let mut row = object(&self.numbers);
        row.insert("what".to_owned(), self.what.as_str().into());
        row.insert("cpu_us".to_owned(), object(&self.cpu_us).into());
        row.into()
    }
}

/// Measures, prints each table when it is there, and writes the file.
pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut parts = Map::new();
    for part in Part::ALL {
        if !options.only.is_empty() && !options.only.contains(&part) {
            continue;
        }
        println!("{} ...", part.name());
        let rows = match part {
            Part::Payloads => payloads::run(options.quick).await,
            Part::InFlight => in_flight::run(options.quick).await,
            Part::Workers => workers::run(options.quick).await,
            Part::Backlog => backlog::run(options.quick).await,
        };
        let rows = rows.with_context(|| part.name())?;
        print(&rows);
        parts.insert(part.name().to_owned(), rows.iter().map(Row::json).collect());
    }
    let results = serde_json::json!({ "quick": options.quick, "parts": parts });
    write(&options.summary, results)?;
    println!("Also in {}", options.summary.display());
    Ok(())
}

/// A line for each row; a column for each number that any of them has.
fn print(rows: &[Row]) {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| &row.numbers) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    print!("\n{:<24}", "");
    names.iter().for_each(|name| print!(" {name:>14}"));
    ROLES.iter().for_each(|role| print!(" {role:>10}"));
    println!("   (CPU in us a task)");
    for row in rows {
        print!("{:<24}", row.what);
        for name in &names {
            let number = row.numbers.iter().find(|(of, _)| of == name);
            print!(" {:>14}", number.map(|(_, number)| text(*number)).unwrap_or_default());
        }
        row.cpu_us.iter().for_each(|(_, us)| print!(" {us:>10.1}"));
        println!();
    }
    println!();
}

fn text(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// A system with so many workers of 64 slots, warm if it has any.
async fn start(workers: u32, quick: bool) -> anyhow::Result<Bench> {
    let bench = Bench::start(&System { workers, slots: 64 }, Sizes::usual(quick)).await?;
    if workers > 0 {
        bench.warm_up().await?;
    }
    Ok(bench)
}

/// A tenth where it should be quick.
fn part_of(count: usize, quick: bool) -> usize {
    if quick { count / 10 } else { count }
}
