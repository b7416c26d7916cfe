use super::{Submission, SubmissionError};
use bytes::Bytes;
use taskyard_common::amqp::{Message, Properties};
use taskyard_common::names::Names;
use taskyard_common::wire::{read_submission, train};
use taskyard_model::TaskId;

impl Submission {
    /// The id that it was given, or a new one.
    pub(crate) fn id_or_fresh(&self) -> TaskId {
        self.id.clone().unwrap_or_else(fresh_id)
    }

    /// The message that submits it under this id.
    ///
    /// It is read as a dispatcher will read it, so that what would end in `taskyard.rejected` is an
    /// error here.
    pub(crate) fn message(&self, id: &TaskId, names: &Names) -> Result<Message, SubmissionError> {
        self.check()?;
        let mut properties = self.properties.clone().with_message_id(id.as_str().into());
        if !self.headers.inner().is_empty() {
            properties = properties.with_headers(self.headers.clone());
        }
        judge(&properties, &self.kind, self.payload.len(), names)?;
        Ok(Message::to_exchange(names.tasks(), &*self.kind, properties, self.payload.clone()))
    }

    /// What a bulk says of all its tasks: everything but id and payload. The body is still missing.
    pub(crate) fn bulk_message(&self, names: &Names) -> Result<Message, SubmissionError> {
        let taken = [
            (self.id.is_some(), "an id for all its tasks"),
            (!self.payload.is_empty(), "a payload for all its tasks"),
            (self.properties.content_type().is_some(), "the tasks' content type"),
        ];
        if let Some((_, what)) = taken.into_iter().find(|(is_given, _)| *is_given) {
            return Err(SubmissionError::NotInBulk(what));
        }
        let mut message = self.message(&fresh_id(), names)?;
        let id = uuid::Uuid::now_v7().to_string();
        message.properties = message
            .properties
            .with_message_id(id.as_str().into())
            .with_content_type(train::BULK.into());
        Ok(message)
    }

    /// The same task with its reply sent to this queue.
    pub(crate) fn replying_to(&self, queue: &str) -> Self {
        let mut task = self.clone();
        task.properties = task.properties.with_reply_to(queue.into());
        task
    }

    /// Whether its reply goes elsewhere already.
    pub(crate) fn has_reply_to(&self) -> bool {
        self.properties.reply_to().is_some()
    }

    /// One task of a bulk, as a submission of its own.
    pub(crate) fn single(&self, id: &TaskId, priority: Option<u8>, payload: Bytes) -> Self {
        let mut task = self.clone().payload(payload);
        task.id = Some(id.clone());
        match priority {
            Some(priority) => task.priority(priority),
            None => task,
        }
    }
}

/// A new id: UUIDv7, so ids sort by time.
pub(crate) fn fresh_id() -> TaskId {
    TaskId::new(&uuid::Uuid::now_v7().to_string()).expect("a UUID has 36 characters that ids allow")
}

fn judge(
    properties: &Properties,
    kind: &str,
    payload_bytes: usize,
    names: &Names,
) -> Result<(), SubmissionError> {
    let now = taskyard_common::now();
    read_submission(properties, kind, payload_bytes, names, now, fresh_id)
        .map(drop)
        .map_err(|refusal| SubmissionError::Refused(refusal.reason))
}
