use super::{Candidate, Route};

/// The worker with the smallest share of its slots taken; among equals, each in turn.
#[derive(Debug, Default)]
pub(super) struct LeastLoaded {
    last: usize,
}

impl Route for LeastLoaded {
    fn choose(&mut self, candidates: &[Candidate<'_>]) -> usize {
        // used/slots compared without division; later than the last chosen goes first.
        let is_less = |a: &Candidate<'_>, b: &Candidate<'_>| {
            let (a_load, b_load) =
                (u64::from(a.used) * u64::from(b.slots), u64::from(b.used) * u64::from(a.slots));
            let turn = |c: &Candidate<'_>| (c.index <= self.last, c.index);
            (a_load, turn(a)) < (b_load, turn(b))
        };
        let mut best = 0;
        for position in 1..candidates.len() {
            if is_less(&candidates[position], &candidates[best]) {
                best = position;
            }
        }
        self.last = candidates[best].index;
        best
    }

    fn forget(&mut self, _index: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(index: usize, slots: u32, used: u32) -> Candidate<'static> {
        let id = Box::leak(Box::new(format!("w{index}").parse().unwrap()));
        Candidate { id, index, weight: 1, slots, used }
    }

    #[test]
    fn the_least_share_of_slots_wins() {
        let mut route = LeastLoaded::default();
        assert_eq!(route.choose(&[candidate(0, 4, 2), candidate(1, 8, 3), candidate(2, 2, 1)]), 1);
    }

    #[test]
    fn equals_take_turns() {
        let mut route = LeastLoaded::default();
        let all = [candidate(0, 1, 0), candidate(1, 1, 0), candidate(2, 1, 0)];
        let chosen: Vec<_> = (0..6).map(|_| route.choose(&all)).collect();
        assert_eq!(chosen, [1, 2, 0, 1, 2, 0]);
    }
}
