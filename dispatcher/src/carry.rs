//! Effects, carried out.

use crate::cars::{Load, Refused};
use crate::change::{self, written};
use crate::outbox::Line;
use crate::pool::Pool;
use crate::post::Parcel;
use crate::session::Session;
use crate::writer::Asked;
use bytes::Bytes;
use std::time::Duration;
use taskyard_common::amqp::{AmqpError, Headers, Message, Properties, Value};
use taskyard_common::names::{DELAY_BASE_MS, DELAYS};
use taskyard_common::wire::{
    Control, Errand, HEADERS_BYTES_MAX, headers, headers_bytes, kept, train, write_copy,
};
use taskyard_model::{TaskId, Timestamp, WorkerId};
use taskyard_scheduler::{CarId, Effect, HeadUpdate, OpId, Place};
use tracing::warn;

impl Pool {
    pub(crate) async fn carry(
        &mut self,
        session: &mut Session,
        effects: &mut Vec<Effect>,
    ) -> Result<(), AmqpError> {
        for effect in effects.drain(..) {
            match effect {
                Effect::Write { op, write } => {
                    let what = change::op(write, &self.name, &mut session.cars);
                    session.writes.push(Asked { op, what, is_repeated: false });
                }
                Effect::Send { op, car, worker, update, may_share } => {
                    self.send(session, op, car, &worker, &update, may_share);
                }
                Effect::Move { op, car, to, update } => {
                    self.move_car(session, op, car, to, &update)
                }
                Effect::Reply { op, id, to, body } => self.reply(session, op, id, to, body),
                Effect::Release(car) => session.cars.settle(car),
                Effect::Reissue { id, attempt } => self.reissue(session, id, attempt),
                Effect::Mark(number) => self.mark(session, number),
                Effect::DeclareWorker(worker) => {
                    session.undeclared.entry(self.names.worker(&worker)).or_default();
                    // A closed channel means that the session is over: an input says so.
                    let _ = session.declares.send(worker);
                }
                Effect::Fill { from, is_on } => self.fill(session, from, is_on).await?,
                Effect::AskCancel { worker, id, attempt } => {
                    self.control(session, &worker, Errand::Cancel, Some((id, attempt)), None, None);
                }
                Effect::AskConsume(worker) => {
                    let why = "attempts that were stored in its queue never reached it".to_owned();
                    self.control(session, &worker, Errand::Consume, None, None, Some(why));
                }
                Effect::AskStop { worker, boot, other } => {
                    let why =
                        format!("two processes are the worker {worker}: boots {other} and {boot}");
                    warn!(%worker, %boot, %other, "two processes have one worker id: the newer is told to stop");
                    self.control(
                        session,
                        &worker,
                        Errand::Stop,
                        None,
                        Some(boot.to_string()),
                        Some(why),
                    );
                }
                Effect::Answer { ask, reply } => self.answer_cancel(session, ask, reply),
                Effect::Note(note) => {
                    self.metrics.note(&note);
                    self.board.note(&note, &self.name);
                    self.logs.note(&note);
                }
            }
        }
        Ok(())
    }

    fn send(
        &mut self,
        session: &mut Session,
        op: OpId,
        car: CarId,
        worker: &WorkerId,
        update: &HeadUpdate,
        may_share: bool,
    ) {
        let lie = Some(Duration::from_millis(self.settings.lie_ms));
        let line = Line { lie, tells_returned: true, ..Line::to_queue(self.names.worker(worker)) };
        if !self.trains.get(worker.as_str()).copied().unwrap_or(false) {
            let Some((head, payload)) = session.cars.get(car).and_then(|car| car.load.copy())
            else {
                return;
            };
            let (mut head, payload) = (head.clone(), payload.clone());
            change::update_head(&mut head, update);
            let expiration = self.settings.lie_ms.to_string();
            let properties = write_copy(&head).with_expiration(expiration.into());
            let message = Message::to_queue(line.routing_key, properties, payload);
            return session.outbox.post(Parcel { message, ops: vec![op], tells_returned: true });
        }
        let copy = session.cars.get(car).and_then(|car| car.written.clone());
        let copy = match copy {
            Some((head, copy)) if head == *update => Some(copy),
            // What was stored was another attempt, which came to nothing.
            _ => written(&mut session.cars, car, update).map(|(copy, _)| copy),
        };
        if let Some(copy) = copy {
            session.outbox.couple(line, op, copy, may_share);
        }
    }

    fn move_car(
        &mut self,
        session: &mut Session,
        op: OpId,
        car: CarId,
        to: Place,
        update: &HeadUpdate,
    ) {
        let now = taskyard_common::now();
        let line = match to {
            Place::Lane(lane) => Line::to_queue(self.names.lane(&self.name, lane)),
            Place::Parked => Line::to_queue(self.names.parked(&self.name)),
            Place::Again => Line::to_queue(self.names.again_queue(&self.name)),
            Place::Pool(pool) => Line::to_queue(self.names.again_queue(&pool)),
            Place::Later(at) => Line {
                exchange: self.names.delay(delay_level(at, now)),
                routing_key: self.name.to_string(),
                lie: None,
                tells_returned: false,
            },
            Place::Dead => return self.bury(session, op, car, update),
            Place::Rejected => return self.reject(session, op, car),
        };
        if let Some((copy, _)) = written(&mut session.cars, car, update) {
            session.outbox.couple(line, op, copy, true);
        }
        if let Some(held) = session.cars.get_mut(car) {
            held.written = None;
        }
    }

    /// A submission that breaks a rule, with the reason.
    fn reject(&mut self, session: &mut Session, op: OpId, car: CarId) {
        let Some(Load::Refused(refused)) = session.cars.get(car).map(|car| &car.load) else {
            return;
        };
        let Refused { properties, routing_key, body, reason } = &**refused;
        // Not the broker's own: `CC` would carry it, on our permissions, to queues of its sender's choice.
        let table = properties.headers().as_ref().map(kept).unwrap_or_default();
        let is_small = headers_bytes(&table) <= HEADERS_BYTES_MAX;
        let mut table = if is_small { table } else { Headers::default() };
        let text = |text: &str| Value::LongString(text.into());
        table.insert(headers::REASON.into(), text("rejected"));
        table.insert(headers::ERROR.into(), text(reason));
        table.insert("x-task-routing-key".into(), text(routing_key));
        let properties = rebuilt(properties, table);
        let message = Message::to_queue(self.names.rejected(), properties, body.clone());
        session.outbox.post(Parcel { message, ops: vec![op], tells_returned: false });
    }

    fn mark(&self, session: &mut Session, number: u64) {
        let id = format!("{}:{number}", self.boot);
        let message = marker(self.names.outcomes_queue(&self.name), id);
        session.outbox.post(Parcel { message, ops: Vec::new(), tells_returned: false });
    }

    /// A pass through what is parked ends where its marker is.
    pub(crate) fn begin_parked_pass(&self, session: &mut Session) {
        if session.parked_pass.is_some() {
            return;
        }
        let id = uuid::Uuid::now_v7().to_string();
        let message = marker(self.names.parked(&self.name), id.clone());
        session.parked_pass = Some(id);
        session.outbox.post(Parcel { message, ops: Vec::new(), tells_returned: false });
    }

    /// A message that expires at once has to come back through the outcomes queue; until it does,
    /// this process is not ready.
    pub(crate) async fn prove_dead_lettering(
        &self,
        session: &mut Session,
    ) -> Result<(), AmqpError> {
        // Each pool has its own: a worker's queue says to which pool it lets go.
        let probe = WorkerId::new(&format!("dispatcher.probe.{}", self.name))
            .expect("it follows the rule for ids");
        let channel = session.consuming.channel().await?;
        taskyard_common::amqp::declare_worker_queue(&channel, &self.names, &self.name, &probe)
            .await?;
        let mut message = marker(self.names.worker(&probe), format!("{}:probe", self.boot));
        message.properties = message.properties.with_expiration("1".into());
        session.outbox.post(Parcel { message, ops: Vec::new(), tells_returned: false });
        Ok(())
    }

    /// Tells standbys that somebody leads.
    pub(crate) fn say_leading(&self, session: &mut Session) {
        let properties = Properties::default()
            .with_type("leader".into())
            .with_message_id(self.name.as_str().into())
            .with_app_id(self.boot.as_str().into());
        let mut message =
            Message::to_exchange(self.names.heartbeats(), "", properties, Bytes::new());
        message.is_mandatory = false;
        session.outbox.post(Parcel { message, ops: Vec::new(), tells_returned: true });
    }

    fn control(
        &self,
        session: &mut Session,
        worker: &WorkerId,
        errand: Errand,
        about: Option<(TaskId, u32)>,
        boot: Option<String>,
        why: Option<String>,
    ) {
        let (id, attempt) = about.unzip();
        let control = Control { errand, id, attempt, boot, why };
        let body = serde_json::to_vec(&control).expect("control messages are plain data");
        let exchange = self.names.control();
        let mut message =
            Message::to_exchange(exchange, worker.as_str(), Properties::default(), body.into());
        // A worker that does not listen is not told; that is its choice.
        message.is_mandatory = false;
        session.outbox.post(Parcel { message, ops: Vec::new(), tells_returned: true });
    }
}

/// The largest delay that ends in time.
fn delay_level(at: Timestamp, now: Timestamp) -> u32 {
    let ms = u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX);
    let steps = (ms / DELAY_BASE_MS).max(1);
    steps.ilog2().min(DELAYS - 1)
}

fn marker(queue: String, id: String) -> Message {
    let properties =
        Properties::default().with_content_type(train::MARKER.into()).with_message_id(id.into());
    Message::to_queue(queue, properties, Bytes::new())
}

/// The properties of a message that could not be understood, for another look at it: without what
/// the broker would refuse or act on.
fn rebuilt(properties: &Properties, table: Headers) -> Properties {
    let mut copy = Properties::default().with_headers(table);
    macro_rules! carry {
        ($($get:ident => $with:ident),+) => {
            $(if let Some(value) = properties.$get().clone() { copy = copy.$with(value); })+
        };
    }
    carry!(
        message_id => with_message_id, kind => with_type, priority => with_priority,
        reply_to => with_reply_to, correlation_id => with_correlation_id,
        content_type => with_content_type, content_encoding => with_content_encoding
    );
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_never_ends_too_late() {
        let now = Timestamp::from_ms(1_000_000);
        for ms in [1, 124, 125, 249, 250, 999, 4_000, 3_600_000, 40_000_000_000] {
            let level = delay_level(now + Duration::from_millis(ms), now);
            assert!(level < DELAYS);
            assert!(DELAY_BASE_MS << level <= ms.max(DELAY_BASE_MS), "{ms} {level}");
        }
        assert_eq!(delay_level(now + Duration::from_millis(4_000), now), 5);
    }
}
