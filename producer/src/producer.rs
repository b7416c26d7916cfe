use crate::post::Post;
use crate::replies::Replies;
use crate::{
    BulkError, BulkStream, BulkTask, Outcome, Settings, Submission, SubmissionError, SubmitError,
    SubmitStream, Ticket, WaitError,
};
use std::sync::Arc;
use std::time::Duration;
use taskyard_common::amqp::AmqpError;
use taskyard_model::TaskId;

/// Submits tasks. Cheap to clone; clones share one connection and its channels.
///
/// A connection that is lost is made anew by the next submission.
#[derive(Clone)]
pub struct Producer {
    post: Post,
    replies: Arc<Replies>,
}

impl Producer {
    /// Connects to RabbitMQ: the first host that answers.
    ///
    /// # Errors
    /// No host answers now, or RabbitMQ refuses user, password or vhost.
    pub async fn connect(settings: Settings) -> Result<Self, AmqpError> {
        let post = Post::new(&settings);
        post.connect().await?;
        Ok(Self { post, replies: Arc::new(Replies::new(&settings)) })
    }

    /// Submits a task and waits until RabbitMQ has confirmed it; its id.
    ///
    /// What nobody knows the outcome of is sent again with the same id, and what RabbitMQ refuses
    /// for the moment is tried again, for as long as [`Settings::patience`] says.
    ///
    /// ```no_run
    /// # async fn example(producer: taskyard_producer::Producer) {
    /// use taskyard_producer::{Submission, SubmitError};
    ///
    /// match producer.submit(Submission::new("email.send").payload("hello")).await {
    ///     Ok(id) => println!("accepted: {id}"),
    ///     Err(SubmitError::Unknown { id, .. }) => println!("ask for {id}, or submit it again"),
    ///     Err(error) => println!("not accepted: {error}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`SubmitError`]; all but `Unknown` mean that nothing is stored.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown. Give the task an id if that may happen.
    pub async fn submit(&self, task: impl Into<Submission>) -> Result<TaskId, SubmitError> {
        let task = task.into();
        let id = task.id_or_fresh();
        let message = task.message(&id, &self.post.names)?;
        match self.post.deliver(&message).await {
            Ok(()) => Ok(id),
            Err(why) => Err(SubmitError::of(&id, why)),
        }
    }

    /// Submits a task to wait for: the ticket waits for the reply, which comes to a queue of this
    /// process alone. Nothing is polled.
    ///
    /// # Errors
    /// As [`Producer::submit`]; `NoReplies` if there may be no queue for replies.
    pub async fn submit_awaited(&self, task: impl Into<Submission>) -> Result<Ticket, WaitError> {
        let task = task.into();
        if task.has_reply_to() {
            return Err(SubmitError::from(SubmissionError::ReplyToTaken).into());
        }
        let id = task.id_or_fresh();
        // Rules first: nobody has to connect to learn that one is broken.
        task.message(&id, &self.post.names).map_err(SubmitError::from)?;
        let waiter = self.replies.expect(&id).await;
        Ticket::submit(self.post.clone(), task, id, waiter).await
    }

    /// Submits a task and waits for its end.
    ///
    /// ```no_run
    /// # async fn example(producer: taskyard_producer::Producer) -> Result<(), taskyard_producer::WaitError> {
    /// use std::time::Duration;
    /// use taskyard_producer::Submission;
    ///
    /// let task = Submission::new("echo").payload("hello");
    /// let outcome = producer.submit_and_wait(task, Duration::from_secs(10)).await?;
    /// assert!(outcome.is_success());
    /// assert_eq!(outcome.result, "hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Producer::submit_awaited`]; `TimedOut` if it is not final in time (it goes on).
    pub async fn submit_and_wait(
        &self,
        task: impl Into<Submission>,
        timeout: Duration,
    ) -> Result<Outcome, WaitError> {
        self.submit_awaited(task).await?.outcome(timeout).await
    }

    /// Submits many small tasks that share messages, and waits until all are confirmed; their ids,
    /// in order. What `all` says holds for each of them.
    ///
    /// ```no_run
    /// # async fn example(producer: taskyard_producer::Producer) -> Result<(), Box<dyn std::error::Error>> {
    /// use taskyard_producer::{BulkTask, Submission};
    ///
    /// let ids = producer.submit_bulk("echo", ["a", "b", "c"]).await?;
    ///
    /// let urgent = (0..5_000u32).map(|n| BulkTask::new(n.to_string()).priority(9));
    /// producer.submit_bulk(Submission::new("echo").max_attempts(1), urgent).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Some were not accepted, or nobody knows: the error says which.
    pub async fn submit_bulk<T: Into<BulkTask>>(
        &self,
        all: impl Into<Submission>,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Vec<TaskId>, BulkError> {
        match self.stream_bulk(all) {
            Ok(stream) => stream.submit(tasks).await,
            Err(error) => Err(BulkError::all(tasks, error)),
        }
    }

    /// A flow of small tasks of one kind that share messages, for when they are too many to hold.
    ///
    /// # Errors
    /// What holds for all breaks a rule, or cannot hold for all (an id, a payload, a content type).
    pub fn stream_bulk(&self, all: impl Into<Submission>) -> Result<BulkStream, SubmissionError> {
        BulkStream::new(self.post.clone(), all.into())
    }

    /// A flow of tasks with up to `window` of them unconfirmed (some hundred keep RabbitMQ busy).
    #[must_use]
    pub fn stream(&self, window: usize) -> SubmitStream {
        SubmitStream::new(self.post.clone(), window)
    }

    /// Says goodbye to RabbitMQ. What is still under way becomes unknown.
    pub async fn close(&self) {
        self.post.close().await;
    }
}
