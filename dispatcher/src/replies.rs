//! What leaves only after a look at the record: replies and dead letters.

use crate::cars::Load;
use crate::change;
use crate::pool::Pool;
use crate::post::Parcel;
use crate::session::Session;
use bytes::Bytes;
use std::time::Duration;
use taskyard_common::amqp::{Headers, Message, Properties, Value};
use taskyard_common::store::{Reader, TaskView};
use taskyard_common::wire::{headers, write_copy};
use taskyard_model::{State, TaskId};
use taskyard_scheduler::{CarId, HeadUpdate, OpId, ReplyBody, ReplyTo};
use tracing::warn;

/// Wait before Redis is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

impl Pool {
    pub(crate) fn reply(
        &self,
        session: &mut Session,
        op: OpId,
        id: TaskId,
        to: ReplyTo,
        body: ReplyBody,
    ) {
        if let ReplyBody::Report { car, state } = body
            && let Some(Load::Report(report)) = session.cars.get(car).map(|car| &car.load)
        {
            let told = Told {
                state,
                attempt: report.attempt,
                error: "",
                error_kind: "",
                result: report.body.clone(),
                result_type: report.content_type.clone().unwrap_or_default(),
            };
            return session.outbox.post(parcel(op, &id, &to, told));
        }
        let (reader, parcels) = (self.reader.clone(), session.parcels.clone());
        tokio::spawn(async move {
            let view = look(&reader, &id).await;
            let told = match &view {
                Some(view) => Told {
                    state: view.state().unwrap_or(State::Succeeded),
                    attempt: view.attempt(),
                    error: view.error(),
                    error_kind: view.fields.text("error_kind"),
                    result: view.result(),
                    result_type: view.fields.text("result_type").to_owned(),
                },
                // Forgotten meanwhile: there is nothing left to tell but that it is over.
                None => Told {
                    state: State::Expired,
                    attempt: 0,
                    error: "its record is gone",
                    error_kind: "",
                    result: Bytes::new(),
                    result_type: String::new(),
                },
            };
            // A closed channel means that the session is over.
            let _ = parcels.send(parcel(op, &id, &to, told));
        });
    }

    /// A dead letter: the payload untouched, and why.
    pub(crate) fn bury(&self, session: &mut Session, op: OpId, car: CarId, update: &HeadUpdate) {
        let Some((head, payload)) = session.cars.get(car).and_then(|car| car.load.copy()) else {
            return;
        };
        let (mut head, payload) = (head.clone(), payload.clone());
        change::update_head(&mut head, update);
        let (reader, parcels, queue) =
            (self.reader.clone(), session.parcels.clone(), self.names.dead());
        tokio::spawn(async move {
            let view = look(&reader, &head.id).await;
            let text =
                |name: &str| view.as_ref().map_or("", |view| view.fields.text(name)).to_owned();
            let properties = write_copy(&head);
            let mut table = properties.headers().clone().unwrap_or_default();
            table.insert(headers::REASON.into(), Value::LongString(text("error_kind").into()));
            table.insert(headers::ERROR.into(), Value::LongString(text("error").into()));
            let properties = properties.with_headers(table);
            let message = Message::to_queue(queue, properties, payload);
            // A closed channel means that the session is over.
            let _ = parcels.send(Parcel { message, ops: vec![op], tells_returned: false });
        });
    }
}

/// What a reply says.
struct Told<'a> {
    state: State,
    attempt: u32,
    error: &'a str,
    error_kind: &'a str,
    result: Bytes,
    result_type: String,
}

fn parcel(op: OpId, id: &TaskId, to: &ReplyTo, told: Told<'_>) -> Parcel {
    let mut table = Headers::default();
    table.insert(headers::ATTEMPT.into(), Value::LongLongInt(told.attempt.into()));
    if !told.error_kind.is_empty() {
        table.insert(headers::ERROR.into(), Value::LongString(told.error.into()));
        table.insert(headers::ERROR_KIND.into(), Value::LongString(told.error_kind.into()));
    }
    let mut properties = Properties::default()
        .with_type(told.state.as_str().into())
        .with_message_id(id.as_str().into())
        .with_headers(table);
    if let Some(correlation_id) = &to.correlation_id {
        properties = properties.with_correlation_id((&**correlation_id).into());
    }
    if !told.result_type.is_empty()
        && let Ok(result_type) = taskyard_common::amqp::ShortString::try_new(told.result_type)
    {
        properties = properties.with_content_type(result_type);
    }
    let mut message = Message::to_queue(&*to.queue, properties, told.result);
    // Direct reply-to is no queue, and brokers differ in whether they return what it cannot take.
    message.is_mandatory = !to.queue.starts_with("amq.rabbitmq.reply-to");
    Parcel { message, ops: vec![op], tells_returned: true }
}

/// The record, asked for until Redis answers.
pub(crate) async fn look(reader: &Reader, id: &TaskId) -> Option<TaskView> {
    loop {
        match reader.task(id).await {
            Ok(view) => return view,
            Err(error) => {
                warn!(%error, "Redis does not answer: a reply waits");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }
}
