//! What operators ask.

use crate::pool::Pool;
use crate::post::Parcel;
use crate::session::Session;
use serde_json::json;
use std::collections::HashMap;
use taskyard_common::amqp::{
    self, AmqpError, Channel, Connection, Delivery, Message, Properties, Publication, Publisher,
};
use taskyard_common::names::Names;
use taskyard_common::store::{Answer, Change, Expect, Keep, Op, Store, Value};
use taskyard_common::wire::train::{self, TrainWriter};
use taskyard_common::wire::{Command, CommandAnswer, Task, headers, read_copy};
use taskyard_model::{PoolName, State, TaskId, Transition, Wants};
use taskyard_scheduler::{Command as Order, CommandReply, Event};
use tokio::sync::mpsc;
use tracing::warn;

/// Dead letters that one command looks at; more are a matter for a loop.
const DEAD_MAX: u32 = 10_000;

/// Where an answer goes.
#[derive(Clone, Debug)]
struct Asker {
    reply_to: String,
    correlation_id: Option<String>,
}

/// Questions that wait for the scheduler, and what looking into queues needs.
pub(crate) struct Desk {
    connection: Connection,
    waiting: HashMap<u64, Asker>,
    next: u64,
}

impl Desk {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, waiting: HashMap::new(), next: 0 }
    }
}

impl Pool {
    pub(crate) fn command(
        &mut self,
        session: &mut Session,
        delivery: Delivery,
        events: &mut Vec<Event>,
    ) {
        let text = |p: &Option<amqp::ShortString>| p.as_ref().map(ToString::to_string);
        let Some(reply_to) =
            text(delivery.properties.reply_to()).filter(|queue| !self.names.owns(queue))
        else {
            return warn!("a command without reply_to of its own is not carried out");
        };
        let asker = Asker { reply_to, correlation_id: text(delivery.properties.correlation_id()) };
        let command = match serde_json::from_slice::<Command>(&delivery.body) {
            Ok(command) => command,
            Err(error) => {
                let answer = CommandAnswer::refused(format!("not a command: {error}"));
                return answer_to(&session.parcels, &asker, &answer);
            }
        };
        if let Command::Cancel { id } = command {
            session.desk.next += 1;
            let ask = session.desk.next;
            session.desk.waiting.insert(ask, asker);
            return events.push(Event::Commanded(Order::Cancel { ask, id }));
        }
        let clerk = Clerk {
            connection: session.desk.connection.clone(),
            publisher: session.publisher.clone(),
            store: self.store.clone(),
            names: self.names.clone(),
            pool: self.name.clone(),
        };
        let parcels = session.parcels.clone();
        tokio::spawn(async move {
            let answer = clerk.serve(command).await.unwrap_or_else(|error| {
                CommandAnswer::refused(format!("RabbitMQ: {error}; try again"))
            });
            answer_to(&parcels, &asker, &answer);
        });
    }

    pub(crate) fn answer_cancel(&self, session: &mut Session, ask: u64, reply: CommandReply) {
        let Some(asker) = session.desk.waiting.remove(&ask) else { return };
        let answer = match reply {
            CommandReply::Cancelled => CommandAnswer::done(json!({"state": "cancelled"})),
            CommandReply::Asked => CommandAnswer::done(json!({
                "state": "asked",
                "note": "a worker has it and is asked to end it",
            })),
            CommandReply::Final(state) => {
                let mut answer = CommandAnswer::refused(format!("it has ended already: {state}"));
                answer.details.insert("state".into(), state.as_str().into());
                answer
            }
            CommandReply::Unknown => {
                let mut answer = CommandAnswer::refused("no such task is known");
                answer.details.insert("unknown".into(), true.into());
                answer
            }
        };
        answer_to(&session.parcels, &asker, &answer);
    }
}

fn answer_to(parcels: &mpsc::UnboundedSender<Parcel>, asker: &Asker, answer: &CommandAnswer) {
    let mut properties = Properties::default().with_content_type("application/json".into());
    if let Some(id) = &asker.correlation_id {
        properties = properties.with_correlation_id(id.as_str().into());
    }
    let body = serde_json::to_vec(answer).expect("answers are plain data");
    let mut message = Message::to_queue(asker.reply_to.as_str(), properties, body.into());
    message.is_mandatory = false;
    // A closed channel means that the session is over: the asker asks again.
    let _ = parcels.send(Parcel { message, ops: Vec::new(), tells_returned: true });
}

/// Looks into the dead letters.
struct Clerk {
    connection: Connection,
    publisher: Publisher,
    store: Store,
    names: Names,
    pool: PoolName,
}

/// A dead letter that was taken out to be looked at.
struct Dead {
    tag: u64,
    task: Task,
    reason: String,
    error: String,
}

impl Clerk {
    async fn serve(&self, command: Command) -> Result<CommandAnswer, AmqpError> {
        // What is not acked on this channel goes back to its place when it closes.
        let channel = self.connection.channel().await?;
        let answer = match command {
            Command::Dead { limit } => self.list(&channel, limit.min(DEAD_MAX)).await,
            Command::DeadShow { id } => self.show(&channel, &id).await,
            Command::Replay { id: Some(id), .. } => self.replay(&channel, Some(&id)).await,
            Command::Replay { all: true, .. } => self.replay(&channel, None).await,
            Command::Replay { .. } => Ok(CommandAnswer::refused("say which: an id, or all")),
            Command::Cancel { .. } => unreachable!("the scheduler answers it"),
        };
        // It may be closed already, by an error: then everything went back as well.
        let _ = channel.close(200, "done".into()).await;
        answer
    }

    /// The next dead letter.
    async fn next(&self, channel: &Channel) -> Result<Option<Dead>, AmqpError> {
        while let Some(delivery) = amqp::get(channel, &self.names.dead()).await? {
            let text = |name: &str| {
                let table = delivery.properties.headers().as_ref()?;
                table.inner().get(name)?.as_long_string().map(ToString::to_string)
            };
            match read_copy(&delivery.properties) {
                Ok(head) => {
                    let (reason, error) = (text(headers::REASON), text(headers::ERROR));
                    return Ok(Some(Dead {
                        tag: delivery.tag,
                        task: Task { head: Box::new(head), payload: delivery.body },
                        reason: reason.unwrap_or_default(),
                        error: error.unwrap_or_default(),
                    }));
                }
                Err(error) => warn!(%error, "something else is among the dead letters"),
            }
        }
        Ok(None)
    }

    async fn list(&self, channel: &Channel, limit: u32) -> Result<CommandAnswer, AmqpError> {
        let mut rows = Vec::new();
        while rows.len() < limit as usize {
            let Some(dead) = self.next(channel).await? else { break };
            rows.push(row(&dead));
        }
        Ok(CommandAnswer::done(json!({ "dead": rows })))
    }

    async fn show(&self, channel: &Channel, id: &TaskId) -> Result<CommandAnswer, AmqpError> {
        for _ in 0..DEAD_MAX {
            let Some(dead) = self.next(channel).await? else { break };
            if dead.task.head.id == *id {
                let mut row = row(&dead);
                row["payload_base64"] = base64(&dead.task.payload).into();
                return Ok(CommandAnswer::done(json!({ "task": row })));
            }
        }
        Ok(not_dead(id))
    }

    async fn replay(
        &self,
        channel: &Channel,
        id: Option<&TaskId>,
    ) -> Result<CommandAnswer, AmqpError> {
        let mut replayed = 0_u32;
        for _ in 0..DEAD_MAX {
            let Some(dead) = self.next(channel).await? else { break };
            if id.is_some_and(|id| dead.task.head.id != *id) {
                continue;
            }
            let tag = dead.tag;
            if let Err(why) = self.put_back(dead).await {
                let mut answer = CommandAnswer::refused(why);
                answer.details.insert("replayed".into(), replayed.into());
                return Ok(answer);
            }
            amqp::ack(channel, tag, false).await?;
            replayed += 1;
            if id.is_some() {
                break;
            }
        }
        match (replayed, id) {
            (0, Some(id)) => Ok(not_dead(id)),
            _ => Ok(CommandAnswer::done(json!({ "replayed": replayed }))),
        }
    }

    /// The state first: a copy that came back before it would meet a final state and be dropped.
    async fn put_back(&self, dead: Dead) -> Result<(), String> {
        let mut task = dead.task;
        let mut change = Change::new(task.head.id.clone(), Transition::Replay, Some(State::Queued));
        change.expect = Expect::Any;
        change.keep = Keep::Forever;
        change.wants = Wants::Record;
        let empty =
            ["error", "error_kind", "finished_at", "owed", "cancel", "worker", "started_at"];
        change.fields = empty.into_iter().map(|name| (name, Value::EMPTY)).collect();
        change.fields.extend([("failures", 0_u32.into()), ("losses", 0_u32.into())]);
        let answers = self.store.run(&[Op::Change(change)]).await;
        let answers = answers.map_err(|error| format!("Redis: {error}; try again"))?;
        let attempt = match answers.into_iter().next() {
            Some(Answer::Applied(Some(record)) | Answer::Refused(Some(record))) => record.attempt,
            Some(Answer::Failed(error)) => return Err(format!("Redis: {error}")),
            // Forgotten meanwhile: the copy builds its record anew.
            _ => task.head.attempt,
        };
        task.head.attempt = attempt;
        task.head.failures = 0;
        task.head.losses = 0;
        task.head.is_suspect = false;
        task.head.rounds = 0;
        let mut train = TrainWriter::new();
        train.push(&task.head, &task.payload);
        let properties = Properties::default().with_content_type(train::TASKS.into());
        let queue = self.names.again_queue(&self.pool);
        match self.publisher.publish(Message::to_queue(queue, properties, train.finish())).await {
            Publication::Confirmed => Ok(()),
            _ => Err("RabbitMQ did not take the copy; try again".to_owned()),
        }
    }
}

fn row(dead: &Dead) -> serde_json::Value {
    let head = &dead.task.head;
    json!({
        "id": head.id.as_str(),
        "kind": head.kind.as_str(),
        "reason": dead.reason,
        "error": dead.error,
        "attempt": head.attempt,
        "failures": head.failures,
        "losses": head.losses,
        "submitted_at": head.accepted_at.map(taskyard_model::Timestamp::as_ms),
        "bytes": dead.task.payload.len(),
    })
}

fn not_dead(id: &TaskId) -> CommandAnswer {
    let mut answer = CommandAnswer::refused(format!("{id} is not among the dead letters"));
    answer.details.insert("unknown".into(), true.into());
    answer
}

/// Base64 with padding (RFC 4648), for payloads inside JSON.
fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
