use super::{Candidate, Route};

/// Smooth weighted round robin, as nginx does it (commit 52327e0).
///
/// Each candidate's current weight grows by its weight; the largest is chosen and loses the sum of
/// all. Weights 5, 1, 1 give a a b a c a a: in proportion, and spread out. Who has no credit takes
/// no part, so a slow worker collects no claims that it would cash in at once. O(n) in the workers
/// that could take the task.
#[derive(Debug, Default)]
pub(super) struct Weighted {
    current: Vec<i64>,
}

impl Route for Weighted {
    fn choose(&mut self, candidates: &[Candidate<'_>]) -> usize {
        let last = candidates.last().map_or(0, |candidate| candidate.index);
        if self.current.len() <= last {
            self.current.resize(last + 1, 0);
        }
        let mut total = 0;
        let mut best = 0;
        for (position, candidate) in candidates.iter().enumerate() {
            total += i64::from(candidate.weight);
            self.current[candidate.index] += i64::from(candidate.weight);
            if self.current[candidate.index] > self.current[candidates[best].index] {
                best = position;
            }
        }
        self.current[candidates[best].index] -= total;
        best
    }

    fn forget(&mut self, index: usize) {
        if let Some(current) = self.current.get_mut(index) {
            *current = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(index: usize, weight: u32) -> Candidate<'static> {
        let id = Box::leak(Box::new(format!("w{index}").parse().unwrap()));
        Candidate { id, index, weight, slots: 1, used: 0 }
    }

    #[test]
    fn five_one_one_is_spread_out() {
        let all = [candidate(0, 5), candidate(1, 1), candidate(2, 1)];
        let mut route = Weighted::default();
        let chosen: String = (0..14).map(|_| ['a', 'b', 'c'][route.choose(&all)]).collect();
        assert_eq!(chosen, "aabacaaaabacaa");
    }

    #[test]
    fn who_takes_no_part_collects_no_claims() {
        let all = [candidate(0, 1), candidate(1, 1)];
        let mut route = Weighted::default();
        (0..100).for_each(|_| assert_eq!(route.choose(&all[..1]), 0));
        let chosen: Vec<_> = (0..4).map(|_| route.choose(&all)).collect();
        assert_eq!(chosen.iter().sum::<usize>(), 2);
    }
}
