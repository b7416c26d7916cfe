//! A worker of another make, by section 3 of the contract, moved by hand.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use futures_util::{StreamExt, future::select_all};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions,
        BasicQosOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use taskyard_tests::{EVENTUALLY, Yard, wait_until};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::mailbox::depth;

/// More often than the 2 s of the contract, so that tests wait less.
const BEAT: Duration = Duration::from_millis(400);

/// What a worker says of itself before it starts.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    id: String,
    pool: String,
    slots: u32,
    labels: Vec<String>,
    weight: u32,
    prefetch: u16,
}

impl Spec {
    pub(crate) fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    pub(crate) fn labels(mut self, labels: &[&str]) -> Self {
        self.labels = labels.iter().map(ToString::to_string).collect();
        self
    }

    pub(crate) fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Beats until the dispatcher has declared the queue, and consumes it. It takes tasks from then on:
    /// what lay in its queue while it tried would have come back after 2 s, a free attempt later.
    pub(crate) async fn start(self, yard: &Yard) -> anyhow::Result<Foreign> {
        let connection = connect(yard).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let holding = Arc::new(Mutex::new(Vec::new()));
        let beat = json!({
            "id": self.id, "boot": uuid::Uuid::new_v4().to_string(), "pool": self.pool, "kinds": ["#"],
            "slots": self.slots, "labels": self.labels, "weight": self.weight,
        });
        let (state, states) = watch::channel("draining");
        let beats = connection.create_channel().await?;
        let beating = tokio::spawn(keep_beating(beats, beat, holding.clone(), states));
        let (inbox, consumer) = wait_until("the worker's queue", EVENTUALLY, async || {
            // A 404 closes the channel, whose number may be given to the next one at once: a connection
            // for each attempt keeps them apart.
            let inbox = connect(yard).await?;
            let channel = inbox.create_channel().await?;
            let options = BasicQosOptions::default();
            channel.basic_qos(self.prefetch, options).await?;
            let queue = format!("taskyard.worker.{}", self.id);
            let consumer = channel
                .basic_consume(
                    queue.as_str().into(),
                    "".into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await?;
            Ok::<_, anyhow::Error>((inbox, consumer))
        })
        .await?;
        state.send_replace("up");
        yard_knows(yard, &self.id).await?;
        let (given, deliveries) = mpsc::unbounded_channel();
        let receiving = tokio::spawn(keep_receiving(consumer, given, holding.clone()));
        let tasks = [beating, receiving];
        Ok(Foreign {
            spec: self,
            channel,
            deliveries,
            holding,
            tasks,
            _connections: [connection, inbox],
        })
    }
}

async fn connect(yard: &Yard) -> anyhow::Result<Connection> {
    let url = yard.place().amqp_url();
    Ok(Connection::connect(url, ConnectionProperties::default()).await?)
}

/// What was received is held from then on, whether the test has looked at it or not.
async fn keep_receiving(
    mut consumer: Consumer,
    to: mpsc::UnboundedSender<Given>,
    holding: Arc<Mutex<Vec<String>>>,
) -> anyhow::Result<()> {
    while let Some(delivery) = consumer.next().await {
        let given = Given::read(delivery?)?;
        lock(&holding).push(given.name());
        to.send(given)?;
    }
    Ok(())
}

async fn yard_knows(yard: &Yard, id: &str) -> anyhow::Result<()> {
    wait_until(&format!("{id} in the list of workers"), EVENTUALLY, async || {
        let state = yard.worker_field(id, "state").await?;
        ensure!(state == "up", "{state:?}");
        anyhow::Ok(())
    })
    .await
}

async fn keep_beating(
    channel: Channel,
    mut beat: Value,
    holding: Arc<Mutex<Vec<String>>>,
    mut states: watch::Receiver<&'static str>,
) -> anyhow::Result<()> {
    loop {
        beat["state"] = json!(*states.borrow_and_update());
        beat["holding"] = json!(*lock(&holding));
        let body = beat.to_string();
        let publish = channel.basic_publish(
            "taskyard.heartbeats".into(),
            "".into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            BasicProperties::default(),
        );
        publish.await?;
        // A new state is told at once.
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            Ok(()) = states.changed() => {}
        }
    }
}

fn lock(holding: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    holding.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running worker.
#[derive(Debug)]
pub(crate) struct Foreign {
    spec: Spec,
    channel: Channel,
    deliveries: mpsc::UnboundedReceiver<Given>,
    holding: Arc<Mutex<Vec<String>>>,
    tasks: [JoinHandle<anyhow::Result<()>>; 2],
    _connections: [Connection; 2],
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A task that the worker was given.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) id: String,
    pub(crate) attempt: i64,
    pub(crate) delivery: Delivery,
}

impl Given {
    fn read(delivery: Delivery) -> anyhow::Result<Self> {
        let id = delivery.properties.message_id().as_ref().context("no message_id")?.to_string();
        let mut given = Self { id, attempt: 0, delivery };
        given.attempt = given.number("x-task-attempt")?;
        Ok(given)
    }

    /// As in a heartbeat.
    fn name(&self) -> String {
        format!("{}:{}", self.id, self.attempt)
    }

    /// A header as a number.
    pub(crate) fn number(&self, name: &str) -> anyhow::Result<i64> {
        match self.header(name) {
            Some(AMQPValue::LongLongInt(n)) => Ok(*n),
            Some(AMQPValue::LongInt(n)) => Ok((*n).into()),
            other => bail!("{name} is {other:?}"),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.delivery.properties.headers().as_ref()?.inner().get(name)
    }
}

impl Foreign {
    /// One slot, weight 1, all kinds of the default pool.
    pub(crate) fn of(id: &str) -> Spec {
        Spec {
            id: id.to_owned(),
            pool: "default".to_owned(),
            slots: 1,
            labels: Vec::new(),
            weight: 1,
            // Whatever was sent shows, also what should not have been.
            prefetch: 1_000,
        }
    }

    /// The next task that it is given.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Given> {
        let next = tokio::time::timeout(EVENTUALLY, self.deliveries.recv()).await;
        let who = &self.spec.id;
        next.with_context(|| format!("{who} was given nothing"))?.context("the consumer ended")
    }

    /// The next task that one of several is given, and whose number in the list.
    pub(crate) async fn next_of(workers: &mut [Self]) -> anyhow::Result<(usize, Given)> {
        let nexts = workers.iter_mut().map(|worker| Box::pin(worker.deliveries.recv()));
        let first = tokio::time::timeout(EVENTUALLY, select_all(nexts)).await;
        let (given, number, _) = first.context("none was given anything")?;
        Ok((number, given.context("the consumer ended")?))
    }

    /// How many it holds.
    pub(crate) fn holds(&self) -> usize {
        lock(&self.holding).len()
    }

    /// What lies in its queue undelivered.
    pub(crate) async fn queued(&self, yard: &Yard) -> anyhow::Result<u32> {
        depth(yard, &format!("taskyard.worker.{}", self.spec.id)).await
    }

    /// Reports the end, and acks when that is stored.
    pub(crate) async fn succeed(&self, given: Given, result: &[u8]) -> anyhow::Result<()> {
        self.report(&given, "succeeded", &[], result).await?;
        self.ack(given).await
    }

    /// Reports a failure, and lets RabbitMQ give the copy back.
    pub(crate) async fn fail(&self, given: Given, error: &str) -> anyhow::Result<()> {
        self.report(&given, "failed", &[("x-task-error", text(error))], b"").await?;
        self.nack(given).await
    }

    /// Publishes a report, confirmed.
    pub(crate) async fn report(
        &self,
        given: &Given,
        what: &str,
        more: &[(&str, AMQPValue)],
        body: &[u8],
    ) -> anyhow::Result<()> {
        let mut headers = FieldTable::default();
        headers.insert("x-task-attempt".into(), AMQPValue::LongLongInt(given.attempt));
        headers.insert("x-task-worker".into(), text(&self.spec.id));
        for (name, value) in more {
            headers.insert((*name).into(), value.clone());
        }
        let properties = BasicProperties::default()
            .with_type(what.into())
            .with_message_id(given.id.as_str().into())
            .with_delivery_mode(2)
            .with_headers(headers);
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let exchange = "taskyard.outcomes".into();
        let pool = self.spec.pool.as_str().into();
        let sent = self.channel.basic_publish(exchange, pool, options, body, properties).await?;
        let confirmation = sent.await?;
        ensure!(matches!(confirmation, Confirmation::Ack(None)), "{confirmation:?}");
        Ok(())
    }

    pub(crate) async fn ack(&self, given: Given) -> anyhow::Result<()> {
        given.delivery.acker.ack(BasicAckOptions::default()).await?;
        self.forget(&given);
        Ok(())
    }

    pub(crate) async fn nack(&self, given: Given) -> anyhow::Result<()> {
        let options = BasicNackOptions { requeue: false, ..Default::default() };
        given.delivery.acker.nack(options).await?;
        self.forget(&given);
        Ok(())
    }

    /// What the dispatcher tells it.
    pub(crate) async fn control(&self, yard: &Yard) -> anyhow::Result<Consumer> {
        let channel = yard.channel().await?;
        let private =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), private, FieldTable::default()).await?;
        let name = queue.name().as_str();
        channel
            .queue_bind(
                name.into(),
                "taskyard.control".into(),
                self.spec.id.as_str().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        Ok(channel.basic_consume(name.into(), "".into(), options, FieldTable::default()).await?)
    }

    fn forget(&self, given: &Given) {
        lock(&self.holding).retain(|held| *held != given.name());
    }
}

/// A text as a header.
pub(crate) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
