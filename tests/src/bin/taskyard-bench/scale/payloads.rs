//! How the cost grows with the payload.

use super::{Row, part_of, start};
use crate::load::{Bench, Tasks};
use crate::raw;
use crate::results::Measured;

const SIZES: [(usize, &str); 3] = [(100, "100 B"), (1024, "1 KiB"), (64 * 1024, "64 KiB")];
/// Payloads of one measurement are at most so many bytes in all: Redis keeps as much in results.
const BYTES_MAX: usize = 256 * 1024 * 1024;
const TASKS_MAX: usize = 50_000;

pub(super) async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let bench = start(1, quick).await?;
    let mut rows = Vec::new();
    for (bytes, name) in SIZES {
        let count = part_of(TASKS_MAX.min(BYTES_MAX / bytes), quick);
        let limit = Measured::throughput(count, raw::two(bench.url(), count, bytes).await?);
        let tasks = |how| Tasks::new(&format!("{how}-{bytes}"), count).of_bytes(bytes);
        let before = bench.redis_bytes().await?;
        let single = bench.single(&tasks("s")).await?;
        rows.push(row(&bench, &format!("{name}, single"), &single, &limit, before).await?);
        let before = bench.redis_bytes().await?;
        let bulk = bench.bulk(&tasks("b")).await?;
        rows.push(row(&bench, &format!("{name}, bulk"), &bulk, &limit, before).await?);
    }
    bench.end();
    Ok(rows)
}

async fn row(
    bench: &Bench,
    what: &str,
    measured: &Measured,
    limit: &Measured,
    before: f64,
) -> anyhow::Result<Row> {
    let kept = (bench.redis_bytes().await? - before) / measured.tasks as f64;
    let row = Row::new(what)
        .with("tasks/s", measured.main())
        .with("raw/s", limit.main())
        .with("ratio", measured.main() / limit.main())
        .with("Redis B/task", kept);
    Ok(row.with_cpu(measured))
}
