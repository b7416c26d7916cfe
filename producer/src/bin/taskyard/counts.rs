use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use taskyard_model::{State, Timestamp};

/// How far back rates look. The dispatcher writes its counts once a second, in one go: over a shorter
/// time a steady flow would look like a saw.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// The names of what is counted since the beginning besides final states.
const ACCEPTED: &str = "accepted";

/// A pool's counts and gauges by name, as its dispatcher wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<String, i64>);

impl From<BTreeMap<String, i64>> for Counts {
    fn from(counts: BTreeMap<String, i64>) -> Self {
        Self(counts)
    }
}

impl Counts {
    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, &count)| (name.as_str(), count))
    }

    /// Whether nothing was counted yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of them, if it is there.
    pub(crate) fn named(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(|&count| u64::try_from(count).ok())
    }

    /// Tasks taken in since the beginning.
    pub(crate) fn accepted(&self) -> Option<u64> {
        self.named(ACCEPTED)
    }

    /// Tasks that ended in this state since the beginning.
    pub(crate) fn ended(&self, state: State) -> u64 {
        self.named(state.as_str()).unwrap_or(0)
    }

    /// Tasks that ended since the beginning.
    pub(crate) fn finished(&self) -> u64 {
        let finals = State::ALL.iter().filter(|state| state.is_final());
        finals.map(|&state| self.ended(state)).sum()
    }
}

/// How many a second; nothing where it cannot be told (yet).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) accepted: Option<f64>,
    pub(crate) finished: Option<f64>,
    pub(crate) succeeded: Option<f64>,
    pub(crate) failed: Option<f64>,
}

/// Looks at a pool's counts now and then, and tells how fast they grow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    /// The oldest first; one of them may lie before the window, so that the window is filled.
    looks: VecDeque<(Timestamp, Counts)>,
}

impl Meter {
    /// Takes a look. Counts that shrink were lost with Redis' data: what was seen before says nothing.
    pub(crate) fn look(&mut self, at: Timestamp, counts: Counts) {
        let shrinks = |(_, before): &(Timestamp, Counts)| {
            before.finished() > counts.finished() || before.accepted() > counts.accepted()
        };
        if self.looks.back().is_some_and(shrinks) {
            self.looks.clear();
        }
        self.looks.push_back((at, counts));
        while self.looks.get(1).is_some_and(|(second, _)| at.since(*second) >= RATE_WINDOW) {
            self.looks.pop_front();
        }
    }

    /// The last look.
    pub(crate) fn counts(&self) -> Option<&Counts> {
        self.looks.back().map(|(_, counts)| counts)
    }

    /// The means of the last seconds.
    pub(crate) fn rates(&self) -> Rates {
        let (Some((from, before)), Some((to, after))) = (self.looks.front(), self.looks.back())
        else {
            return Rates::default();
        };
        let seconds = to.since(*from).as_secs_f64();
        if seconds == 0.0 {
            return Rates::default();
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of tasks stay below 2^52")]
        let rate = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let ended = |state| Some(rate(before.ended(state), after.ended(state)));
        Rates {
            accepted: before.accepted().zip(after.accepted()).map(|(b, a)| rate(b, a)),
            finished: Some(rate(before.finished(), after.finished())),
            succeeded: ended(State::Succeeded),
            failed: ended(State::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(accepted: i64, succeeded: i64, failed: i64) -> Counts {
        let named = [("accepted", accepted), ("succeeded", succeeded), ("failed", failed)];
        Counts(named.map(|(name, count)| (name.to_owned(), count)).into())
    }

    fn at(s: u64) -> Timestamp {
        Timestamp::from_ms(s * 1_000)
    }

    #[test]
    fn rates_are_the_means_of_the_last_seconds() {
        let mut meter = Meter::default();
        assert_eq!(meter.rates(), Rates::default());
        meter.look(at(100), counts(0, 0, 0));
        assert_eq!(meter.rates(), Rates::default(), "one look tells nothing");
        // What comes in bursts of 2 s is as fast as what comes each second.
        for s in 1..=20 {
            meter.look(at(100 + s), counts(20 * (s as i64 / 2), 10 * s as i64, s as i64));
        }
        let rates = meter.rates();
        assert_eq!((rates.succeeded, rates.failed), (Some(10.0), Some(1.0)));
        assert_eq!(rates.finished, Some(11.0));
        let accepted = rates.accepted.unwrap();
        assert!((8.0..=12.0).contains(&accepted), "{accepted}");
        assert_eq!(meter.looks.len(), 6);
    }

    #[test]
    fn looks_far_apart_make_a_rate_all_the_same() {
        let mut meter = Meter::default();
        meter.look(at(0), counts(0, 0, 0));
        meter.look(at(60), counts(60, 120, 0));
        assert_eq!(meter.rates().succeeded, Some(2.0));
    }

    #[test]
    fn counts_that_were_lost_begin_anew() {
        let mut meter = Meter::default();
        meter.look(at(0), counts(1_000, 900, 0));
        meter.look(at(1), counts(3, 2, 0));
        assert_eq!(meter.rates(), Rates::default());
        meter.look(at(2), counts(5, 4, 0));
        assert_eq!(meter.rates().succeeded, Some(2.0));
    }
}
