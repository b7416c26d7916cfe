//! Ridding queues of messages that lapin cannot read.
//!
//! AMQP's short strings are bytes by the letter, and RabbitMQ passes on whatever a client writes.
//! lapin insists on UTF-8, and drops the whole connection over one message; the message goes back to
//! its queue, and kills the next connection. So after a connection that ended that way somebody who
//! takes messages for bytes has to look through the queues first: a client of the few methods that
//! takes, with the codec that lapin itself uses as the judge of what lapin can read.

mod link;
mod remains;

use self::link::{Frame, Link};
use self::remains::Remains;
use super::AmqpSettings;
use crate::wire::headers;
use amq_protocol::protocol::basic::{AMQPMethod, AMQPProperties, Ack, Get};
use amq_protocol::types::{AMQPValue, FieldTable};
use amq_protocol::uri::AMQPUri;
use bytes::{Buf, Bytes, BytesMut};

/// Questions under way at once. More would gain little and could hold as many bodies.
const GETS: u32 = 8;

/// A queue to look through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Its name.
    pub queue: String,
    /// How many messages to look at, from its head: as many as a consumer gets at once. What it did
    /// not get it has not died of.
    pub messages_max: u32,
    /// Where the remains of a message go: the body, with properties that can be read.
    pub remains_to: String,
}

/// A message that was taken out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The queue it was in.
    pub queue: String,
    /// What was wrong with it.
    pub fault: String,
}

/// Why queues could not be looked through: try again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RescueError {
    /// The connection failed.
    #[error("the connection for a rescue failed")]
    Io(#[source] std::io::Error),
    /// The broker ended it.
    #[error("the broker closed the connection for a rescue")]
    Closed,
    /// The broker refused something, in its words.
    #[error("the broker refused a rescue: {0}")]
    Refused(String),
    /// The broker said something else.
    #[error("the broker did not say {0}")]
    Unexpected(&'static str),
    /// Bytes that are no AMQP.
    #[error("the broker sent what is no AMQP")]
    Broken,
}

/// Looks through queues and replaces what lapin cannot read by what is left of it.
///
/// A message leaves its queue only when its remains are confirmed; whatever can be read stays in its
/// place (and counts as redelivered). The remains carry `x-task-unreadable`, `x-task-reason` and
/// `x-task-error`, and of the old properties those by which a submitter knows its task.
///
/// # Errors
/// Try again: nothing is lost.
pub async fn rescue(
    settings: &AmqpSettings,
    suspects: &[Suspect],
) -> Result<Vec<Unreadable>, RescueError> {
    super::super::tls::install_crypto_provider();
    let mut link = open(settings).await?;
    let mut found = Vec::new();
    for suspect in suspects {
        look_through(&mut link, suspect, &mut found).await?;
    }
    Ok(found)
}

/// A connection to the first host that answers.
pub(super) async fn open(settings: &AmqpSettings) -> Result<Link, RescueError> {
    let mut last = RescueError::Closed;
    for uri in settings.address.uris(0) {
        let uri: AMQPUri = uri.parse().map_err(RescueError::Refused)?;
        match Link::open(&uri, settings).await {
            Ok(link) => return Ok(link),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A message as bytes.
struct Letter {
    tag: u64,
    routing_key: Bytes,
    header: Bytes,
    body: Bytes,
}

async fn look_through(
    link: &mut Link,
    suspect: &Suspect,
    found: &mut Vec<Unreadable>,
) -> Result<(), RescueError> {
    link.open_channel().await?;
    let mut left = suspect.messages_max;
    let mut is_empty = false;
    while left > 0 && !is_empty {
        let gets = left.min(GETS);
        for _ in 0..gets {
            let queue = suspect.queue.as_str().into();
            link.ask(AMQPMethod::Get(Get { queue, no_ack: false }))?;
        }
        let mut unreadable = Vec::new();
        for _ in 0..gets {
            match next(link).await? {
                Got::Nothing => is_empty = true,
                Got::Readable => {}
                Got::Unreadable(letter) => unreadable.push(letter),
            }
        }
        for letter in unreadable {
            let fault = replace(link, suspect, &letter).await?;
            found.push(Unreadable { queue: suspect.queue.clone(), fault });
        }
        left -= gets;
    }
    link.close_channel().await
}

enum Got {
    Nothing,
    Readable,
    Unreadable(Letter),
}

/// The answer to one question.
async fn next(link: &mut Link) -> Result<Got, RescueError> {
    let (mut arguments, is_key_readable) = match link.receive().await? {
        Frame::Method { class: 60, method: 71, arguments, is_readable } => (arguments, is_readable),
        Frame::Method { class: 60, method: 72, .. } => return Ok(Got::Nothing),
        _ => return Err(RescueError::Unexpected("basic.get-ok")),
    };
    // Delivery tag, redelivered, exchange, routing key.
    let is_long_enough = arguments.len() > 9;
    let tag = if is_long_enough { arguments.get_u64() } else { return Err(RescueError::Broken) };
    arguments.advance(1);
    let exchange = short(&mut arguments)?;
    drop(exchange);
    let routing_key = short(&mut arguments)?;
    let Frame::Header { payload: header, is_readable } = link.receive().await? else {
        return Err(RescueError::Unexpected("a message's properties"));
    };
    let is_readable = is_readable && is_key_readable;
    let size = header.get(4..12).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    let size = size.ok_or(RescueError::Broken)?;
    let (mut received, mut body) = (0, BytesMut::new());
    while received < size {
        let Frame::Body(part) = link.receive().await? else {
            return Err(RescueError::Unexpected("a message's body"));
        };
        received += part.len() as u64;
        if !is_readable {
            body.extend_from_slice(&part);
        }
    }
    Ok(match is_readable {
        true => Got::Readable,
        false => Got::Unreadable(Letter { tag, routing_key, header, body: body.freeze() }),
    })
}

fn short(rest: &mut Bytes) -> Result<Bytes, RescueError> {
    let length = usize::from(*rest.first().ok_or(RescueError::Broken)?);
    rest.advance(1);
    match rest.len() >= length {
        true => Ok(rest.split_to(length)),
        false => Err(RescueError::Broken),
    }
}

/// Publishes the remains, waits until they are stored, then acks the message; what was wrong.
async fn replace(
    link: &mut Link,
    suspect: &Suspect,
    letter: &Letter,
) -> Result<String, RescueError> {
    let remains = Remains::of(&letter.routing_key, &letter.header);
    let fault = format!("the message cannot be read: {}", remains.fault);
    link.publish(&suspect.remains_to, properties(&remains, &fault), &letter.body)?;
    match link.receive().await? {
        Frame::Method { class: 60, method: 80, .. } => {}
        // Returned (no such queue) or refused for now.
        _ => return Err(RescueError::Unexpected("basic.ack")),
    }
    link.ask(AMQPMethod::Ack(Ack { delivery_tag: letter.tag, multiple: false }))?;
    Ok(fault)
}

fn properties(remains: &Remains, fault: &str) -> AMQPProperties {
    let mut table = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    table.insert(headers::REASON.into(), text("rejected"));
    table.insert(headers::ERROR.into(), text(fault));
    table.insert(headers::UNREADABLE.into(), text(fault));
    let mut properties = AMQPProperties::default().with_delivery_mode(2).with_headers(table);
    macro_rules! carry {
        ($($field:ident => $with:ident),+) => {
            $(if let Some(value) = &remains.$field { properties = properties.$with(value.as_str().into()); })+
        };
    }
    carry!(
        message_id => with_message_id, kind => with_type,
        reply_to => with_reply_to, correlation_id => with_correlation_id
    );
    properties
}
