use super::{Order, signed};
use crate::facts::Facts;

/// First come, first served: by the time of acceptance.
///
/// Nobody starves: a task waits for those before it and no others. Beyond the window all tasks
/// share one lane, so the order is exact there too.
pub(super) struct Fcfs;

impl Order for Fcfs {
    fn key(&self, task: &Facts) -> i64 {
        signed(task.accepted_at)
    }

    fn lane(&self, _task: &Facts) -> u8 {
        0
    }
}
