use std::time::{SystemTime, UNIX_EPOCH};
use taskyard_model::Timestamp;

/// The present, by this machine's wall clock.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
