//! One pool: its scheduler, and the sessions in which this process serves it.

use crate::complaints::Complaints;
use crate::intake::{From, Intake, marker};
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::session::Session;
use crate::settings::Settings;
use crate::token::{self, Taken};
use crate::view::Board;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use taskyard_common::amqp::{
    self, AmqpError, AmqpSettings, Delivery, Garbled, Publication, jittered_wait,
};
use taskyard_common::names::Names;
use taskyard_common::shutdown::Shutdown;
use taskyard_common::store::{self, Reader, Store};
use taskyard_common::wire::{Head, Heartbeat};
use taskyard_model::{PoolName, Timestamp, WorkerId};
use taskyard_scheduler::{BeatFacts, CarId, Event, OpId, Outcome, Scheduler};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

/// Inputs taken in one turn; more would make the first of them wait.
const TURN_MAX: usize = 2_048;
/// How often duties are looked at: token, beats, view.
const DUTY_INTERVAL: Duration = Duration::from_millis(250);

/// Everything that reaches the engine.
pub(crate) enum Input {
    /// A message of a task queue.
    Delivered(From, Box<Delivery>),
    /// A worker's or leader's beat.
    Beat(Box<Delivery>),
    /// The token.
    Token(u64),
    /// An operator's command.
    Command(Box<Delivery>),
    /// A worker's queue is there.
    Declared(WorkerId),
    /// Redis has answered.
    Stored(Vec<(OpId, store::Answer, bool)>),
    /// The broker has answered.
    Posted(Vec<OpId>, Publication),
    /// Something for the scheduler that took a look-up first.
    Event(Box<Event>),
    /// The head of a copy that a foreign worker handed over without one; `None` if nobody knows it.
    Completed(CarId, Option<Box<Head>>),
    /// The session is over.
    Failed(&'static str),
}

/// What outlives sessions.
pub(crate) struct Pool {
    pub(crate) name: PoolName,
    pub(crate) names: Names,
    pub(crate) settings: Arc<Settings>,
    pub(crate) amqp: AmqpSettings,
    pub(crate) store: Store,
    pub(crate) reader: Reader,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) scheduler: Scheduler,
    pub(crate) intake: Intake,
    pub(crate) board: Board,
    pub(crate) logs: Logs,
    /// Which workers take trains.
    pub(crate) trains: HashMap<String, bool>,
    pub(crate) complaints: Complaints,
    /// Whether messages that cannot be read ended the sessions so far.
    pub(crate) garbled: Vec<Garbled>,
    /// Tells this process's markers and beats from others'.
    pub(crate) boot: String,
}

enum End {
    Shutdown,
    Lost(AmqpError),
    Failed(&'static str),
}

impl Pool {
    /// Serves the pool until shutdown.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let mut tries = 0;
        loop {
            let began = Instant::now();
            let end = self.session(&shutdown).await.unwrap_or_else(End::Lost);
            self.metrics.set_role(false, false);
            // Nothing that it wants done reaches anybody any more.
            self.scheduler.handle(taskyard_common::now(), Event::SessionEnded, &mut Vec::new());
            match end {
                End::Shutdown => return,
                End::Lost(error) if error.is_transient() => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "session lost; connecting again"
                    );
                }
                End::Lost(error) => {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "RabbitMQ refuses us: mend this"
                    );
                }
                End::Failed(why) => warn!(why, "session lost; connecting again"),
            }
            tries = if began.elapsed() > Duration::from_secs(30) { 0 } else { tries + 1 };
            let wait = tokio::time::sleep(jittered_wait(tries));
            tokio::select! {
                () = wait => {}
                () = shutdown.drain.cancelled() => return,
            }
        }
    }

    async fn session(&mut self, shutdown: &Shutdown) -> Result<End, AmqpError> {
        let (inputs, mut received) = mpsc::unbounded_channel();
        let mut session = self.connect(inputs).await?;
        token::publish(&session.publisher, &self.names, &self.name).await?;
        self.metrics.set_role(true, false);
        let (mut batch, mut events, mut effects) = (Vec::new(), Vec::new(), Vec::new());
        let mut looked = Instant::now();
        let end = loop {
            let wait = self.pause(&session);
            let is_pressing = session.gate.is_pressing(session.under_way);
            tokio::select! {
                // In this order: what ends the session is seen however much there is to do.
                biased;
                () = session.consuming.lost() => break End::Failed("the connection was lost"),
                () = session.publishing.lost() => break End::Failed("the publishing connection was lost"),
                () = shutdown.drain.cancelled() => break End::Shutdown,
                _ = received.recv_many(&mut batch, TURN_MAX) => {}
                () = std::future::ready(()), if is_pressing => {}
                () = tokio::time::sleep(wait) => {}
            }
            self.metrics.turn(batch.len());
            let now = taskyard_common::now();
            let mut failure = None;
            for input in batch.drain(..) {
                match self.take_in(&mut session, input, now, &mut events).await? {
                    None => {}
                    Some(why) => failure = Some(why),
                }
            }
            if let Some(why) = failure {
                break End::Failed(why);
            }
            self.admit(&mut session, &mut events);
            for event in events.drain(..) {
                self.scheduler.handle(now, event, &mut effects);
            }
            if session.role.is_leading() {
                self.scheduler.handle(now, Event::TurnEnded, &mut effects);
                self.carry(&mut session, &mut effects).await?;
            }
            effects.clear();
            session.flush();
            if looked.elapsed() >= DUTY_INTERVAL {
                looked = Instant::now();
                if !self.duties(&mut session, now).await? {
                    break End::Failed("the token did not come back: no longer leading");
                }
            }
        };
        if matches!(end, End::Shutdown) {
            info!(pool = %self.name, "shutting down");
            session.consuming.close().await;
            session.publishing.close().await;
        }
        Ok(end)
    }

    /// Until when there is nothing to do unless something arrives.
    fn pause(&self, session: &Session) -> Duration {
        if !session.role.is_leading() {
            return DUTY_INTERVAL;
        }
        let due = self.scheduler.deadline().since(taskyard_common::now());
        due.clamp(Duration::from_millis(1), DUTY_INTERVAL)
    }

    /// Reads one input into events; an answer is why the session is over.
    async fn take_in(
        &mut self,
        session: &mut Session,
        input: Input,
        now: Timestamp,
        events: &mut Vec<Event>,
    ) -> Result<Option<&'static str>, AmqpError> {
        match input {
            Input::Delivered(From::Submit, delivery) => session.gate.delivered(delivery, now),
            Input::Delivered(from, delivery) => {
                self.delivered(session, from, *delivery, now, events)
            }
            Input::Beat(delivery) => self.beat(session, &delivery, now, events),
            Input::Token(tag) => match session.role.took(tag) {
                Taken::Lead => self.lead(session, now).await?,
                Taken::Surplus(tag) => amqp::ack(&session.leader_channel, tag, false).await?,
                Taken::Back => {}
            },
            Input::Command(delivery) => self.command(session, *delivery, events),
            Input::Declared(worker) => session.declared(&self.names.worker(&worker)),
            Input::Stored(answers) => {
                session.under_way = session.under_way.saturating_sub(answers.len());
                for (op, answer, is_repeated) in answers {
                    if let Some(answer) = crate::change::answer(answer) {
                        events.push(Event::Wrote { op, answer, is_repeated });
                    }
                }
            }
            Input::Posted(ops, publication) => {
                let outcome = match publication {
                    Publication::Confirmed => Outcome::Confirmed,
                    _ => Outcome::Returned,
                };
                events.extend(ops.into_iter().map(|op| Event::Published { op, outcome }));
            }
            Input::Event(event) => events.push(*event),
            Input::Completed(car, head) => session.cars.complete(car, head, events),
            Input::Failed(why) => return Ok(Some(why)),
        }
        Ok(None)
    }

    /// Takes in as many submissions as this turn has room for.
    fn admit(&mut self, session: &mut Session, events: &mut Vec<Event>) {
        session.gate.open();
        while let Some((at, delivery)) = session.gate.next(session.under_way) {
            let known = events.len();
            self.delivered(session, From::Submit, *delivery, at, events);
            session.gate.admitted(events.len() - known);
        }
    }

    fn delivered(
        &mut self,
        session: &mut Session,
        from: From,
        delivery: Delivery,
        now: Timestamp,
        events: &mut Vec<Event>,
    ) {
        let Some(id) = marker(from, &delivery, &self.names) else {
            let known = events.len();
            let (cars, logs) = (&mut session.cars, &mut self.logs);
            self.intake.read(from, delivery, now, cars, logs, events);
            return self.complete_copies(session, events, known);
        };
        let ticket = crate::cars::Ticket { track: from.track(), tag: delivery.tag };
        session.cars.delivered(ticket, Vec::new());
        match from {
            From::Parked if session.parked_pass.as_deref() == Some(&id) => {
                session.parked_pass = None;
                events.push(Event::ParkedPassed);
            }
            _ => match id.strip_prefix(&format!("{}:", self.boot)) {
                Some("probe") => self.metrics.set_role(true, true),
                Some(number) => events.extend(number.parse().ok().map(Event::MarkerPassed)),
                None => {}
            },
        }
    }

    fn beat(
        &mut self,
        session: &mut Session,
        delivery: &Delivery,
        now: Timestamp,
        events: &mut Vec<Event>,
    ) {
        if delivery.properties.kind().as_ref().is_some_and(|kind| kind.as_str() == "leader") {
            let sender = delivery.properties.app_id().as_ref().map(|id| id.as_str());
            let pool = delivery.properties.message_id().as_ref().map(|id| id.as_str());
            if sender != Some(self.boot.as_str()) && pool == Some(self.name.as_str()) {
                session.role.heard();
            }
            return;
        }
        let beat = match Heartbeat::read(&delivery.body) {
            Ok(beat) => beat,
            Err(error) => {
                self.metrics.bad_beat();
                let worker = Heartbeat::claimed_id(&delivery.body).unwrap_or_default();
                if self.complaints.is_new(&format!("{error} {worker}")) {
                    warn!(%error, worker, "heartbeat not understood; said once");
                }
                return;
            }
        };
        if beat.pool != self.name {
            let is_known = self.settings.pools.iter().any(|pool| pool.name == beat.pool.as_str());
            let is_default = self.name == PoolName::default_pool();
            if is_default
                && !is_known
                && self.complaints.is_new(&format!("{} {}", beat.id, beat.pool))
            {
                warn!(worker = %beat.id, pool = %beat.pool, "a worker names a pool that is not configured; said once");
            }
            return;
        }
        self.trains.insert(beat.id.to_string(), beat.trains > 0);
        self.board.beat(&beat, now);
        events.push(Event::Beat(BeatFacts {
            id: beat.id,
            boot: beat.boot.into(),
            kinds: beat.kinds,
            slots: beat.slots,
            labels: beat.labels,
            weight: beat.weight,
            is_draining: beat.state == taskyard_common::wire::WorkerState::Draining,
            takes_trains: beat.trains > 0,
            holding: beat.holding.into_iter().map(|h| (h.id, h.attempt)).collect(),
        }));
    }
}
