//! Submissions that have been delivered and are not read yet.

use std::collections::VecDeque;
use taskyard_common::amqp::Delivery;
use taskyard_model::Timestamp;

/// Submitted tasks that one turn takes in; the last message may bring more. What workers report and
/// what Redis answers meanwhile waits for the turn's end: at ten times as many it waits 25 ms.
const TASKS_A_TURN: usize = 256;
/// Ops that Redis has not answered above which a turn takes in one message only: a pipeline's worth.
/// Without this limit, submissions that come faster than Redis writes (bulks do) make a queue of
/// accepts that the dispatches and results of what was taken in before stand in.
const WRITES_MAX: usize = 1_024;

/// Where submissions wait until the turn has room for them, as they came off the wire.
///
/// Intake never stalls: each turn takes in at least one message, and where nothing else is to be done,
/// one turn follows the other.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    waiting: VecDeque<(Timestamp, Box<Delivery>)>,
    bytes: usize,
    admitted: usize,
}

impl Gate {
    /// A submission has been delivered.
    pub(crate) fn delivered(&mut self, delivery: Box<Delivery>, now: Timestamp) {
        self.bytes += delivery.body.len();
        self.waiting.push_back((now, delivery));
    }

    /// A new turn begins.
    pub(crate) fn open(&mut self) {
        self.admitted = 0;
    }

    /// The next submission to be read in this turn, and when it was delivered; `under_way` is the
    /// number of ops that Redis has not answered.
    pub(crate) fn next(&mut self, under_way: usize) -> Option<(Timestamp, Box<Delivery>)> {
        if self.admitted > 0 && !self.has_room(under_way) {
            return None;
        }
        let (at, delivery) = self.waiting.pop_front()?;
        self.bytes -= delivery.body.len();
        Some((at, delivery))
    }

    /// So many tasks were in it.
    pub(crate) fn admitted(&mut self, tasks: usize) {
        self.admitted += tasks.max(1);
    }

    /// Whether the next turn need not wait for anything to arrive.
    pub(crate) fn is_pressing(&self, under_way: usize) -> bool {
        !self.waiting.is_empty() && under_way < WRITES_MAX
    }

    /// Bytes of the bodies that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn has_room(&self, under_way: usize) -> bool {
        self.admitted < TASKS_A_TURN && under_way + self.admitted < WRITES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use taskyard_common::amqp::Properties;

    fn gate_of(messages: u64) -> Gate {
        let mut gate = Gate::default();
        for tag in 1..=messages {
            let delivery = Delivery {
                tag,
                exchange: String::new(),
                routing_key: "echo".to_owned(),
                is_redelivered: false,
                properties: Properties::default(),
                body: Bytes::from_static(b"12345"),
            };
            gate.delivered(Box::new(delivery), Timestamp::from_ms(tag));
        }
        gate
    }

    /// Tags that one turn takes in when each message holds so many tasks.
    fn turn(gate: &mut Gate, tasks: usize, under_way: usize) -> Vec<u64> {
        gate.open();
        let mut tags = Vec::new();
        while let Some((at, delivery)) = gate.next(under_way) {
            assert_eq!(at, Timestamp::from_ms(delivery.tag));
            tags.push(delivery.tag);
            gate.admitted(tasks);
        }
        tags
    }

    #[test]
    fn a_turn_takes_so_many_tasks_and_the_rest_waits_in_order() {
        let mut gate = gate_of(10);
        assert_eq!(turn(&mut gate, 100, 0), [1, 2, 3]);
        assert!(gate.is_pressing(0));
        assert_eq!(turn(&mut gate, 1, 0), [4, 5, 6, 7, 8, 9, 10]);
        assert!(!gate.is_pressing(0));
        assert_eq!(gate.bytes(), 0);
    }

    #[test]
    fn a_turn_takes_one_message_however_busy_redis_is() {
        let mut gate = gate_of(3);
        assert_eq!(turn(&mut gate, 1_000, WRITES_MAX), [1]);
        assert_eq!(turn(&mut gate, 0, WRITES_MAX), [2]);
        assert_eq!(gate.bytes(), 5);
        assert!(!gate.is_pressing(WRITES_MAX), "an answer of Redis begins the next turn");
    }

    #[test]
    fn a_turn_leaves_room_for_answers() {
        let mut gate = gate_of(10);
        assert_eq!(turn(&mut gate, 10, WRITES_MAX - 25), [1, 2, 3]);
    }
}
