use crate::post::Post;
use crate::replies::Waiter;
use crate::{Outcome, Submission, SubmitError};
use std::sync::Arc;
use std::time::Duration;
use taskyard_common::amqp::{AmqpError, jittered_wait};
use taskyard_model::TaskId;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

/// An accepted task that somebody waits for. Dropping it gives up waiting; the task goes on.
///
/// ```no_run
/// # async fn example(producer: taskyard_producer::Producer) -> Result<(), taskyard_producer::WaitError> {
/// use std::time::Duration;
/// use taskyard_producer::Submission;
///
/// let mut ticket = producer.submit_awaited(Submission::new("report.monthly")).await?;
/// println!("accepted as {}", ticket.id());
/// let outcome = ticket.outcome(Duration::from_secs(600)).await?;
/// println!("{} after {} attempts", outcome.state, outcome.attempt);
/// # Ok(())
/// # }
/// ```
pub struct Ticket {
    id: TaskId,
    task: Submission,
    post: Post,
    waiter: Waiter,
    /// Where the latest submission told the dispatcher to reply.
    queue: Arc<str>,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It was not accepted, or nobody knows.
    #[error("the task was not accepted")]
    Submit(#[from] SubmitError),
    /// It is not final yet. It goes on: wait again, or ask for its state.
    #[error("task {id} is not final after {waited:?}")]
    TimedOut {
        /// The task.
        id: TaskId,
        /// How long it was waited for.
        waited: Duration,
    },
    /// There is no queue for replies: mend the permissions or the connection. If the task was
    /// submitted, it goes on.
    #[error("there is no queue for replies")]
    NoReplies(#[source] Arc<AmqpError>),
}

impl Ticket {
    /// Submits the task with a reply to `waiter`.
    pub(crate) async fn submit(
        post: Post,
        task: Submission,
        id: TaskId,
        mut waiter: Waiter,
    ) -> Result<Self, WaitError> {
        let deadline = Instant::now() + post.patience;
        let queue = match timeout_at(deadline, waiter.queue()).await {
            Ok(queue) => queue.map_err(WaitError::NoReplies)?,
            Err(_) => {
                let error = AmqpError::Timeout(post.patience);
                return Err(SubmitError::Unreachable(error).into());
            }
        };
        let mut ticket = Self { id, task, post, waiter, queue: queue.clone() };
        ticket.send(queue).await?;
        Ok(ticket)
    }

    /// The task.
    #[must_use]
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// Waits for the task's end, by the dispatcher's reply.
    ///
    /// When the session for replies breaks, the task is submitted again with its id and the new
    /// queue: the dispatcher answers a known id without running it again.
    ///
    /// # Errors
    /// `TimedOut`, after which waiting may go on; `NoReplies`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn outcome(&mut self, timeout: Duration) -> Result<Outcome, WaitError> {
        let deadline = Instant::now() + timeout;
        let mut tries = 0;
        loop {
            let broken = {
                let Waiter { arrival, line, .. } = &mut self.waiter;
                let queue = self.queue.clone();
                let moved = line.wait_for(|line| line.has_moved_from(&queue));
                tokio::select! {
                    biased;
                    outcome = arrival => {
                        return Ok(outcome.expect("the desk lives as long as its waiters"));
                    }
                    () = tokio::time::sleep_until(deadline) => {
                        return Err(WaitError::TimedOut { id: self.id.clone(), waited: timeout });
                    }
                    line = moved => line.expect("the desk lives as long as its waiters").up(),
                }
            };
            let queue = broken.map_err(WaitError::NoReplies)?;
            let sent = timeout_at(deadline, self.send(queue)).await;
            if let Ok(Err(error)) = sent {
                debug!(%error, task_id = %self.id, "a task could not be asked for again");
                let pause = sleep(jittered_wait(tries));
                tries += 1;
                // At the deadline the loop ends by itself.
                let _ = timeout_at(deadline, pause).await;
            }
        }
    }

    async fn send(&mut self, queue: Arc<str>) -> Result<(), SubmitError> {
        let message = self.task.replying_to(&queue).message(&self.id, &self.post.names)?;
        match self.post.deliver(&message).await {
            Ok(()) => {
                self.queue = queue;
                Ok(())
            }
            Err(why) => Err(SubmitError::of(&self.id, why)),
        }
    }
}
