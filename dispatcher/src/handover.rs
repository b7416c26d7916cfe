//! Copies that a foreign worker hands over (`held`, `yielded`) as a bare payload: the rest of the
//! task is looked up.

use crate::cars::{Cars, Load, Refused};
use crate::intake::report_event;
use crate::pool::{Input, Pool};
use crate::session::Session;
use std::sync::Arc;
use taskyard_common::amqp::Properties;
use taskyard_common::store::{Answer, Op, Reader, Store, TaskView};
use taskyard_common::wire::{Head, train};
use taskyard_model::{Kind, TaskId, Timestamp};
use taskyard_scheduler::{CarId, Event, RefusedSubmission, Said};
use tracing::warn;

impl Pool {
    /// Takes out of `events` (from `known` on) what needs a look-up first.
    pub(crate) fn complete_copies(&self, session: &Session, events: &mut Vec<Event>, known: usize) {
        let mut at = known;
        while at < events.len() {
            let bare = match &events[at] {
                Event::Reported(report) if report.copy.is_none() => {
                    let is_copy = matches!(report.said, Said::Held | Said::Yielded);
                    is_copy.then(|| (report.car, report.id.clone()))
                }
                _ => None,
            };
            let Some((car, id)) = bare else {
                at += 1;
                continue;
            };
            events.remove(at);
            let (store, reader) = (self.store.clone(), self.reader.clone());
            let inputs = session.inputs.clone();
            tokio::spawn(async move {
                let head = head_of(&store, &reader, &id).await.map(Box::new);
                // A closed channel means that the session is over: it will come again.
                let _ = inputs.send(Input::Completed(car, head));
            });
        }
    }
}

impl Cars {
    /// The head of a copy has been found, or nobody knows the task.
    pub(crate) fn complete(&mut self, id: CarId, head: Option<Box<Head>>, events: &mut Vec<Event>) {
        let Some(car) = self.get_mut(id) else { return };
        let Load::Report(report) = &mut car.load else { return };
        if head.is_some() {
            report.task = head;
            events.push(report_event(id, report));
            car.load = Load::report((**report).clone());
            return;
        }
        warn!(id = %report.id, "a copy of an unknown task is put among the rejected");
        let reason: Arc<str> = "a worker handed over a copy of a task that nobody knows".into();
        let properties = Properties::default().with_message_id(report.id.as_str().into());
        let (routing_key, body) = (report.kind.as_str().to_owned(), report.body.clone());
        let refused = Refused { properties, routing_key, body, reason: reason.clone() };
        car.load = Load::Refused(Box::new(refused));
        events.push(Event::Refused(RefusedSubmission { car: id, id: None, reason, reply: None }));
    }
}

/// The head of a task in flight: as it was dispatched, or from its record.
async fn head_of(store: &Store, reader: &Reader, id: &TaskId) -> Option<Head> {
    let stored = loop {
        match store.run(&[Op::Payload(id.clone())]).await {
            Ok(answers) => break answers.into_iter().next(),
            Err(error) => warn!(%error, "Redis does not answer: a copy waits"),
        }
    };
    if let Some(Answer::Payload(_, Some(copy))) = stored
        && let Ok(cars) = train::read::<Head>(&copy)
        && let Some((head, _)) = cars.into_iter().next()
    {
        return Some(head);
    }
    from_record(id, &crate::replies::look(reader, id).await?)
}

/// What a record says of its task; headers of the submitter's own are not in it.
fn from_record(id: &TaskId, view: &TaskView) -> Option<Head> {
    let kind = Kind::new(view.fields.text("kind")).ok()?;
    let mut head = Head::new(id.clone(), kind);
    head.priority = view.fields.number("priority");
    head.attempt = view.attempt();
    head.failures = view.failures();
    head.losses = view.losses();
    head.max_attempts = view.fields.number("max_attempts");
    head.max_losses = view.fields.number("max_losses");
    head.timeout_ms = view.fields.number("timeout_ms");
    head.keep_ms = view.fields.number("keep_ms");
    head.accepted_at = view.fields.instant("submitted_at");
    head.deadline = view.fields.number("deadline").map(Timestamp::from_ms);
    head.backoff = view.fields.text("backoff").parse().ok();
    head.requires = view.fields.text("requires").parse().unwrap_or_default();
    let text = |name: &str| Some(view.fields.text(name).to_owned()).filter(|text| !text.is_empty());
    head.tenant = text("tenant");
    head.user = text("user");
    head.reply_to = text("reply_to");
    head.correlation_id = text("correlation_id");
    Some(head)
}
