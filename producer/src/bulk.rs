use crate::flow::{Flow, Settled};
use crate::post::Post;
use crate::submission::fresh_id;
use crate::{Submission, SubmissionError, SubmitError};
use bytes::Bytes;
use taskyard_common::amqp::Message;
use taskyard_common::wire::BulkWriter;
use taskyard_model::{PRIORITY_MAX, TaskId};

/// Bulks under way at once: 8 MiB, which keeps RabbitMQ busy over any sensible distance.
pub(crate) const WINDOW: usize = 8;

/// One task of a bulk: its payload, and what may differ from the other tasks.
#[derive(Clone, Debug, Default)]
pub struct BulkTask {
    pub(crate) payload: Bytes,
    pub(crate) id: Option<TaskId>,
    pub(crate) priority: Option<u8>,
}

impl BulkTask {
    /// A task with this payload.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), id: None, priority: None }
    }

    /// Its id. Default: a new UUIDv7.
    #[must_use]
    pub fn id(mut self, id: TaskId) -> Self {
        self.id = Some(id);
        self
    }

    /// Its priority, 0 to 9. Default: the one of all tasks.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }
}

impl<T: Into<Bytes>> From<T> for BulkTask {
    fn from(payload: T) -> Self {
        Self::new(payload)
    }
}

/// Some tasks of a bulk were not accepted, or nobody knows.
#[derive(Debug, thiserror::Error)]
#[error("{} of {} tasks were not accepted", failed.len(), failed.len() + accepted.len())]
#[non_exhaustive]
pub struct BulkError {
    /// Tasks that were accepted.
    pub accepted: Vec<TaskId>,
    /// Tasks that were not, or of which nobody knows.
    pub failed: Vec<Settled>,
}

impl BulkError {
    /// None was accepted, all for the same reason.
    pub(crate) fn all<T: Into<BulkTask>>(
        tasks: impl IntoIterator<Item = T>,
        error: SubmissionError,
    ) -> Self {
        let error = std::sync::Arc::new(SubmitError::from(error));
        let id = |task: BulkTask| task.id.unwrap_or_else(fresh_id);
        let settled = |task: T| Settled { id: id(task.into()), outcome: Err(error.clone()) };
        Self { accepted: Vec::new(), failed: tasks.into_iter().map(settled).collect() }
    }
}

/// A flow of small tasks of one kind that share messages: 1,000 tasks or 1 MiB a message.
///
/// What shares a message is accepted together. Tasks too large for that go alone.
///
/// ```no_run
/// # async fn example(producer: taskyard_producer::Producer) -> Result<(), Box<dyn std::error::Error>> {
/// use taskyard_producer::Submission;
///
/// let mut bulk = producer.stream_bulk(Submission::new("echo").max_attempts(2))?;
/// for n in 0..1_000_000 {
///     bulk.send(n.to_string()).await?;
/// }
/// let not_accepted = bulk.finish().await.into_iter().filter(|task| task.outcome.is_err()).count();
/// # Ok(())
/// # }
/// ```
pub struct BulkStream {
    post: Post,
    flow: Flow,
    all: Submission,
    template: Message,
    writer: BulkWriter,
    ids: Vec<TaskId>,
}

impl BulkStream {
    pub(crate) fn new(post: Post, all: Submission) -> Result<Self, SubmissionError> {
        let template = all.bulk_message(&post.names)?;
        let flow = Flow::new(post.clone(), WINDOW);
        Ok(Self { post, flow, all, template, writer: BulkWriter::new(), ids: Vec::new() })
    }

    /// Adds a task; its id. Sends the message when it is full.
    ///
    /// # Errors
    /// The task breaks a rule, and was not added.
    ///
    /// # Cancel safety
    /// As [`SubmitStream::send`](crate::SubmitStream::send).
    pub async fn send(&mut self, task: impl Into<BulkTask>) -> Result<TaskId, SubmissionError> {
        let BulkTask { payload, id, priority } = task.into();
        let id = id.unwrap_or_else(fresh_id);
        if let Some(given) = priority.filter(|&priority| priority > PRIORITY_MAX) {
            let (given, high) = (given.into(), PRIORITY_MAX.into());
            return Err(SubmissionError::OutOfRange { what: "priority", given, low: 0, high });
        }
        if !self.writer.has_room_for(payload.len()) {
            self.flush().await;
        }
        if self.writer.has_room_for(payload.len()) {
            self.writer.push(Some(&id), priority, &payload);
            self.ids.push(id.clone());
        } else {
            let message = self.all.single(&id, priority, payload).message(&id, &self.post.names)?;
            self.flow.send(vec![id.clone()], message).await;
        }
        Ok(id)
    }

    /// Sends what was added, without waiting for its confirm.
    pub async fn flush(&mut self) {
        if self.writer.is_empty() {
            return;
        }
        let body = std::mem::take(&mut self.writer).finish();
        let message = Message { body, ..self.template.clone() };
        self.flow.send(std::mem::take(&mut self.ids), message).await;
    }

    /// Messages whose outcome is not known yet.
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

    /// Sends the rest and waits for all that is under way; the outcomes that were not taken before.
    pub async fn finish(mut self) -> Vec<Settled> {
        self.flush().await;
        self.flow.finish().await
    }

    /// Submits all of these, and sums up.
    pub(crate) async fn submit<T: Into<BulkTask>>(
        mut self,
        tasks: impl IntoIterator<Item = T>,
    ) -> Result<Vec<TaskId>, BulkError> {
        let mut ids = Vec::new();
        let mut failed = Vec::new();
        for task in tasks {
            let mut task: BulkTask = task.into();
            let id = task.id.get_or_insert_with(fresh_id).clone();
            match self.send(task).await {
                Ok(id) => ids.push(id),
                Err(error) => {
                    let error = SubmitError::from(error);
                    failed.push(Settled { id, outcome: Err(error.into()) });
                }
            }
            failed.extend(self.settled().into_iter().filter(|task| task.outcome.is_err()));
        }
        failed.extend(self.finish().await.into_iter().filter(|task| task.outcome.is_err()));
        if failed.is_empty() {
            return Ok(ids);
        }
        let not_accepted: std::collections::BTreeSet<_> =
            failed.iter().map(|task| task.id.clone()).collect();
        ids.retain(|id| !not_accepted.contains(id));
        Err(BulkError { accepted: ids, failed })
    }
}
