//! What leaves in one turn, coupled into trains.

use crate::post::Parcel;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use taskyard_common::amqp::{Message, Properties};
use taskyard_common::wire::train::{self, TrainWriter};
use taskyard_scheduler::OpId;

/// Where a train goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    /// How long it may lie there untouched.
    pub(crate) lie: Option<Duration>,
    /// Whether a missing queue is for the scheduler to judge.
    pub(crate) tells_returned: bool,
}

impl Line {
    /// Straight to a queue of ours.
    pub(crate) fn to_queue(queue: String) -> Self {
        Self { exchange: String::new(), routing_key: queue, lie: None, tells_returned: false }
    }
}

/// Trains being coupled, by line; nothing waits for one to fill beyond the turn.
#[derive(Default)]
pub(crate) struct Outbox {
    open: BTreeMap<Line, (TrainWriter, Vec<OpId>, Option<Bytes>)>,
    ready: Vec<Parcel>,
    posts: Vec<Parcel>,
}

impl Outbox {
    /// Adds a copy to the train of its line; `copy` is a train of one car.
    pub(crate) fn couple(&mut self, line: Line, op: OpId, copy: Bytes, may_share: bool) {
        if !may_share {
            return self.ready.push(parcel(line, copy, vec![op]));
        }
        let (train, ops, only) = self.open.entry(line.clone()).or_default();
        if train.has_room_for(copy.len()) {
            train.couple(&copy, 1);
            // A train of one is the copy itself: no need to build it again.
            *only = ops.is_empty().then_some(copy);
            return ops.push(op);
        }
        let (train, ops) = (std::mem::take(train), std::mem::take(ops));
        self.ready.push(parcel(line.clone(), train.finish(), ops));
        let (train, ops, only) = self.open.entry(line).or_default();
        train.couple(&copy, 1);
        *only = Some(copy);
        ops.push(op);
    }

    /// Adds a message that is no train.
    pub(crate) fn post(&mut self, parcel: Parcel) {
        self.posts.push(parcel);
    }

    /// Everything that leaves. Trains come first: a marker that says how far a queue was read must
    /// not overtake what was put there before it was asked for.
    pub(crate) fn take(&mut self) -> Vec<Parcel> {
        for (line, (train, ops, only)) in std::mem::take(&mut self.open) {
            let body = only.filter(|_| ops.len() == 1).unwrap_or_else(|| train.finish());
            self.ready.push(parcel(line, body, ops));
        }
        self.ready.append(&mut self.posts);
        std::mem::take(&mut self.ready)
    }
}

fn parcel(line: Line, body: Bytes, ops: Vec<OpId>) -> Parcel {
    let Line { exchange, routing_key, lie, tells_returned } = line;
    let mut properties = Properties::default().with_content_type(train::TASKS.into());
    if let Some(lie) = lie {
        properties = properties.with_expiration(lie.as_millis().to_string().into());
    }
    let message = Message::to_exchange(exchange, routing_key, properties, body);
    Parcel { message, ops, tells_returned }
}
