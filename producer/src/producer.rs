use crate::post::Post;
use crate::{Settings, Submission, SubmitError};
use taskyard_common::amqp::AmqpError;
use taskyard_model::TaskId;

/// Submits tasks. Cheap to clone; clones share one connection and its channels.
///
/// A connection that is lost is made anew by the next submission.
#[derive(Clone)]
pub struct Producer {
    pub(crate) post: Post,
}

impl Producer {
    /// Connects to RabbitMQ: the first host that answers.
    ///
    /// # Errors
    /// No host answers now, or RabbitMQ refuses user, password or vhost.
    pub async fn connect(settings: Settings) -> Result<Self, AmqpError> {
        let post = Post::new(&settings);
        post.connect().await?;
        Ok(Self { post })
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

    /// Says goodbye to RabbitMQ. What is still under way becomes unknown.
    pub async fn close(&self) {
        self.post.close().await;
    }
}
