//! At most so many attempts of one handler at a time.

use taskyard_worker::TaskError;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

/// Lets attempts in.
///
/// An attempt that waits here has been started: it has its slots, and its time runs. The dispatcher
/// counts in slots alone and knows nothing of handlers.
#[derive(Debug, Default)]
pub(crate) struct Gate(Option<Semaphore>);

impl Gate {
    /// A gate for so many at a time; for all without a number.
    pub(crate) fn new(concurrency: Option<u32>) -> Self {
        // A u32 fits, on every machine that has room for tasks.
        let places = concurrency.map(|places| usize::try_from(places).unwrap_or(usize::MAX));
        Self(places.map(|places| Semaphore::new(places.min(Semaphore::MAX_PERMITS))))
    }

    /// Waits for a place, in order.
    ///
    /// # Errors
    /// The attempt was asked to end while it waited.
    pub(crate) async fn enter(
        &self,
        cancelled: &CancellationToken,
    ) -> Result<Option<SemaphorePermit<'_>>, TaskError> {
        let Some(places) = &self.0 else { return Ok(None) };
        tokio::select! {
            biased;
            // It is never closed.
            place = places.acquire() => Ok(place.ok()),
            () = cancelled.cancelled() => {
                Err(TaskError::retryable("asked to end while it waited for its handler"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn only_so_many_are_inside_and_who_is_asked_to_end_stops_waiting() {
        let (gate, cancelled) = (Gate::new(Some(1)), CancellationToken::new());
        let inside = gate.enter(&cancelled).await.unwrap();
        assert!(gate.enter(&cancelled).now_or_never().is_none());
        drop(inside);
        let _inside = gate.enter(&cancelled).now_or_never().unwrap().unwrap();
        cancelled.cancel();
        assert!(gate.enter(&cancelled).await.is_err());
    }

    #[tokio::test]
    async fn without_a_number_everybody_enters() {
        let (gate, cancelled) = (Gate::new(None), CancellationToken::new());
        let _first = gate.enter(&cancelled).await.unwrap();
        assert!(gate.enter(&cancelled).await.is_ok());
    }
}
