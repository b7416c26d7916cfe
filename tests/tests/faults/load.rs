//! A stream of submissions, each with an id, published again until it is confirmed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use taskyard_tests::{Submission, Yard, wait_until};

use crate::ledger::{Confirmed, Ledger, REPLIES};

/// How many tasks a stream has, and how fast it is: some seconds before a fault and after it, at a
/// quarter of what the workers of a scene can do.
const TASKS: usize = 3_000;
const PAUSE: Duration = Duration::from_millis(4);
/// How long one submission may take: as long as a broker may be away.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(180);

/// The stream.
#[derive(Debug, Default)]
pub(crate) struct Load {
    confirmed: AtomicUsize,
}

impl Load {
    /// Publishes all of it.
    pub(crate) async fn run(&self, yard: &Yard) -> anyhow::Result<Ledger> {
        let mut pace = tokio::time::interval(PAUSE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ledger = Ledger::default();
        for number in 0..TASKS {
            pace.tick().await;
            let (task, confirmed) = task(number);
            wait_until("a confirmed submission", CONFIRMED_WITHIN, async || {
                yard.submit(&task).await
            })
            .await?;
            ledger.confirmed.push(confirmed);
            self.confirmed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(ledger)
    }

    /// Waits until so many are confirmed.
    pub(crate) async fn reached(&self, tasks: usize) -> anyhow::Result<()> {
        wait_until(&format!("{tasks} confirmed submissions"), CONFIRMED_WITHIN, async || match self
            .confirmed
            .load(Ordering::Relaxed)
        {
            now if now >= tasks => Ok(()),
            now => Err(format!("{now}")),
        })
        .await
    }
}

/// Short and longer ones, some that fail twice before they succeed, of all priorities.
fn task(number: usize) -> (Submission, Confirmed) {
    let (kind, payload) = match number % 10 {
        0..5 => ("echo", format!("task {number}")),
        5..9 => ("sleep", format!(r#"{{"ms":{},"number":{number}}}"#, 5 + number % 46)),
        _ => ("fail", format!(r#"{{"failures":2,"number":{number}}}"#)),
    };
    let id = format!("{kind}-{number}");
    let priority = u8::try_from(number % 7).unwrap_or_default();
    let task = Submission::of(kind, &payload).id(&id).priority(priority);
    let failures = if kind == "fail" { 2 } else { 0 };
    let task = task.text("x-task-backoff", "fixed:200").reply_to(REPLIES, &id);
    (task, Confirmed { id, payload, failures })
}
