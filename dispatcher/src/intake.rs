//! What is delivered, read into events.

use crate::cars::{Cars, Load, Refused, Ticket, Track};
use crate::logs::Logs;
use crate::settings::Settings;
use bytes::Bytes;
use std::sync::Arc;
use taskyard_common::amqp::{Delivery, Properties, ShortString};
use taskyard_common::names::Names;
use taskyard_common::wire::{
    Head, Refusal, Report, ReportKind, Submission, Task, death, read_bulk, read_copy, read_reports,
    read_submission, train,
};
use taskyard_model::{
    Backoff, CopyFacts, ErrorKind, MAX_ATTEMPTS_DEFAULT, MAX_LOSSES_DEFAULT, Pattern, PoolName,
    Source, TaskId, Timestamp,
};
use taskyard_scheduler::{
    Arrival, CarId, Destination, Event, Facts, Fault, RefusedSubmission, ReplyTo, ReportFacts, Said,
};
use tracing::warn;

/// Where a delivery was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Submit,
    Again,
    Outcomes,
    Lane(u8),
    Parked,
}

impl From {
    pub(crate) fn track(self) -> Track {
        match self {
            From::Submit => Track::Submit,
            From::Again => Track::Again,
            From::Outcomes => Track::Outcomes,
            From::Lane(_) | From::Parked => Track::Backlog,
        }
    }
}

/// What a kind gets where the submitter says nothing.
#[derive(Clone, Debug)]
struct Defaults {
    kind: Pattern,
    priority: Option<u8>,
    max_attempts: Option<u32>,
    max_losses: Option<u32>,
    backoff: Option<Backoff>,
    timeout_ms: Option<u64>,
}

/// Reads deliveries of one pool.
#[derive(Debug)]
pub(crate) struct Intake {
    names: Names,
    pool: PoolName,
    settings: Arc<Settings>,
    defaults: Vec<Defaults>,
    /// The pool's own, where the kind has none.
    priority: Option<u8>,
}

impl Intake {
    pub(crate) fn new(names: Names, pool: PoolName, settings: Arc<Settings>) -> Self {
        let read = |kind: &crate::settings::KindDefaults| {
            Some(Defaults {
                kind: Pattern::new(&kind.kind).ok()?,
                priority: kind.priority,
                max_attempts: kind.max_attempts,
                max_losses: kind.max_losses,
                backoff: kind.backoff.as_ref().and_then(|text| text.parse().ok()),
                timeout_ms: kind.timeout_ms,
            })
        };
        let defaults = settings.kinds.iter().filter_map(read).collect();
        let own = settings.pools.iter().find(|one| one.name == pool.as_str());
        let priority = own.and_then(|pool| pool.priority);
        Self { names, pool, settings, defaults, priority }
    }

    /// Registers a delivery and says what it is.
    pub(crate) fn read(
        &self,
        from: From,
        delivery: Delivery,
        now: Timestamp,
        cars: &mut Cars,
        logs: &mut Logs,
        events: &mut Vec<Event>,
    ) {
        let ticket = Ticket { track: from.track(), tag: delivery.tag };
        match from {
            From::Submit => self.submitted(ticket, delivery, now, cars, events),
            From::Again => self.copies(ticket, &delivery, Source::Again, None, cars, events),
            From::Lane(lane) => {
                self.copies(ticket, &delivery, Source::Lane, Some(lane), cars, events);
            }
            From::Parked => self.copies(ticket, &delivery, Source::Parked, None, cars, events),
            From::Outcomes => self.outcome(ticket, delivery, now, cars, logs, events),
        }
    }

    fn submitted(
        &self,
        ticket: Ticket,
        delivery: Delivery,
        now: Timestamp,
        cars: &mut Cars,
        events: &mut Vec<Event>,
    ) {
        let key = delivery.routing_key.clone();
        self.submissions(ticket, delivery, &key, Source::Submit, now, cars, events);
    }

    #[expect(clippy::too_many_arguments, reason = "one way in for both kinds of submission")]
    fn submissions(
        &self,
        ticket: Ticket,
        delivery: Delivery,
        routing_key: &str,
        source: Source,
        now: Timestamp,
        cars: &mut Cars,
        events: &mut Vec<Event>,
    ) {
        let is_redelivered = delivery.is_redelivered;
        let properties = delivery.properties.clone();
        let read = self.read_submissions(delivery, routing_key, now);
        let mut verdicts = Vec::with_capacity(read.len());
        let mut loads = Vec::with_capacity(read.len());
        for (one, payload) in read {
            match one {
                Ok(Submission { mut head, is_named }) => {
                    self.complete(&mut head, now);
                    loads.push(Load::Task(Task { head, payload }));
                    verdicts.push(Ok(is_named));
                }
                Err(refusal) => {
                    let reason: Arc<str> = refusal.reason.as_str().into();
                    loads.push(Load::Refused(Box::new(Refused {
                        properties: properties.clone(),
                        routing_key: routing_key.to_owned(),
                        body: payload,
                        reason: reason.clone(),
                    })));
                    verdicts.push(Err((refusal.id, reason)));
                }
            }
        }
        let ids = cars.delivered(ticket, loads);
        for (car, verdict) in ids.into_iter().zip(verdicts) {
            events.push(match verdict {
                Ok(is_named) => {
                    let Some(Load::Task(task)) = cars.get(car).map(|car| &car.load) else {
                        continue;
                    };
                    let facts = Box::new(facts(&task.head, task.payload.len()));
                    let destination = self.destination(&task.head, is_named);
                    let copy = CopyFacts { attempt: 0, source, is_redelivered };
                    Event::Arrived(Arrival { car, copy, facts, destination, lane: None })
                }
                Err((id, reason)) => {
                    let reply = self.reply_of(&properties);
                    Event::Refused(RefusedSubmission { car, id, reason, reply })
                }
            });
        }
    }

    /// A submission, or each of a bulk.
    fn read_submissions(
        &self,
        delivery: Delivery,
        routing_key: &str,
        now: Timestamp,
    ) -> Vec<(Result<Submission, Refusal>, Bytes)> {
        let is_bulk = content_type(&delivery) == Some(train::BULK);
        let Delivery { properties, body, .. } = delivery;
        if !is_bulk {
            let one =
                read_submission(&properties, routing_key, body.len(), &self.names, now, fresh_id);
            return vec![(one, body)];
        }
        match read_bulk(&properties, routing_key, &body, &self.names, now, fresh_id) {
            Ok(tasks) => tasks,
            Err(error) => {
                let reason = error.to_string();
                let refusal = Refusal { reason, error_kind: ErrorKind::Rejected, id: None };
                vec![(Err(refusal), body)]
            }
        }
    }

    /// Where a refusal is told: not to a queue of ours.
    fn reply_of(&self, properties: &Properties) -> Option<ReplyTo> {
        let text = |p: &Option<ShortString>| p.as_ref().map(ToString::to_string);
        let queue = text(properties.reply_to()).filter(|queue| !self.names.owns(queue));
        reply_to(queue.as_deref(), text(properties.correlation_id()).as_deref())
    }

    /// What the submitter left open, from the kind's defaults.
    fn complete(&self, head: &mut Head, now: Timestamp) {
        head.accepted_at = Some(now);
        let defaults = self.defaults.iter().find(|d| d.kind.matches(&head.kind));
        let priority = defaults.and_then(|defaults| defaults.priority).or(self.priority);
        head.priority = head.priority.or(priority);
        let Some(defaults) = defaults else { return };
        head.max_attempts = head.max_attempts.or(defaults.max_attempts);
        head.max_losses = head.max_losses.or(defaults.max_losses);
        head.backoff = head.backoff.or(defaults.backoff);
        head.timeout_ms = head.timeout_ms.or(defaults.timeout_ms);
    }

    fn destination(&self, head: &Head, is_named: bool) -> Destination {
        let pool = match self.settings.pools.is_empty() {
            true => None,
            false => Some(self.settings.pool_of(&head.kind).unwrap_or_else(PoolName::default_pool)),
        };
        match pool {
            Some(pool) if pool != self.pool => Destination::Elsewhere(pool),
            _ if !is_named => Destination::Named,
            _ => Destination::Here,
        }
    }

    /// Our own copies: trains, or native ones that a foreign worker let go of.
    fn copies(
        &self,
        ticket: Ticket,
        delivery: &Delivery,
        source: Source,
        lane: Option<u8>,
        cars: &mut Cars,
        events: &mut Vec<Event>,
    ) {
        let is_train = content_type(delivery) == Some(train::TASKS);
        let read = match is_train {
            true => train::read::<Box<Head>>(&delivery.body)
                .map_err(|error| error.to_string())
                .and_then(|cars| cars.iter().try_for_each(|(head, _)| head.check()).map(|()| cars)),
            false => read_copy(&delivery.properties)
                .map(|head| vec![(Box::new(head), delivery.body.clone())])
                .map_err(|error| error.to_string()),
        };
        let tasks = match read {
            Ok(mut tasks) => {
                tasks.iter_mut().for_each(|(head, _)| self.without_own_queue(&mut head.reply_to));
                tasks
            }
            Err(error) => return self.not_understood(ticket, delivery, &error, cars, events),
        };
        let loads =
            tasks.into_iter().map(|(head, payload)| Load::Task(Task { head, payload })).collect();
        for car in cars.delivered(ticket, loads) {
            let Some(Load::Task(task)) = cars.get(car).map(|car| &car.load) else { continue };
            let facts = Box::new(facts(&task.head, task.payload.len()));
            let is_redelivered = delivery.is_redelivered;
            let copy = CopyFacts { attempt: facts.attempt, source, is_redelivered };
            let destination = Destination::Here;
            events.push(Event::Arrived(Arrival { car, copy, facts, destination, lane }));
        }
    }

    /// A report, or what a queue let go of.
    fn outcome(
        &self,
        ticket: Ticket,
        delivery: Delivery,
        now: Timestamp,
        cars: &mut Cars,
        logs: &mut Logs,
        events: &mut Vec<Event>,
    ) {
        if let Some(death) = death(&delivery.properties) {
            if death.queue == self.names.submit(&self.pool) {
                let key = death.routing_key.unwrap_or_default();
                let source = Source::SubmitExpired;
                return self.submissions(ticket, delivery, &key, source, now, cars, events);
            }
            let source =
                if death.is_rejected { Source::WorkerNacked } else { Source::WorkerExpired };
            return self.copies(ticket, &delivery, source, None, cars, events);
        }
        match read_reports(&delivery.properties, &delivery.body) {
            Ok(mut reports) => {
                reports.retain(|report| {
                    // Nothing hangs on lines of a log: they are not kept until they are written.
                    let is_log = report.kind == ReportKind::Log;
                    if is_log {
                        logs.take(report, now);
                    }
                    !is_log
                });
                for report in &mut reports {
                    self.without_own_queue(&mut report.reply_to);
                    let head = report.task.as_mut();
                    head.into_iter().for_each(|head| self.without_own_queue(&mut head.reply_to));
                }
                let loads = reports.into_iter().map(Load::report).collect();
                for car in cars.delivered(ticket, loads) {
                    if let Some(Load::Report(report)) = cars.get(car).map(|car| &car.load) {
                        events.push(report_event(car, report));
                    }
                }
            }
            Err(error) => self.not_understood(ticket, &delivery, &error.to_string(), cars, events),
        }
    }

    /// No reply goes to a queue of the namespace, whoever names it.
    fn without_own_queue(&self, reply_to: &mut Option<String>) {
        if reply_to.as_deref().is_some_and(|queue| self.names.owns(queue)) {
            *reply_to = None;
        }
    }

    /// Nothing is thrown away: it goes where it can be looked at.
    #[expect(clippy::unused_self, reason = "reads like its neighbours")]
    fn not_understood(
        &self,
        ticket: Ticket,
        delivery: &Delivery,
        error: &str,
        cars: &mut Cars,
        events: &mut Vec<Event>,
    ) {
        warn!(error, routing_key = delivery.routing_key, "message not understood");
        let reason: Arc<str> = error.into();
        let load = Load::Refused(Box::new(Refused {
            properties: delivery.properties.clone(),
            routing_key: delivery.routing_key.clone(),
            body: delivery.body.clone(),
            reason: reason.clone(),
        }));
        for car in cars.delivered(ticket, vec![load]) {
            let refused = RefusedSubmission { car, id: None, reason: reason.clone(), reply: None };
            events.push(Event::Refused(refused));
        }
    }
}

/// Whether a message only shows how far its queue has been read, and which. A submission never does,
/// whatever it says of itself.
pub(crate) fn marker(from: From, delivery: &Delivery, names: &Names) -> Option<String> {
    let was_submitted = from == From::Submit
        || death(&delivery.properties).is_some_and(|death| names.is_submit(&death.queue));
    let is_marker = content_type(delivery) == Some(train::MARKER) && !was_submitted;
    is_marker.then(|| delivery.properties.message_id().as_ref().map(ToString::to_string)).flatten()
}

fn content_type(delivery: &Delivery) -> Option<&str> {
    delivery.properties.content_type().as_ref().map(|t| t.as_str())
}

fn fresh_id() -> TaskId {
    TaskId::new(&uuid::Uuid::now_v7().to_string()).expect("a UUID follows the rule for ids")
}

/// What the scheduler needs to know of a task.
pub(crate) fn facts(head: &Head, bytes: usize) -> Facts {
    Facts {
        id: head.id.clone(),
        kind: head.kind.clone(),
        requires: head.requires.clone(),
        slots: head.slots,
        priority: head.priority.unwrap_or(0),
        accepted_at: head.accepted_at.unwrap_or_default(),
        due_at: head.due_at,
        start_by: head.start_by,
        timeout_ms: head.timeout_ms,
        attempt: head.attempt,
        failures: head.failures,
        losses: head.losses,
        max_attempts: head.max_attempts.unwrap_or(MAX_ATTEMPTS_DEFAULT),
        max_losses: head.max_losses.unwrap_or(MAX_LOSSES_DEFAULT),
        backoff: head.backoff.unwrap_or_default(),
        keep_ms: head.keep_ms,
        is_suspect: head.is_suspect,
        rounds: head.rounds,
        bytes,
        reply: reply_to(head.reply_to.as_deref(), head.correlation_id.as_deref()),
    }
}

pub(crate) fn reply_to(queue: Option<&str>, correlation_id: Option<&str>) -> Option<ReplyTo> {
    let queue = queue.filter(|queue| !queue.is_empty())?.into();
    let correlation_id = correlation_id.filter(|id| !id.is_empty()).map(Into::into);
    Some(ReplyTo { queue, correlation_id })
}

pub(crate) fn report_event(car: CarId, report: &Report) -> Event {
    let said = match report.kind {
        ReportKind::Started => Said::Started,
        // Lines of logs go another way; here they could only say that it runs.
        ReportKind::Progress | ReportKind::Log => Said::Progress,
        ReportKind::Succeeded => Said::Succeeded,
        ReportKind::Failed => Said::Failed(Fault {
            is_permanent: report.is_permanent,
            error_kind: report.error_kind.unwrap_or(ErrorKind::Failed),
            retry_after_ms: report.retry_after_ms,
        }),
        ReportKind::Returned => Said::Returned { is_orphan: report.is_orphan },
        ReportKind::Yielded => Said::Yielded,
        ReportKind::Held => Said::Held,
    };
    let copy = report.task.as_ref().map(|head| Box::new(facts(head, report.body.len())));
    Event::Reported(ReportFacts {
        car,
        id: report.id.clone(),
        attempt: report.attempt,
        worker: report.worker.clone(),
        said,
        ran_us: report.ran_us,
        had_us: report.had_us,
        copy,
        reply: reply_to(report.reply_to.as_deref(), report.correlation_id.as_deref()),
    })
}
