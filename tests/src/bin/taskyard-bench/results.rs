//! What was measured.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

/// What can be measured; its name in the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Measure {
    /// The raw limit of throughput
    RawTwo,
    /// A message a task
    Single,
    /// 100 tasks a message
    Bulk,
    /// A backlog
    Drain,
    /// The raw limit of latency
    RawThree,
    /// Until the reply is there
    IdleReply,
    /// Until the result is in Redis
    IdleResult,
}

impl Measure {
    /// Its name in the summary.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RawTwo => "raw_two",
            Self::Single => "single",
            Self::Bulk => "bulk",
            Self::Drain => "drain",
            Self::RawThree => "raw_three",
            Self::IdleReply => "idle_reply",
            Self::IdleResult => "idle_result",
        }
    }

    /// What its ratio refers to.
    pub(crate) fn limit(self) -> Option<Self> {
        match self {
            Self::RawTwo | Self::RawThree => None,
            Self::Single | Self::Bulk | Self::Drain => Some(Self::RawTwo),
            Self::IdleReply | Self::IdleResult => Some(Self::RawThree),
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Measured {
    /// Tasks of which it was taken.
    pub(crate) tasks: usize,
    /// `seconds` and `per_s`, or `p50_ms` and `p99_ms`.
    #[serde(flatten)]
    pub(crate) numbers: BTreeMap<String, f64>,
    /// Processor time a task in microseconds, by role.
    pub(crate) cpu_us: BTreeMap<String, f64>,
}

impl Measured {
    /// So many tasks in that time.
    pub(crate) fn throughput(tasks: usize, took: Duration) -> Self {
        let seconds = took.as_secs_f64();
        let numbers = [("seconds", seconds), ("per_s", tasks as f64 / seconds)];
        Self::of(tasks, numbers)
    }

    /// Tasks one by one that took so long each.
    pub(crate) fn latency(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let at = |share: f64| {
            let rank = (took.len().saturating_sub(1) as f64 * share).round();
            took.get(rank as usize).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
        };
        let numbers = [("p50_ms", at(0.5)), ("p99_ms", at(0.99))];
        Self::of(took.len(), numbers)
    }

    /// The same in another time.
    pub(crate) fn in_time(mut self, took: Duration) -> Self {
        self.numbers.extend(Self::throughput(self.tasks, took).numbers);
        self
    }

    fn of(tasks: usize, numbers: [(&str, f64); 2]) -> Self {
        let numbers = numbers.map(|(name, value)| (name.to_owned(), value));
        Self { tasks, numbers: numbers.into(), cpu_us: BTreeMap::new() }
    }

    /// The number that counts: `per_s` or `p50_ms`.
    pub(crate) fn main(&self) -> f64 {
        let main = self.numbers.get("per_s").or_else(|| self.numbers.get("p50_ms"));
        main.copied().unwrap_or(f64::NAN)
    }

    /// The median of each number over several.
    pub(crate) fn median(all: &[&Self]) -> Self {
        let Some(first) = all.first() else { return Self::default() };
        let each = |of: fn(&Self) -> &BTreeMap<String, f64>| {
            let value = |name: &String| {
                median(all.iter().filter_map(|one| of(one).get(name)).copied().collect())
            };
            of(first).keys().map(|name| (name.clone(), value(name))).collect()
        };
        Self { tasks: first.tasks, numbers: each(|m| &m.numbers), cpu_us: each(|m| &m.cpu_us) }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self.numbers.iter().map(|(name, value)| format!("{name} {value:.2}"));
        f.write_str(&numbers.collect::<Vec<_>>().join("  "))
    }
}

/// One round: every measure once, the raw one for throughput twice (their mean counts).
pub(crate) type Round = BTreeMap<Measure, Measured>;

/// The mean of two of the same size.
pub(crate) fn mean(a: &Measured, b: &Measured) -> Measured {
    // Of two values the median is the mean.
    Measured::median(&[a, b])
}

/// The median; of an even count the mean of the middle two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match (values.len() % 2, values.get(half)) {
        (1, Some(middle)) => *middle,
        (_, Some(upper)) => f64::midpoint(values[half - 1], *upper),
        (_, None) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_middles() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn latencies_become_percentiles() {
        let took = (1..=101).rev().map(Duration::from_millis).collect();
        let measured = Measured::latency(took);
        assert_eq!((measured.numbers["p50_ms"], measured.numbers["p99_ms"]), (51.0, 100.0));
        assert_eq!(measured.main(), 51.0);
    }
}
