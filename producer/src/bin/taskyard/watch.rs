use crate::connect::Reach;
use crate::counts::{Counts, Meter, Rates};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone};
use crate::stats::{self, NOTHING_COUNTED};
use crate::table::{Cell, Table};
use crate::{json, task, when};
use std::collections::BTreeMap;
use std::time::Duration;
use taskyard_common::shutdown::Shutdown;
use taskyard_common::store::{Reader, StoreError};
use taskyard_model::{PoolName, State, Timestamp};
use tokio::time::MissedTickBehavior;

pub(crate) const AFTER_HELP: &str = "\
Examples:
  taskyard watch
  taskyard watch --pool mail --interval 10s
  taskyard watch --json --count 60 | jq .finished_per_s

On a terminal it is a table that is drawn again each time; else a line for each pool. Counts are
since the beginning; IN/S and OUT/S are how many a second were accepted and have ended, over the last
5 s (or the interval, if that is longer). Dispatchers write once a second. While Redis is out of
reach it says so and goes on. --json prints an object for each pool each time (docs/json.md).";

#[derive(clap::Args)]
pub(crate) struct WatchArgs {
    /// How long to wait between two looks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = when::interval)]
    interval: Duration,
    /// End after this many looks
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Shows how many tasks come, wait and go, again and again.
pub(crate) async fn run(args: &WatchArgs, reach: &Reach, output: &Output) -> Result<Exit, Failure> {
    let reader = reach.reader()?;
    let shutdown = Shutdown::on_signals()
        .map_err(|error| Failure::new(Exit::Bug, format!("signals cannot be caught: {error}")))?;
    let mut ticks = tokio::time::interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch { output, pools: BTreeMap::new(), drawn_lines: 0 };
    let mut looks = 0;
    while args.count.is_none_or(|count| looks < count) {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.drain.cancelled() => break,
        }
        let pools = stats::pools(reach, &reader);
        let looked = match pools.await {
            Ok(pools) => look(&pools, &reader).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        match looked {
            Ok(seen) => watch.show(taskyard_common::now(), seen),
            // At first nobody knows whether it will ever work; later it did.
            Err(failure) if looks == 0 || failure.exit != Exit::OutOfReach => return Err(failure),
            Err(failure) => watch.interrupted(&failure),
        }
        looks += 1;
        output.flush();
        if output.is_closed() {
            break;
        }
    }
    Ok(Exit::Done)
}

async fn look(pools: &[PoolName], reader: &Reader) -> Result<Vec<(PoolName, Counts)>, StoreError> {
    let mut seen = Vec::new();
    for pool in pools {
        let counts = Counts::from(reader.stats(pool).await?);
        if !counts.is_empty() {
            seen.push((pool.clone(), counts));
        }
    }
    Ok(seen)
}

/// What was seen so far, and is on the terminal.
struct Watch<'a> {
    output: &'a Output,
    pools: BTreeMap<PoolName, Meter>,
    /// Lines of the table that the next one is drawn over.
    drawn_lines: usize,
}

impl Watch<'_> {
    fn show(&mut self, now: Timestamp, seen: Vec<(PoolName, Counts)>) {
        self.pools.retain(|pool, _| seen.iter().any(|(there, _)| there == pool));
        for (pool, counts) in seen {
            self.pools.entry(pool).or_default().look(now, counts);
        }
        if self.output.is_json() {
            for (pool, meter) in &self.pools {
                let Some(counts) = meter.counts() else { continue };
                self.output.json(&json::Pulse::new(now, pool, counts, &meter.rates()));
            }
        } else if self.pools.is_empty() {
            self.erase();
            self.output.note(NOTHING_COUNTED);
        } else if self.output.is_terminal() {
            self.draw(now);
        } else {
            self.lines(now);
        }
    }

    /// Says that this time nothing could be seen.
    fn interrupted(&mut self, failure: &Failure) {
        self.drawn_lines = 0;
        self.output.failure(failure);
    }

    /// A table over the last one.
    fn draw(&mut self, now: Timestamp) {
        let mut table = table();
        for (pool, meter) in &self.pools {
            table.row(row(pool, meter));
        }
        let title = self.output.paint(Tone::Faint, &when::utc(now));
        self.erase();
        self.output.line(&title);
        self.output.table(&table);
        let columns = crossterm::terminal::size().map_or(80, |(columns, _)| columns.max(1));
        // Lines that are too long go on in the next.
        let rows = table.render(false);
        let rows = rows.lines().map(|row| row.chars().count().div_ceil(columns.into()).max(1));
        self.drawn_lines = 1 + rows.sum::<usize>();
    }

    /// Takes the last table from the terminal.
    fn erase(&mut self) {
        if self.drawn_lines > 0 {
            // Up, and erase to the end of the screen.
            self.output.bytes(format!("\x1b[{}A\r\x1b[J", self.drawn_lines).as_bytes());
        }
        self.drawn_lines = 0;
    }

    fn lines(&self, now: Timestamp) {
        for (pool, meter) in &self.pools {
            let Some(counts) = meter.counts() else { continue };
            let rates = meter.rates();
            let number = |name| shown(counts.named(name));
            self.output.line(&format!(
                "{} {pool} in {}/s out {}/s waiting {} in_flight {} busy {}/{} accepted {} \
                 succeeded {} failed {} cancelled {} expired {} rejected {}",
                when::utc(now).replace(' ', "T"),
                per_second(rates.accepted),
                per_second(rates.finished),
                number("waiting"),
                number("in_flight"),
                number("busy"),
                number("slots"),
                shown(counts.accepted()),
                counts.ended(State::Succeeded),
                counts.ended(State::Failed),
                counts.ended(State::Cancelled),
                counts.ended(State::Expired),
                counts.ended(State::Rejected),
            ));
        }
    }
}

/// A table of pools.
pub(crate) fn table() -> Table {
    Table::new(&[
        "POOL",
        "IN/S",
        "OUT/S",
        "WAITING",
        "IN FLIGHT",
        "BUSY",
        "WORKERS",
        "ACCEPTED",
        "SUCCEEDED",
        "FAILED",
        "CANCELLED",
        "EXPIRED",
        "REJECTED",
    ])
}

/// A pool's row in it.
pub(crate) fn row(pool: &PoolName, meter: &Meter) -> Vec<Cell> {
    let none = Counts::default();
    let counts = meter.counts().unwrap_or(&none);
    let Rates { accepted, finished, .. } = meter.rates();
    let number = |name| shown(counts.named(name));
    let ended = |state: State| {
        let count = counts.ended(state);
        let tone = if count > 0 { task::tone(Some(state)) } else { Tone::Faint };
        Cell::toned(tone, count.to_string())
    };
    vec![
        pool.as_str().into(),
        Cell::toned(Tone::Head, per_second(accepted)),
        Cell::toned(Tone::Head, per_second(finished)),
        number("waiting").into(),
        number("in_flight").into(),
        format!("{}/{}", number("busy"), number("slots")).into(),
        number("workers").into(),
        shown(counts.accepted()).into(),
        ended(State::Succeeded),
        ended(State::Failed),
        ended(State::Cancelled),
        ended(State::Expired),
        ended(State::Rejected),
    ]
}

fn shown(count: Option<u64>) -> String {
    count.map_or("-".to_owned(), |count| count.to_string())
}

/// A rate as people read it: with a decimal where that says something.
pub(crate) fn per_second(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_decimal_where_it_says_something() {
        let texts = [None, Some(0.0), Some(2.46), Some(10.4), Some(12_345.6)].map(per_second);
        assert_eq!(texts, ["-", "0.0", "2.5", "10", "12346"]);
    }
}
