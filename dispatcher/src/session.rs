//! One life of the connections, and what hangs on them.

use crate::beats::Listening;
use crate::cars::{Cars, Track};
use crate::commands::Desk;
use crate::consumers::consume;
use crate::gate::Gate;
use crate::outbox::Outbox;
use crate::pool::{Input, Pool};
use crate::post::{self, Parcel};
use crate::settings::PoolSettings;
use crate::token::Role;
use crate::writer::{self, Asked};
use std::collections::HashMap;
use taskyard_common::amqp::{
    self, AmqpError, Channel, Connection, ConsumeOptions, Delivery, Publisher, Settled, Topology,
};
use taskyard_common::names::Names;
use taskyard_model::{Pattern, PoolName, WorkerId};
use taskyard_scheduler::Reservoir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// Heartbeat of the connection that leads: a frozen leader is replaced after about twice as long.
const LEADER_HEARTBEAT_S: u16 = 5;
const PUBLISH_HEARTBEAT_S: u16 = 10;
/// Tokens that may be under way at once; one is the rule.
const TOKENS: u16 = 10;

/// One life of the connections; everything that hangs on them goes with them.
pub(crate) struct Session {
    pub(crate) consuming: Connection,
    pub(crate) publishing: Connection,
    pub(crate) publisher: Publisher,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    pub(crate) parcels: mpsc::UnboundedSender<Parcel>,
    pub(crate) asked: mpsc::UnboundedSender<Vec<Asked>>,
    pub(crate) declares: mpsc::UnboundedSender<WorkerId>,
    /// Queues that are being declared, and what waits for them: it would be returned.
    pub(crate) undeclared: HashMap<String, Vec<Parcel>>,
    pub(crate) acks: HashMap<Track, mpsc::UnboundedSender<Settled>>,
    pub(crate) channels: HashMap<Track, Channel>,
    pub(crate) filling: HashMap<Reservoir, (String, CancellationToken)>,
    pub(crate) submit: Option<(String, CancellationToken)>,
    pub(crate) leader_channel: Channel,
    pub(crate) role: Role,
    pub(crate) cars: Cars,
    pub(crate) gate: Gate,
    /// Ops that Redis has not answered.
    pub(crate) under_way: usize,
    pub(crate) outbox: Outbox,
    pub(crate) writes: Vec<Asked>,
    pub(crate) desk: Desk,
    pub(crate) parked_pass: Option<String>,
    pub(crate) generation: u64,
}

impl Pool {
    /// Opens the connections, declares everything, and listens as a standby.
    pub(crate) async fn connect(
        &mut self,
        inputs: mpsc::UnboundedSender<Input>,
    ) -> Result<Session, AmqpError> {
        let pool = self.name.clone();
        let name = |role: &str| format!("taskyard-dispatcher {pool} {role}");
        let consuming = Connection::open(&self.amqp, &name("consume"), LEADER_HEARTBEAT_S).await?;
        let publishing =
            Connection::open(&self.amqp, &name("publish"), PUBLISH_HEARTBEAT_S).await?;
        let setup = consuming.channel().await?;
        let pools = self.pools();
        let topology = Topology { names: &self.names, pool: &self.name, pools: &pools };
        topology.declare(&setup).await?;
        self.clear_the_way(&setup).await?;
        self.garbled = vec![consuming.garbled(), publishing.garbled()];
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
        let beats = Listening {
            amqp: self.amqp.clone(),
            name: name("beats"),
            exchange: self.names.heartbeats(),
            inputs: inputs.clone(),
        };
        beats.begin().await?;
        let never = CancellationToken::new();
        let leader_channel = consuming.channel().await?;
        let token = |delivery: Delivery| Input::Token(delivery.tag);
        let (queue, options) = (self.names.leader(&self.name), ConsumeOptions::prefetch(TOKENS));
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
            undeclared: HashMap::new(),
            acks: HashMap::new(),
            channels: HashMap::new(),
            filling: HashMap::new(),
            submit: None,
            leader_channel,
            role: Role::standby(),
            cars: Cars::default(),
            gate: Gate::default(),
            under_way: 0,
            outbox: Outbox::default(),
            writes: Vec::new(),
            desk,
            parked_pass: None,
            generation: 0,
        })
    }

    fn pools(&self) -> Vec<(PoolName, Vec<Pattern>)> {
        let read = |pool: &PoolSettings| {
            let kinds = pool.kinds.iter().filter_map(|kind| kind.parse().ok()).collect();
            Some((PoolName::new(&pool.name).ok()?, kinds))
        };
        self.settings.pools.iter().filter_map(read).collect()
    }
}

impl Session {
    /// A worker's queue is there: what waited for it may go.
    pub(crate) fn declared(&mut self, queue: &str) {
        for parcel in self.undeclared.remove(queue).into_iter().flatten() {
            // A closed channel means that the session is over: an input says so.
            let _ = self.parcels.send(parcel);
        }
    }

    /// Hands over what the turn has gathered.
    pub(crate) fn flush(&mut self) {
        // A closed channel means that the session is over: an input says so.
        if !self.writes.is_empty() {
            self.under_way += self.writes.len();
            let _ = self.asked.send(std::mem::take(&mut self.writes));
        }
        for parcel in self.outbox.take() {
            match self.undeclared.get_mut(&parcel.message.routing_key) {
                Some(waiting) => waiting.push(parcel),
                None => drop(self.parcels.send(parcel)),
            }
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
pub(crate) async fn ack_all(
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
    mut workers: mpsc::UnboundedReceiver<WorkerId>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    while let Some(worker) = workers.recv().await {
        if let Err(error) = amqp::declare_worker_queue(&channel, &names, &pool, &worker).await {
            error!(error = &error as &dyn std::error::Error, %worker, "the worker's queue cannot be declared");
            // The broker has closed the channel.
            let _ = inputs.send(Input::Failed("a worker's queue cannot be declared"));
            return;
        }
        if inputs.send(Input::Declared(worker)).is_err() {
            return;
        }
    }
}
