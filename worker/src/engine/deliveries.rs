use std::collections::HashMap;
use taskyard_common::amqp::{Acks, Settled};

/// One thing to tell the broker about deliveries; the order matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settle {
    /// Ack these.
    Ack(Settled),
    /// Reject this one: the broker dead-letters it to the dispatcher.
    Reject(u64),
}

/// The unsettled deliveries of the present session: a train is settled when all its cars are.
///
/// **Invariant:** no tag outlives its session, because tags of different channels look alike; the
/// engine throws this away, and every tag that it knows, when the session is lost.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    acks: Acks,
    /// Cars that are not settled, for each delivery that has some.
    cars: HashMap<u64, usize>,
    /// What has to be said before the next acks.
    before: Vec<Settle>,
}

impl Deliveries {
    /// A delivery with this many cars has arrived.
    pub(crate) fn arrived(&mut self, tag: u64, cars: usize) {
        self.acks.delivered(tag);
        match cars {
            0 => self.acks.settle(tag),
            _ => drop(self.cars.insert(tag, cars)),
        }
    }

    /// A car of a delivery needs its delivery no more.
    pub(crate) fn settle(&mut self, tag: u64) {
        let Some(left) = self.cars.get_mut(&tag) else { return };
        *left -= 1;
        if *left == 0 {
            self.cars.remove(&tag);
            self.acks.settle(tag);
        }
    }

    /// A delivery is not wanted at all: the dispatcher gets it.
    pub(crate) fn reject(&mut self, tag: u64) {
        if self.cars.remove(&tag).is_none() {
            return;
        }
        // The broker closes the channel when a tag is settled twice, and a cumulative ack may end at
        // this one. So what was ready goes first, and this one leaves the books alone.
        self.flush();
        self.acks.settle(tag);
        drop(self.acks.take());
        self.before.push(Settle::Reject(tag));
    }

    /// What to tell the broker now.
    pub(crate) fn take(&mut self) -> Vec<Settle> {
        self.flush();
        std::mem::take(&mut self.before)
    }

    fn flush(&mut self) {
        let settled = self.acks.take();
        if settled != Settled::default() {
            self.before.push(Settle::Ack(settled));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up_to(tag: u64) -> Settle {
        Settle::Ack(Settled { up_to: Some(tag), single: vec![] })
    }

    #[test]
    fn a_train_is_acked_when_all_its_cars_are_settled() {
        let mut deliveries = Deliveries::default();
        deliveries.arrived(1, 3);
        deliveries.arrived(2, 1);
        deliveries.settle(1);
        deliveries.settle(2);
        let single = Settle::Ack(Settled { up_to: None, single: vec![2] });
        assert_eq!(deliveries.take(), [single]);
        deliveries.settle(1);
        assert_eq!(deliveries.take(), []);
        deliveries.settle(1);
        assert_eq!(deliveries.take(), [up_to(1)]);
        deliveries.settle(1);
        assert_eq!(deliveries.take(), []);
    }

    #[test]
    fn an_empty_train_is_acked_at_once() {
        let mut deliveries = Deliveries::default();
        deliveries.arrived(1, 0);
        assert_eq!(deliveries.take(), [up_to(1)]);
    }

    #[test]
    fn no_ack_ever_covers_a_rejected_delivery() {
        let mut deliveries = Deliveries::default();
        (1..=3).for_each(|tag| deliveries.arrived(tag, 1));
        deliveries.settle(1);
        deliveries.reject(2);
        deliveries.settle(3);
        deliveries.reject(3);
        assert_eq!(deliveries.take(), [up_to(1), Settle::Reject(2), up_to(3)]);
        assert_eq!(deliveries.take(), []);
    }
}
