//! The scheduler's writes in the words of the store.

use crate::cars::{Cars, Load};
use crate::intake::reply_to;
use bytes::Bytes;
use std::sync::Arc;
use taskyard_common::store;
use taskyard_common::store::{Change, Op, PayloadOp, Value};
use taskyard_common::wire::Head;
use taskyard_common::wire::train::TrainWriter;
use taskyard_model::{MAX_ATTEMPTS_DEFAULT, MAX_LOSSES_DEFAULT, PoolName, State, Timestamp, Wants};
use taskyard_scheduler::{
    Answer, CarId, Expect, Field, HeadUpdate, Keep, Payload, Record, ReplyTo, Write,
};

/// Largest payload that is kept beside the state while an attempt is in flight.
const PAYLOAD_KEPT_MAX: usize = 64 * 1024;
/// Largest result that is kept in Redis; a larger one is only sent by reply.
pub(crate) const RESULT_KEPT_MAX: usize = 1024 * 1024;
/// Longest error text that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// One write or look, as the store takes it.
pub(crate) fn op(write: Write, pool: &PoolName, cars: &mut Cars) -> Op {
    let Some(transition) = write.transition else { return Op::Read(write.id) };
    let mut change = Change::new(write.id, transition, write.state);
    change.expect = match write.expect {
        Expect::Any => store::Expect::Any,
        Expect::Exactly(attempt) => store::Expect::Exactly(attempt),
        Expect::Below(attempt) => store::Expect::Below(attempt),
    };
    change.payload = match write.payload {
        Payload::Keep => PayloadOp::Keep,
        Payload::Delete => PayloadOp::Delete,
        Payload::Store(car, update) => match written(cars, car, &update) {
            Some((train, bytes)) if bytes <= PAYLOAD_KEPT_MAX => PayloadOp::Set(train),
            _ => PayloadOp::Delete,
        },
    };
    change.keep = match write.keep {
        Keep::Unchanged => store::Keep::Unchanged,
        Keep::For(time) => store::Keep::For(time),
    };
    change.wants = write.wants;
    let is_unknown = write.wants == Wants::Record && write.state == Some(State::Succeeded);
    for field in write.fields {
        add(&mut change.fields, field, pool, cars, is_unknown);
    }
    Op::Change(change)
}

/// The copy as a train of one car with its head brought up to date, and the size of its payload.
/// What is stored and what is sent are the same bytes.
pub(crate) fn written(cars: &mut Cars, car: CarId, update: &HeadUpdate) -> Option<(Bytes, usize)> {
    let held = cars.get_mut(car)?;
    let (head, payload) = held.load.copy_mut()?;
    // What comes of the attempt is not known yet: the copy in hand stays as it came.
    let (as_it_came, start_by) = (update_of(head), head.start_by);
    update_head(head, update);
    let mut train = TrainWriter::new();
    train.push(&*head, payload);
    update_head(head, &as_it_came);
    head.start_by = start_by;
    let (train, bytes) = (train.finish(), payload.len());
    held.written = Some((*update, train.clone()));
    Some((train, bytes))
}

fn update_of(head: &Head) -> HeadUpdate {
    HeadUpdate {
        attempt: head.attempt,
        failures: head.failures,
        losses: head.losses,
        due_at: head.due_at,
        is_suspect: head.is_suspect,
        rounds: head.rounds,
    }
}

/// What the scheduler decided about a copy, in its head.
pub(crate) fn update_head(head: &mut Head, update: &HeadUpdate) {
    head.attempt = update.attempt;
    head.failures = update.failures;
    head.losses = update.losses;
    head.due_at = update.due_at;
    head.is_suspect = update.is_suspect;
    head.rounds = update.rounds;
    if update.failures > 0 || update.losses > 0 {
        // It has been started in time; what follows are retries.
        head.start_by = None;
    }
}

type Fields = Vec<(&'static str, Value)>;

fn add(fields: &mut Fields, field: Field, pool: &PoolName, cars: &Cars, is_unknown: bool) {
    let instant = |at: Option<Timestamp>| at.map_or(Value::EMPTY, Value::from);
    match field {
        Field::Attempt(n) => fields.push(("attempt", n.into())),
        Field::Failures(n) => fields.push(("failures", n.into())),
        Field::Losses(n) => fields.push(("losses", n.into())),
        Field::Worker(id) => fields.push(("worker", id.into())),
        Field::DispatchedAt(at) => fields.push(("dispatched_at", at.into())),
        Field::StartedAt(at) => fields.push(("started_at", at.into())),
        Field::FinishedAt(at) => fields.push(("finished_at", at.into())),
        Field::NextAt(at) => fields.push(("next_at", instant(at))),
        Field::Error(text) => fields.push(("error", text.into())),
        Field::ErrorKind(kind) => fields.push(("error_kind", kind.as_str().into())),
        Field::Reason(text) => fields.push(("reason", text.into())),
        Field::NoError => fields.extend([("error", Value::EMPTY), ("error_kind", Value::EMPTY)]),
        Field::OwesDeadLetter(is_owed) => {
            fields.push(("owed", if is_owed { "dead" } else { "" }.into()));
        }
        Field::Reply(to) => {
            let (queue, id) = reply_fields(to);
            fields.push(("reply_to", queue));
            fields.push(("correlation_id", id));
        }
        Field::CancelAsked => fields.push(("cancel", "1".into())),
        Field::ErrorOf(car) => error_of(fields, cars, car),
        Field::ResultOf(car) => result_of(fields, cars, car, pool, is_unknown),
        Field::ProgressOf(car) => {
            if let Some(Load::Report(report)) = cars.get(car).map(|car| &car.load) {
                if let Some(percent) = report.progress {
                    fields.push(("progress", percent.into()));
                }
                if let Some(note) = &report.note {
                    fields.push(("progress_note", note.clone().into()));
                }
            }
        }
        Field::All(car) => all_of(fields, cars, car, pool),
    }
}

fn reply_fields(to: Option<ReplyTo>) -> (Value, Value) {
    let text = |text: Option<Arc<str>>| text.map_or(Value::EMPTY, Value::from);
    match to {
        Some(to) => (to.queue.into(), text(to.correlation_id)),
        None => (Value::EMPTY, Value::EMPTY),
    }
}

fn error_of(fields: &mut Fields, cars: &Cars, car: CarId) {
    let Some(Load::Report(report)) = cars.get(car).map(|car| &car.load) else { return };
    let mut error = report.error.clone().unwrap_or_default();
    if error.len() > ERROR_BYTES_MAX {
        let end = (0..=ERROR_BYTES_MAX).rev().find(|&end| error.is_char_boundary(end));
        error.truncate(end.unwrap_or(0));
    }
    fields.push(("error", error.into()));
}

fn result_of(fields: &mut Fields, cars: &Cars, car: CarId, pool: &PoolName, is_unknown: bool) {
    let Some(Load::Report(report)) = cars.get(car).map(|car| &car.load) else { return };
    match report.body.len() {
        bytes if bytes > RESULT_KEPT_MAX => fields.push(("result_bytes", (bytes as u64).into())),
        _ => fields.push(("result", report.body.clone().into())),
    }
    if let Some(content_type) = &report.content_type {
        fields.push(("result_type", content_type.clone().into()));
    }
    if is_unknown {
        // The record may be gone: it is written anew from what the report knows.
        fields.extend(report.task_kind.clone().map(|kind| ("kind", kind.into())));
        fields.extend(report.worker.clone().map(|worker| ("worker", worker.into())));
        fields.push(("pool", pool.clone().into()));
    }
}

fn all_of(fields: &mut Fields, cars: &Cars, car: CarId, pool: &PoolName) {
    let Some((head, _)) = cars.get(car).and_then(|car| car.load.copy()) else { return };
    let word = |text: &String| Value::Text(text.as_str().into());
    fields.push(("kind", head.kind.clone().into()));
    fields.push(("pool", pool.clone().into()));
    fields.push(("priority", head.priority.unwrap_or(0).into()));
    let tenant = head.tenant.as_ref().or(head.user.as_ref());
    fields.push(("tenant", tenant.map_or("default".into(), word)));
    fields.push(("max_attempts", head.max_attempts.unwrap_or(MAX_ATTEMPTS_DEFAULT).into()));
    fields.push(("max_losses", head.max_losses.unwrap_or(MAX_LOSSES_DEFAULT).into()));
    fields.push(("submitted_at", head.accepted_at.unwrap_or_default().into()));
    if head.attempt > 0 {
        fields.push(("attempt", head.attempt.into()));
        fields.push(("failures", head.failures.into()));
        fields.push(("losses", head.losses.into()));
    }
    let mut number = |name: &'static str, value: Option<u64>| {
        fields.extend(value.map(|value| (name, value.into())));
    };
    number("keep_ms", head.keep_ms);
    number("timeout_ms", head.timeout_ms);
    number("deadline", head.deadline.map(Timestamp::as_ms));
    number("estimate_ms", head.estimate_ms);
    number("start_by", head.start_by.map(Timestamp::as_ms));
    let mut text = |name: &'static str, value: Option<Value>| {
        fields.extend(value.map(|value| (name, value)));
    };
    text("backoff", head.backoff.map(|backoff| backoff.to_string().into()));
    text("user", head.user.as_ref().map(word));
    text("requires", (!head.requires.is_empty()).then(|| head.requires.to_string().into()));
    let trace = head.headers.inner().get("traceparent").and_then(|value| value.as_long_string());
    text("traceparent", trace.map(|trace| trace.to_string().into()));
    if let Some(to) = reply_to(head.reply_to.as_deref(), head.correlation_id.as_deref()) {
        let (queue, id) = reply_fields(Some(to));
        fields.push(("reply_to", queue));
        fields.push(("correlation_id", id));
    }
}

/// What the store answered, in the words of the scheduler; `None` where it has to be asked again.
pub(crate) fn answer(answer: store::Answer) -> Option<Answer> {
    match answer {
        store::Answer::Applied(record) => Some(Answer::Applied(record.map(record_of))),
        store::Answer::Refused(record) => Some(Answer::Refused(record.map(record_of))),
        store::Answer::Record(record) | store::Answer::Payload(record, _) => {
            Some(Answer::Refused(record.map(record_of)))
        }
        store::Answer::Failed(_) => None,
    }
}

/// A record as far as decisions need it.
pub(crate) fn record_of(record: Box<store::Record>) -> Record {
    let record = *record;
    Record {
        state: record.state,
        attempt: record.attempt,
        failures: record.failures,
        losses: record.losses,
        max_attempts: match record.max_attempts {
            0 => taskyard_model::MAX_ATTEMPTS_DEFAULT,
            n => n,
        },
        max_losses: record.max_losses,
        backoff: record.backoff.unwrap_or_default(),
        worker: record.worker,
        next_at: record.next_at,
        reply: reply_to(Some(&record.reply_to), Some(&record.correlation_id)),
        owes_dead_letter: record.owed == "dead",
        is_cancel_asked: record.cancel,
        keep_ms: record.keep_ms,
        start_by: record.start_by,
    }
}
