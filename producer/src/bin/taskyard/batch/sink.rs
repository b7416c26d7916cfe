use taskyard_model::TaskId;
use taskyard_producer::{BulkStream, BulkTask, Settled, Submission, SubmissionError, SubmitStream};

/// Where lines go: many a message where all say the same, else one a message.
pub(super) enum Sink {
    Bulk(Box<BulkStream>),
    Single(Box<SubmitStream>),
}

impl Sink {
    pub(super) async fn send(&mut self, task: Submission) -> Result<TaskId, SubmissionError> {
        match self {
            Sink::Single(stream) => stream.send(task).await,
            Sink::Bulk(stream) => {
                let mut one = BulkTask::new(task.payload_bytes().clone());
                if let Some(id) = task.given_id() {
                    one = one.id(id.clone());
                }
                stream.send(one).await
            }
        }
    }

    /// Sends what is kept back.
    pub(super) async fn flush(&mut self) {
        if let Sink::Bulk(stream) = self {
            stream.flush().await;
        }
    }

    /// Messages without an outcome.
    pub(super) fn under_way(&self) -> usize {
        match self {
            Sink::Bulk(stream) => stream.under_way(),
            Sink::Single(stream) => stream.under_way(),
        }
    }

    pub(super) fn settled(&mut self) -> Vec<Settled> {
        match self {
            Sink::Bulk(stream) => stream.settled(),
            Sink::Single(stream) => stream.settled(),
        }
    }

    /// Waits until another message has its outcome.
    pub(super) async fn settle_next(&mut self) {
        match self {
            Sink::Bulk(stream) => stream.settle_next().await,
            Sink::Single(stream) => stream.settle_next().await,
        }
    }
}
