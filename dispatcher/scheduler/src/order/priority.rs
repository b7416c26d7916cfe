use super::{Order, signed};
use crate::facts::Facts;
use std::time::Duration;

/// By priority, and waiting raises it: after one ageing step a task counts as one priority higher.
///
/// Linear ageing keeps the order of any two tasks fixed, so the key is a constant:
/// `accepted_at - priority * step`. Starvation is bounded: a task of priority 0 goes before every
/// task of priority 9 that arrives nine steps later. Beyond the window the rank is the priority
/// alone; inside a lane it is first come, first served.
pub(super) struct Priority {
    step_ms: i64,
}

impl Priority {
    pub(super) fn new(step: Duration) -> Self {
        Self { step_ms: i64::try_from(step.as_millis()).unwrap_or(i64::MAX / 10) }
    }
}

impl Order for Priority {
    fn key(&self, task: &Facts) -> i64 {
        signed(task.accepted_at).saturating_sub(self.step_ms.saturating_mul(task.priority.into()))
    }

    fn lane(&self, task: &Facts) -> u8 {
        task.priority
    }
}
