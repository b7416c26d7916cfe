use super::Key;
use std::collections::{HashMap, VecDeque};

/// What to do with a delivery of an attempt that is over here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its report is confirmed, or is the copy itself: ack.
    Ack,
    /// Its report is confirmed, and this delivery is the copy: nack, which hands it over.
    Nack,
    /// It was received, and its session was lost before it began: as good as new.
    Unstarted,
}

/// The latest attempts that are over here, so that what comes again is known.
///
/// What can come again is what was unacked when a session was lost: at most the prefetch times the
/// cars of a train, some 16,000. Within that bound nothing that matters is forgotten.
#[derive(Debug)]
pub(crate) struct Memory {
    fates: HashMap<Key, Fate>,
    order: VecDeque<Key>,
    limit: usize,
}

impl Memory {
    pub(crate) fn new(limit: usize) -> Self {
        Self { fates: HashMap::new(), order: VecDeque::new(), limit }
    }

    pub(crate) fn remember(&mut self, key: Key, fate: Fate) {
        if self.fates.insert(key.clone(), fate).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.fates.remove(&oldest);
        }
    }

    pub(crate) fn recall(&self, key: &Key) -> Option<Fate> {
        self.fates.get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(attempt: u32) -> Key {
        Key { id: "t".parse().unwrap(), attempt }
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut memory = Memory::new(2);
        memory.remember(key(1), Fate::Unstarted);
        memory.remember(key(2), Fate::Ack);
        memory.remember(key(1), Fate::Nack);
        assert_eq!(memory.recall(&key(1)), Some(Fate::Nack));
        memory.remember(key(3), Fate::Ack);
        assert_eq!(memory.recall(&key(1)), None);
        assert_eq!(memory.recall(&key(2)), Some(Fate::Ack));
        assert_eq!(memory.recall(&key(3)), Some(Fate::Ack));
    }
}
