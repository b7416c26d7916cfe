//! A great many waiting tasks.

use super::{Row, start};
use crate::load::{PAYLOAD_BYTES, Tasks};
use crate::raw;
use crate::results::Measured;
use std::time::{Duration, Instant};

const WAITING: usize = 1_000_000;
const WAITING_QUICK: usize = 50_000;
/// Tasks of the highest priority, one after the other, while the backlog drains.
const URGENT: usize = 20;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let count = if quick { WAITING_QUICK } else { WAITING };
    let mut bench = start(1, quick).await?;
    let limit = raw::two(bench.url(), 20_000, PAYLOAD_BYTES).await?;
    let limit = Measured::throughput(20_000, limit);
    bench.stop_workers().await?;
    let before = [bench.resident_bytes("dispatcher"), bench.resident_bytes("broker")];
    let redis = bench.redis_bytes().await?;

    let tasks = Tasks::new("w", count);
    let meter = bench.meter().await?;
    let begun = Instant::now();
    bench.submit_bulk(&tasks).await?;
    bench.wait_for_intake(&tasks).await?;
    let intake = bench.used(&meter, Measured::throughput(count, begun.elapsed())).await?;
    let grown = |role, before: f64| (bench.resident_bytes(role) - before) / 1e6;
    let row = Row::new(format!("intake of {count}"))
        .with("tasks/s", intake.main())
        .with("ratio", intake.main() / limit.main())
        .with("dispatcher +MB", grown("dispatcher", before[0]))
        .with("broker +MB", grown("broker", before[1]))
        .with("Redis B/task", (bench.redis_bytes().await? - redis) / count as f64);
    let mut rows = vec![row.with_cpu(&intake)];

    let meter = bench.meter().await?;
    bench.start_workers()?;
    let urgent = Tasks::new("u", URGENT).of_priority(9);
    let took = bench.one_by_one(&urgent, PAUSE).await?;
    bench.wait_for_all(&tasks).await?;
    let drain = bench.used(&meter, Measured::throughput(count, begun.elapsed())).await?;
    let (first, last) = bench.verify(&tasks).await?;
    let drain = drain.in_time(Duration::from_millis(last.saturating_sub(first).max(1)));
    let urgent = Measured::latency(took);
    let of = |name: &str| urgent.numbers.get(name).copied().unwrap_or(f64::NAN);
    let row = Row::new("drain")
        .with("tasks/s", drain.main())
        .with("ratio", drain.main() / limit.main())
        .with("dispatcher +MB", (bench.resident_bytes("dispatcher") - before[0]) / 1e6)
        .with("broker +MB", (bench.resident_bytes("broker") - before[1]) / 1e6)
        .with("urgent p50 ms", of("p50_ms"))
        .with("urgent p99 ms", of("p99_ms"));
    rows.push(row.with_cpu(&drain));
    bench.end();
    Ok(rows)
}
