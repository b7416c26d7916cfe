use crate::SubmissionError;
use crate::post::Undelivered;
use taskyard_common::amqp::AmqpError;
use taskyard_model::TaskId;

/// Why a task was not accepted, or why nobody knows whether it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// It breaks a rule, and nothing was sent: correct it.
    #[error("the submission breaks a rule")]
    Invalid(#[from] SubmissionError),
    /// RabbitMQ could not be reached, and nothing was sent: mend the connection, or try later.
    #[error("RabbitMQ is out of reach")]
    Unreachable(#[source] AmqpError),
    /// The exchange for tasks does not exist, so nothing is stored: start a dispatcher, which
    /// declares it.
    #[error("{exchange} does not exist: has taskyard-dispatcher ever run here?")]
    NotReady {
        /// The exchange.
        exchange: String,
    },
    /// No queue takes tasks of this kind, so nothing is stored: start a dispatcher, which declares
    /// them.
    #[error("no queue takes task {id}: has taskyard-dispatcher ever run here?")]
    Unroutable {
        /// The task.
        id: TaskId,
    },
    /// RabbitMQ refused it every time (its queue is full or elects its leader), so nothing is
    /// stored: try later.
    #[error("RabbitMQ refuses task {id} at present")]
    Refused {
        /// The task.
        id: TaskId,
    },
    /// Nobody knows whether it was accepted: ask for its state, or submit it again with this id,
    /// which is safe.
    #[error("nobody knows whether task {id} was accepted: {why}")]
    Unknown {
        /// The task.
        id: TaskId,
        /// What happened.
        why: &'static str,
    },
}

impl SubmitError {
    /// Whether the same submission may be accepted later without anybody acting on it.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            SubmitError::Invalid(_) => false,
            SubmitError::Unreachable(error) => error.is_transient(),
            SubmitError::NotReady { .. }
            | SubmitError::Unroutable { .. }
            | SubmitError::Refused { .. }
            | SubmitError::Unknown { .. } => true,
        }
    }

    /// Whether the task may have been accepted all the same.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, SubmitError::Unknown { .. })
    }

    pub(crate) fn of(id: &TaskId, why: Undelivered) -> Self {
        let id = id.clone();
        match why {
            Undelivered::Unreachable(error) => SubmitError::Unreachable(error),
            Undelivered::NotReady { exchange } => SubmitError::NotReady { exchange },
            Undelivered::Unroutable => SubmitError::Unroutable { id },
            Undelivered::Refused => SubmitError::Refused { id },
            Undelivered::Unknown { why } => SubmitError::Unknown { id, why },
        }
    }
}
