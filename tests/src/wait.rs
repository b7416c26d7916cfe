//! Waiting for a condition, the only synchronisation that tests use.

use std::time::{Duration, Instant};

use anyhow::bail;

/// How long something may take that normally takes a moment: long, because the machine may be busy, and
/// harmless, because it is only waited for in full when the test fails.
pub const EVENTUALLY: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `condition` holds, that is returns `Ok(value)`, and returns the value.
///
/// What it returns as `Err` says why it does not hold yet; the last one is in the error when `limit` has
/// passed.
///
/// # Errors
///
/// When the condition did not hold within `limit`.
pub async fn wait_until<T, E: std::fmt::Display>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, E>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        let not_yet = match tokio::time::timeout(limit, condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => reason.to_string(),
            Err(_elapsed) => "looking itself took too long".to_owned(),
        };
        if begun.elapsed() > limit {
            bail!("{what}: not within {limit:?}; last seen: {not_yet}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
