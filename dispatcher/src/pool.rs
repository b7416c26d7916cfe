//! One pool: its scheduler, and the sessions in which this process serves it.

use crate::cars::{Cars, Track};
use crate::commands::Desk;
use crate::consumers::{consume, delivered};
use crate::intake::{From, Intake, marker};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::post::{self, Parcel};
use crate::settings::Settings;
use crate::token::{self, Duty, Role};
use crate::view::Board;
use crate::writer::{self, Asked};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use taskyard_common::amqp::{
    self, AmqpError, AmqpSettings, Channel, Connection, ConsumeOptions, Delivery, Publication,
    Publisher, Settled, Topology, jittered_wait, private_queue,
};
use taskyard_common::names::Names;
use taskyard_common::shutdown::Shutdown;
use taskyard_common::store::{self, Reader, Store};
use taskyard_common::wire::Heartbeat;
use taskyard_model::{PoolName, Timestamp};
use taskyard_scheduler::{BeatFacts, Event, OpId, Outcome, Reservoir, Scheduler};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// Heartbeat of the connection that leads: a frozen leader is replaced after about twice as long.
const LEADER_HEARTBEAT_S: u16 = 5;
const PUBLISH_HEARTBEAT_S: u16 = 10;
/// Messages of the backlog under way at once; each may carry 64 tasks.
const BACKLOG_PREFETCH: u16 = 32;
/// Unacked messages beyond what the window holds: those being written, published, acked.
const PREFETCH_SLACK: usize = 1_024;
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
    /// Redis has answered.
    Stored(Vec<(OpId, store::Answer, bool)>),
    /// The broker has answered.
    Posted(Vec<OpId>, Publication),
    /// Something for the scheduler that took a look-up first.
    Event(Event),
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
    pub(crate) board: Board,
    /// Which workers take trains.
    pub(crate) trains: HashMap<String, bool>,
    /// Tells this process's markers and beats from others'.
    pub(crate) boot: String,
}

/// One life of the connections; everything that hangs on them goes with them.
pub(crate) struct Session {
    pub(crate) consuming: Connection,
    pub(crate) publishing: Connection,
    pub(crate) publisher: Publisher,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    pub(crate) parcels: mpsc::UnboundedSender<Parcel>,
    pub(crate) asked: mpsc::UnboundedSender<Vec<Asked>>,
    pub(crate) declares: mpsc::UnboundedSender<taskyard_model::WorkerId>,
    pub(crate) acks: HashMap<Track, mpsc::UnboundedSender<Settled>>,
    pub(crate) channels: HashMap<Track, Channel>,
    pub(crate) filling: HashMap<Reservoir, (String, CancellationToken)>,
    pub(crate) submit: Option<(String, CancellationToken)>,
    pub(crate) leader_channel: Channel,
    pub(crate) role: Role,
    pub(crate) cars: Cars,
    pub(crate) outbox: Outbox,
    pub(crate) writes: Vec<Asked>,
    pub(crate) desk: Desk,
    pub(crate) parked_pass: Option<String>,
    pub(crate) generation: u64,
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
            tokio::select! {
                _ = received.recv_many(&mut batch, TURN_MAX) => {}
                () = tokio::time::sleep(wait) => {}
                () = session.consuming.lost() => break End::Failed("the connection was lost"),
                () = session.publishing.lost() => break End::Failed("the publishing connection was lost"),
                () = shutdown.drain.cancelled() => break End::Shutdown,
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

    async fn connect(&self, inputs: mpsc::UnboundedSender<Input>) -> Result<Session, AmqpError> {
        let name = |role: &str| format!("taskyard-dispatcher {} {role}", self.name);
        let consuming = Connection::open(&self.amqp, &name("consume"), LEADER_HEARTBEAT_S).await?;
        let publishing =
            Connection::open(&self.amqp, &name("publish"), PUBLISH_HEARTBEAT_S).await?;
        let setup = consuming.channel().await?;
        let kinds = self.kinds();
        let topology = Topology { names: &self.names, pool: &self.name, kinds: &kinds };
        topology.declare(&setup).await?;
        let publisher = Publisher::open(&publishing).await?;
        let (parcels, posted) = mpsc::unbounded_channel();
        tokio::spawn(post::run(publisher.clone(), posted, inputs.clone()));
        let (asked, to_ask) = mpsc::unbounded_channel();
        tokio::spawn(writer::run(self.store.clone(), to_ask, inputs.clone()));
        let (declares, to_declare) = mpsc::unbounded_channel();
        tokio::spawn(declare(
            setup,
            self.names.clone(),
            self.name.clone(),
            to_declare,
            inputs.clone(),
        ));
        let beats = consuming.channel().await?;
        let queue = private_queue(&beats, Some((&self.names.heartbeats(), ""))).await?;
        let beat = |delivery| Input::Beat(Box::new(delivery));
        let never = CancellationToken::new();
        consume(
            &beats,
            &queue,
            "beats",
            ConsumeOptions::no_ack(),
            inputs.clone(),
            beat,
            never.clone(),
        )
        .await?;
        let leader_channel = consuming.channel().await?;
        let token = |delivery: Delivery| Input::Token(delivery.tag);
        let (queue, options) = (self.names.leader(&self.name), ConsumeOptions::prefetch(10));
        consume(&leader_channel, &queue, "token", options, inputs.clone(), token, never).await?;
        let desk = Desk::new(publishing.clone());
        Ok(Session {
            consuming,
            publishing,
            publisher,
            inputs,
            parcels,
            asked,
            declares,
            acks: HashMap::new(),
            channels: HashMap::new(),
            filling: HashMap::new(),
            submit: None,
            leader_channel,
            role: Role::standby(),
            cars: Cars::default(),
            outbox: Outbox::default(),
            writes: Vec::new(),
            desk,
            parked_pass: None,
            generation: 0,
        })
    }

    fn kinds(&self) -> Vec<taskyard_model::Pattern> {
        let own = self.settings.pools.iter().filter(|pool| pool.name == self.name.as_str());
        own.flat_map(|pool| &pool.kinds).filter_map(|kind| kind.parse().ok()).collect()
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
            Input::Delivered(from, delivery) => {
                self.delivered(session, from, *delivery, now, events)
            }
            Input::Beat(delivery) => self.beat(session, &delivery, now, events),
            Input::Token(tag) => {
                if session.role.took(tag) {
                    self.lead(session, now).await?;
                }
            }
            Input::Command(delivery) => self.command(session, *delivery, events),
            Input::Stored(answers) => {
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
            Input::Event(event) => events.push(event),
            Input::Failed(why) => return Ok(Some(why)),
        }
        Ok(None)
    }

    fn delivered(
        &mut self,
        session: &mut Session,
        from: From,
        delivery: Delivery,
        now: Timestamp,
        events: &mut Vec<Event>,
    ) {
        let Some(id) = marker(&delivery) else {
            let intake = Intake::new(self.names.clone(), self.name.clone(), self.settings.clone());
            return intake.read(from, delivery, now, &mut session.cars, events);
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
                return debug!(%error, "heartbeat not understood");
            }
        };
        if beat.pool != self.name {
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

    /// Begins to lead: from here on this process consumes.
    async fn lead(&mut self, session: &mut Session, now: Timestamp) -> Result<(), AmqpError> {
        info!(pool = %self.name, "leading");
        let mut effects = Vec::new();
        self.scheduler.handle(now, Event::SessionBegan, &mut effects);
        for track in Track::ALL {
            let channel = session.consuming.channel().await?;
            let (acks, settled) = mpsc::unbounded_channel();
            tokio::spawn(ack_all(channel.clone(), settled, session.inputs.clone()));
            session.acks.insert(track, acks);
            session.channels.insert(track, channel);
        }
        let window = self.settings.window_tasks + PREFETCH_SLACK;
        let options = ConsumeOptions::prefetch(u16::try_from(window).unwrap_or(u16::MAX));
        for (from, queue) in [
            (From::Outcomes, self.names.outcomes_queue(&self.name)),
            (From::Again, self.names.again_queue(&self.name)),
        ] {
            let (channel, stop) = (&session.channels[&from.track()], CancellationToken::new());
            consume(
                channel,
                &queue,
                "lead",
                options,
                session.inputs.clone(),
                delivered(from),
                stop,
            )
            .await?;
        }
        self.read_submissions(session, true).await?;
        let commands = session.consuming.channel().await?;
        let command = |delivery| Input::Command(Box::new(delivery));
        let (queue, stop) = (self.names.commands_queue(&self.name), CancellationToken::new());
        let no_ack = ConsumeOptions::no_ack();
        consume(&commands, &queue, "commands", no_ack, session.inputs.clone(), command, stop)
            .await?;
        self.prove_dead_lettering(session).await?;
        self.read_books(session);
        self.carry(session, &mut effects).await?;
        self.say_leading(session);
        Ok(())
    }

    /// Begins or ceases to take in submissions.
    pub(crate) async fn read_submissions(
        &self,
        session: &mut Session,
        is_on: bool,
    ) -> Result<(), AmqpError> {
        let channel = session.channels[&Track::Submit].clone();
        if !is_on {
            let Some((tag, stop)) = session.submit.take() else { return Ok(()) };
            stop.cancel();
            return amqp::cancel(&channel, &tag).await;
        }
        session.generation += 1;
        let (tag, stop) = (format!("submit-{}", session.generation), CancellationToken::new());
        let window = self.settings.window_tasks + PREFETCH_SLACK;
        let options = ConsumeOptions::prefetch(u16::try_from(window).unwrap_or(u16::MAX));
        let queue = self.names.submit(&self.name);
        let inputs = session.inputs.clone();
        consume(&channel, &queue, &tag, options, inputs, delivered(From::Submit), stop.clone())
            .await?;
        session.submit = Some((tag, stop));
        Ok(())
    }

    /// Begins or ceases to read a part of the backlog.
    pub(crate) async fn fill(
        &self,
        session: &mut Session,
        from: Reservoir,
        is_on: bool,
    ) -> Result<(), AmqpError> {
        let channel = session.channels[&Track::Backlog].clone();
        if !is_on {
            let Some((tag, stop)) = session.filling.remove(&from) else { return Ok(()) };
            stop.cancel();
            return amqp::cancel(&channel, &tag).await;
        }
        let (queue, source) = match from {
            Reservoir::Lane(lane) => (self.names.lane(&self.name, lane), From::Lane(lane)),
            Reservoir::Parked => {
                self.begin_parked_pass(session);
                (self.names.parked(&self.name), From::Parked)
            }
        };
        session.generation += 1;
        let (tag, stop) = (format!("backlog-{}", session.generation), CancellationToken::new());
        let (options, inputs) =
            (ConsumeOptions::prefetch(BACKLOG_PREFETCH), session.inputs.clone());
        consume(&channel, &queue, &tag, options, inputs, delivered(source), stop.clone()).await?;
        session.filling.insert(from, (tag, stop));
        Ok(())
    }

    /// What has to be done now and then; whether this process may go on.
    async fn duties(&mut self, session: &mut Session, now: Timestamp) -> Result<bool, AmqpError> {
        match session.role.duty(Instant::now()) {
            Duty::Wait => {}
            Duty::StepDown => return Ok(false),
            Duty::Publish => token::publish(&session.publisher, &self.names, &self.name).await?,
            Duty::Refresh(tag) => {
                self.say_leading(session);
                let (publisher, channel) =
                    (session.publisher.clone(), session.leader_channel.clone());
                let refresh =
                    token::refresh(publisher, channel, self.names.clone(), self.name.clone(), tag);
                let inputs = session.inputs.clone();
                tokio::spawn(async move {
                    if refresh.await.is_err() {
                        // Nobody listens: the session is over already.
                        let _ = inputs.send(Input::Failed("the token could not be passed on"));
                    }
                });
            }
        }
        if session.role.is_leading() {
            self.watch_memory(session).await?;
        }
        self.metrics.observe(self.scheduler.gauges(), session.publishing.is_blocked());
        self.board.tick(&self.scheduler, session.role.is_leading(), now);
        Ok(true)
    }

    /// Payloads that are held are bounded in bytes: intake pauses above, and goes on below half.
    async fn watch_memory(&self, session: &mut Session) -> Result<(), AmqpError> {
        let (held, most) = (session.cars.bytes(), self.settings.window_bytes);
        match session.submit.is_some() {
            true if held > most.saturating_mul(2) => {
                warn!(held, "payloads held exceed the window: intake pauses");
                self.read_submissions(session, false).await
            }
            false if held < most => self.read_submissions(session, true).await,
            _ => Ok(()),
        }
    }
}

impl Session {
    /// Hands over what the turn has gathered.
    fn flush(&mut self) {
        // A closed channel means that the session is over: an input says so.
        if !self.writes.is_empty() {
            let _ = self.asked.send(std::mem::take(&mut self.writes));
        }
        for parcel in self.outbox.take() {
            let _ = self.parcels.send(parcel);
        }
        for (track, acks) in &self.acks {
            let settled = self.cars.take_acks(*track);
            if settled != Settled::default() {
                let _ = acks.send(settled);
            }
        }
    }
}

/// Tells the broker what is settled on one channel, in order.
async fn ack_all(
    channel: Channel,
    mut settled: mpsc::UnboundedReceiver<Settled>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    while let Some(Settled { up_to, single }) = settled.recv().await {
        let up_to = up_to.into_iter().map(|tag| (tag, true));
        for (tag, is_up_to) in up_to.chain(single.into_iter().map(|tag| (tag, false))) {
            if amqp::ack(&channel, tag, is_up_to).await.is_err() {
                // Nobody listens: the session is over already.
                let _ = inputs.send(Input::Failed("an ack could not be sent"));
                return;
            }
        }
    }
}

/// Declares workers' queues, one after the other.
async fn declare(
    channel: Channel,
    names: Names,
    pool: PoolName,
    mut workers: mpsc::UnboundedReceiver<taskyard_model::WorkerId>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    while let Some(worker) = workers.recv().await {
        if let Err(error) = amqp::declare_worker_queue(&channel, &names, &pool, &worker).await {
            error!(error = &error as &dyn std::error::Error, %worker, "the worker's queue cannot be declared");
            // The broker has closed the channel.
            let _ = inputs.send(Input::Failed("a worker's queue cannot be declared"));
            return;
        }
    }
}
