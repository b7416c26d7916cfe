use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;
use taskyard_common::amqp::{Address, AmqpSettings};
use taskyard_common::amqp::{
    Connection, ConsumeOptions, Consumer, Delivery, Headers, Message, Properties, Publisher,
    Topology, Value, private_queue,
};
use taskyard_common::names::Names;
use taskyard_common::wire::{CommandAnswer, Submission, read_bulk, read_submission, train};
use taskyard_model::{PoolName, TaskId};
use taskyard_tests::Place;

async fn connect(place: &Place) -> Connection {
    let address: Address = place.amqp_url().parse().unwrap();
    let settings = AmqpSettings { address, tls_ca: None };
    Connection::open(&settings, "stand-in", 10).await.unwrap()
}

fn names() -> Names {
    Names::new("taskyard")
}

/// Declares what a dispatcher declares.
pub(crate) async fn declare(place: &Place) {
    let connection = connect(place).await;
    let channel = connection.channel().await.unwrap();
    let topology = Topology { names: &names(), pool: &PoolName::default_pool(), pools: &[] };
    topology.declare(&channel).await.unwrap();
    connection.close().await;
}

/// Takes submissions as a dispatcher does, and remembers nothing.
pub(crate) struct StandIn {
    connection: Connection,
    submissions: Consumer,
    /// Messages taken so far.
    pub(crate) messages: usize,
}

impl StandIn {
    pub(crate) async fn start(place: &Place) -> Self {
        let connection = connect(place).await;
        let channel = connection.channel().await.unwrap();
        let queue = names().submit(&PoolName::default_pool());
        let options = ConsumeOptions::no_ack();
        let submissions = Consumer::start(&channel, &queue, "in", options).await.unwrap();
        Self { connection, submissions, messages: 0 }
    }

    async fn next(&mut self) -> Vec<(Submission, Bytes)> {
        let next = tokio::time::timeout(Duration::from_secs(60), self.submissions.next());
        let next = next.await.expect("a submission arrives within 60 s");
        self.messages += 1;
        let Delivery { properties, routing_key, body, .. } = next.unwrap().unwrap();
        let (names, now) = (names(), taskyard_common::now());
        let fresh = || unreachable!("our producer names all tasks");
        let is_bulk = properties.content_type().as_ref().is_some_and(|t| t.as_str() == train::BULK);
        if is_bulk {
            let tasks = read_bulk(&properties, &routing_key, &body, &names, now, fresh).unwrap();
            return tasks.into_iter().map(|(task, payload)| (task.unwrap(), payload)).collect();
        }
        let task = read_submission(&properties, &routing_key, body.len(), &names, now, fresh);
        vec![(task.unwrap(), body)]
    }

    /// Takes at least so many tasks.
    pub(crate) async fn take(&mut self, at_least: usize) -> Vec<(TaskId, Bytes)> {
        let mut tasks = Vec::new();
        while tasks.len() < at_least {
            let next = self.next().await;
            tasks.extend(next.into_iter().map(|(task, payload)| (task.head.id, payload)));
        }
        tasks
    }

    /// Takes so many tasks and replies at once: `fail` has failed, everything else succeeded.
    pub(crate) async fn answer(&mut self, tasks: usize) -> BTreeSet<TaskId> {
        let publisher = Publisher::open(&self.connection).await.unwrap();
        let mut answered = BTreeSet::new();
        for _ in 0..tasks {
            for (task, payload) in self.next().await {
                let head = task.head;
                let has_failed = head.kind.as_str() == "fail";
                let mut table = Headers::default();
                table.insert("x-task-attempt".into(), Value::LongLongInt(1));
                if has_failed {
                    table.insert("x-task-error".into(), Value::LongString(payload.to_vec().into()));
                }
                let properties = Properties::default()
                    .with_message_id(head.id.as_str().into())
                    .with_type(if has_failed { "failed" } else { "succeeded" }.into())
                    .with_headers(table);
                let body = if has_failed { Bytes::new() } else { payload };
                let queue = head.reply_to.expect("somebody waits");
                publisher.publish(Message::to_queue(queue, properties, body)).await;
                answered.insert(head.id);
            }
        }
        answered
    }
}

/// Answers the next command with all of these, in order.
pub(crate) async fn answer_commands(place: &Place, answers: Vec<CommandAnswer>) {
    let connection = connect(place).await;
    let channel = connection.channel().await.unwrap();
    let queue = private_queue(&channel, Some((&names().commands(), ""))).await.unwrap();
    let mut commands =
        Consumer::start(&channel, &queue, "commands", ConsumeOptions::no_ack()).await.unwrap();
    let publisher = Publisher::open(&connection).await.unwrap();
    tokio::spawn(async move {
        let command = commands.next().await.unwrap().unwrap();
        let reply_to = command.properties.reply_to().as_ref().unwrap().to_string();
        let correlation = command.properties.correlation_id().clone().unwrap();
        for answer in answers {
            let properties = Properties::default().with_correlation_id(correlation.clone());
            let body = serde_json::to_vec(&answer).unwrap().into();
            publisher.publish(Message::to_queue(reply_to.as_str(), properties, body)).await;
        }
        connection.close().await;
    });
}
