use std::collections::BTreeSet;

/// What to tell the broker to settle what has been settled here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Ack everything up to this tag.
    pub up_to: Option<u64>,
    /// Ack these one by one.
    pub single: Vec<u64>,
}

/// Which deliveries of one channel are unsettled, so that many acks become one.
///
/// Where everything up to a tag is settled, one cumulative ack says so; what is settled out of order
/// is acked alone, so that a task that waits long does not keep the broker from forgetting those
/// behind it. A tag is never acked twice: the broker would close the channel.
///
/// **Invariant:** no ack covers a delivery that has not arrived here. The broker numbers a channel's
/// deliveries without gaps, but where several consumers share it, each has a task of its own that
/// passes them on, and a later number may come first.
#[derive(Debug, Default)]
pub struct Acks {
    unsettled: BTreeSet<u64>,
    ready: BTreeSet<u64>,
    /// Every tag up to this one has arrived.
    arrived_up_to: u64,
    /// Those beyond it that have.
    arrived_early: BTreeSet<u64>,
}

impl Acks {
    /// A delivery has arrived.
    pub fn delivered(&mut self, tag: u64) {
        self.unsettled.insert(tag);
        self.arrived_early.insert(tag);
        while self.arrived_early.remove(&(self.arrived_up_to + 1)) {
            self.arrived_up_to += 1;
        }
    }

    /// A delivery may be acked.
    pub fn settle(&mut self, tag: u64) {
        if self.unsettled.remove(&tag) {
            self.ready.insert(tag);
        }
    }

    /// How many deliveries wait to be settled.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    /// Takes what can be acked now.
    pub fn take(&mut self) -> Settled {
        let ready = std::mem::take(&mut self.ready);
        let oldest_missing = self.arrived_up_to + 1;
        let bound = self.unsettled.first().map_or(oldest_missing, |&tag| tag.min(oldest_missing));
        let up_to = ready.range(..bound).next_back().copied();
        Settled { up_to, single: ready.range(bound..).copied().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_are_cumulative_where_the_order_allows() {
        let mut acks = Acks::default();
        (1..=6).for_each(|tag| acks.delivered(tag));
        [2, 1, 4].iter().for_each(|&tag| acks.settle(tag));
        assert_eq!(acks.take(), Settled { up_to: Some(2), single: vec![4] });
        assert_eq!(acks.take(), Settled::default());
        [3, 5].iter().for_each(|&tag| acks.settle(tag));
        assert_eq!(acks.take(), Settled { up_to: Some(5), single: vec![] });
        acks.settle(5);
        acks.settle(99);
        assert_eq!(acks.take(), Settled::default());
        acks.settle(6);
        assert_eq!(acks.take(), Settled { up_to: Some(6), single: vec![] });
        assert_eq!(acks.unsettled(), 0);
    }

    #[test]
    fn no_ack_covers_what_has_not_arrived() {
        let mut acks = Acks::default();
        [1, 3, 4].iter().for_each(|&tag| acks.delivered(tag));
        [1, 3].iter().for_each(|&tag| acks.settle(tag));
        assert_eq!(acks.take(), Settled { up_to: Some(1), single: vec![3] });
        acks.delivered(2);
        acks.settle(4);
        assert_eq!(acks.take(), Settled { up_to: None, single: vec![4] });
        acks.settle(2);
        assert_eq!(acks.take(), Settled { up_to: Some(2), single: vec![] });
    }
}
