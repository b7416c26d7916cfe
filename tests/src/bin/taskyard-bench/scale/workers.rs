//! How the cost grows with the number of workers.

use super::{Row, part_of, start};
use crate::load::{PAYLOAD_BYTES, Tasks};
use crate::raw;
use crate::results::Measured;
use std::time::Duration;

const COUNTS: [u32; 4] = [1, 10, 100, 1_000];
/// Of all workers together, where there are not more workers.
const SLOTS: u32 = 64;
const TASKS: usize = 50_000;
/// Nothing is submitted for so long.
const IDLE: Duration = Duration::from_secs(10);

pub(super) async fn run(quick: bool) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for count in COUNTS.into_iter().filter(|&count| !quick || count <= 100) {
        let mut bench = start(0, quick).await?;
        bench.start_crowd(count, (SLOTS / count).max(1)).await?;
        bench.warm_up().await?;
        let tasks = part_of(TASKS, quick);
        let limit = raw::two(bench.url(), tasks, PAYLOAD_BYTES).await?;
        let limit = Measured::throughput(tasks, limit);
        let meter = bench.meter().await?;
        tokio::time::sleep(IDLE).await;
        // Microseconds a microsecond.
        let idle = bench.used(&meter, Measured::throughput(1, IDLE)).await?;
        let idle = |role| {
            idle.cpu_us.get(role).copied().unwrap_or_default() / IDLE.as_micros() as f64 * 100.0
        };
        let single = bench.single(&Tasks::new("s", tasks)).await?;
        let bulk = bench.bulk(&Tasks::new("b", tasks)).await?;
        for (how, measured) in [("single", single), ("bulk", bulk)] {
            let row = Row::new(format!("{count} worker(s), {how}"))
                .with("tasks/s", measured.main())
                .with("raw/s", limit.main())
                .with("ratio", measured.main() / limit.main())
                .with("dispatcher MB", bench.resident_bytes("dispatcher") / 1e6)
                .with("dispatcher idle %", idle("dispatcher"))
                .with("broker idle %", idle("broker"));
            rows.push(row.with_cpu(&measured));
        }
        bench.end();
    }
    Ok(rows)
}
