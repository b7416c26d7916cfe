use crate::flow::{Flow, Settled};
use crate::post::Post;
use crate::{Submission, SubmissionError};
use taskyard_model::TaskId;

/// A flow of tasks with many under way: confirmed one by one, never waited for one by one.
///
/// Tasks go out in the order they are sent in (one that has to be sent again may come later).
/// Dropping the stream leaves what is under way unknown: call [`finish`](Self::finish).
///
/// ```no_run
/// # async fn example(producer: taskyard_producer::Producer) -> Result<(), taskyard_producer::SubmissionError> {
/// use taskyard_producer::Submission;
///
/// let mut stream = producer.stream(1_000);
/// for n in 0..1_000_000 {
///     stream.send(Submission::new("echo").payload(n.to_string())).await?;
///     for settled in stream.settled() {
///         if let Err(error) = settled.outcome {
///             eprintln!("{}: {error}", settled.id);
///         }
///     }
/// }
/// let rest = stream.finish().await;
/// # Ok(())
/// # }
/// ```
pub struct SubmitStream {
    flow: Flow,
    post: Post,
}

impl SubmitStream {
    pub(crate) fn new(post: Post, window: usize) -> Self {
        Self { flow: Flow::new(post.clone(), window), post }
    }

    /// Hands a task over, waiting while the window is full; its id. What becomes of it comes out of
    /// [`settled`](Self::settled) or [`finish`](Self::finish).
    ///
    /// # Errors
    /// The task breaks a rule, and was not sent.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether this task was sent; the others are not harmed.
    pub async fn send(&mut self, task: impl Into<Submission>) -> Result<TaskId, SubmissionError> {
        let task = task.into();
        let id = task.id_or_fresh();
        let message = task.message(&id, &self.post.names)?;
        self.flow.send(vec![id.clone()], message).await;
        Ok(id)
    }

    /// Tasks whose outcome is not known yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.flow.under_way()
    }

    /// Waits until at least one more message has its outcome; at once if none is under way.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn settle_next(&mut self) {
        self.flow.settle_next().await;
    }

    /// Takes the outcomes that are known by now and were not taken before, without waiting.
    pub fn settled(&mut self) -> Vec<Settled> {
        self.flow.settled()
    }

    /// Waits for all that is under way; the outcomes that were not taken before.
    pub async fn finish(mut self) -> Vec<Settled> {
        self.flow.finish().await
    }
}
