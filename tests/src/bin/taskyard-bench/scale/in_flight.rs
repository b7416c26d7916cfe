//! Rate and latency by how many tasks are under way.

use super::{Row, part_of, start};
use crate::load::Tasks;
use crate::raw;
use crate::results::Measured;
use std::time::Instant;

/// At once, and of how many in all it is measured.
const STEPS: [(u16, usize); 4] = [(1, 1_000), (10, 10_000), (100, 30_000), (1_000, 50_000)];

pub(super) async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let bench = start(1, quick).await?;
    let mut rows = Vec::new();
    for (at_once, count) in STEPS {
        // Many times as many as are under way, or the ends would count.
        let count = part_of(count, quick).max(5 * usize::from(at_once));
        let begun = Instant::now();
        let took = raw::three(bench.url(), count, at_once).await?;
        let mut limit = Measured::throughput(count, begun.elapsed());
        limit.numbers.extend(Measured::latency(took).numbers);
        let tasks = Tasks::new(&format!("f-{at_once}"), count);
        let measured = bench.in_flight(&tasks, at_once.into()).await?;
        let of = |of: &Measured, name: &str| of.numbers.get(name).copied().unwrap_or(f64::NAN);
        let row = Row::new(format!("{at_once} at once"))
            .with("tasks/s", measured.main())
            .with("raw/s", limit.main())
            .with("ratio", measured.main() / limit.main())
            .with("p50 ms", of(&measured, "p50_ms"))
            .with("p99 ms", of(&measured, "p99_ms"))
            .with("raw p50 ms", of(&limit, "p50_ms"))
            .with("p50 ratio", of(&measured, "p50_ms") / of(&limit, "p50_ms"));
        rows.push(row.with_cpu(&measured));
    }
    bench.end();
    Ok(rows)
}
