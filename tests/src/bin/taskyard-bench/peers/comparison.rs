//! The table at the end, and the file.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::Serialize;
use serde_json::json;

use super::{Options, peer::Peer, report::Report};
use crate::{
    results::{Measure, Measured, Round, median},
    summary,
};

const TASKYARD: &str = "taskyard";

/// The measures that are compared, and what they say.
const COMPARED: [(Measure, &str); 4] = [
    (Measure::Single, "a task a call, first submit to last result"),
    (Measure::Bulk, "100 tasks a call, first submit to last result"),
    (Measure::Drain, "a backlog, first result to last"),
    (Measure::IdleResult, "one task at a time, submit to result"),
];

/// All rounds of all systems.
#[derive(Debug)]
pub(crate) struct Comparison {
    settings: serde_json::Value,
    rounds: Vec<BTreeMap<&'static str, Round>>,
    versions: BTreeMap<&'static str, BTreeMap<String, String>>,
    losses: Vec<Loss>,
}

/// A measurement that does not count.
#[derive(Debug, Serialize)]
struct Loss {
    /// From 1.
    round: usize,
    system: &'static str,
    measure: &'static str,
    tasks: usize,
    missing: usize,
    wrong: usize,
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Row {
    system: &'static str,
    #[serde(flatten)]
    measured: Measured,
    to_taskyard: Option<f64>,
    to_relay: Option<f64>,
}

impl Comparison {
    pub(crate) fn new(options: &Options) -> Self {
        let sizes = options.sizes();
        let settings = json!({
            "rounds": options.rounds(), "quick": options.quick, "tasks": sizes.single,
            "idle_tasks": sizes.idle, "workers": options.system.workers,
            "slots": options.system.slots,
        });
        let (rounds, versions, losses) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { settings, rounds, versions, losses }
    }

    /// Begins a round with what was measured of Taskyard and the relay.
    pub(crate) fn begin_round(&mut self, taskyard: Round) {
        self.rounds.push([(TASKYARD, taskyard)].into());
    }

    /// Adds to the round that was begun last.
    pub(crate) fn add(&mut self, peer: Peer, measure: Measure, report: Report) {
        let system = peer.name();
        self.versions.insert(system, report.versions);
        if report.missing + report.wrong > 0 {
            self.losses.push(Loss {
                round: self.rounds.len(),
                system,
                measure: measure.name(),
                tasks: report.measured.tasks,
                missing: report.missing,
                wrong: report.wrong,
            });
        } else if let Some(round) = self.rounds.last_mut() {
            round.entry(system).or_default().insert(measure, report.measured);
        }
    }

    /// A line for everybody who has the measure: the relay, Taskyard, the others in their order.
    fn rows(&self, measure: Measure) -> Vec<Row> {
        let limit = measure.limit().unwrap_or(measure);
        let peers = Peer::ALL.iter().map(|peer| (peer.name(), peer.name(), measure));
        let all = [("relay", TASKYARD, limit), (TASKYARD, TASKYARD, measure)];
        let row = |(system, key, of)| {
            let measured = self.median(key, of)?;
            let to_taskyard = self.ratio((key, of), (TASKYARD, measure));
            let to_relay = self.ratio((key, of), (TASKYARD, limit));
            Some(Row { system, measured, to_taskyard, to_relay })
        };
        all.into_iter().chain(peers).filter_map(row).collect()
    }

    fn median(&self, system: &str, measure: Measure) -> Option<Measured> {
        let all: Vec<&Measured> =
            self.rounds.iter().filter_map(|round| round.get(system)?.get(&measure)).collect();
        (!all.is_empty()).then(|| Measured::median(&all))
    }

    /// The median of the ratios of the rounds that have both.
    fn ratio(&self, of: (&str, Measure), to: (&str, Measure)) -> Option<f64> {
        let main = |round: &BTreeMap<&str, Round>, (system, measure): (&str, Measure)| {
            Some(round.get(system)?.get(&measure)?.main())
        };
        let in_round = |round| Some(main(round, of)? / main(round, to)?);
        let ratios: Vec<f64> = self.rounds.iter().filter_map(in_round).collect();
        Some(median(ratios)).filter(|ratio| ratio.is_finite())
    }

    /// Prints medians, ratios and losses.
    pub(crate) fn print(&self) {
        println!("\nmedian of {} round(s); ratios are taken within a round", self.rounds.len());
        for (measure, what) in COMPARED {
            let unit = if measure == Measure::IdleResult { "p50 ms" } else { "tasks/s" };
            let tail = if measure == Measure::IdleResult { "p99 ms" } else { "" };
            println!("\n{} ({what})", measure.name());
            println!("  {:<10} {unit:>9} {tail:>9} {:>12} {:>9}", "", "to taskyard", "to relay");
            self.rows(measure).iter().for_each(|row| println!("  {row}"));
        }
        println!();
        for (system, versions) in &self.versions {
            let versions = versions.iter().map(|(package, version)| format!("{package} {version}"));
            println!("{system:<10} {}", versions.collect::<Vec<_>>().join(", "));
        }
        self.losses.iter().for_each(|loss| println!("\nNOT COUNTED: {loss}"));
    }

    /// Writes the file (see the documentation of the module).
    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let table: BTreeMap<&str, Vec<Row>> =
            COMPARED.iter().map(|(measure, _)| (measure.name(), self.rows(*measure))).collect();
        let results = json!({
            "settings": self.settings,
            "versions": self.versions,
            "rounds": self.rounds,
            "table": table,
            "losses": self.losses,
        });
        summary::write(file, results)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let main = match self.measured.numbers.get("per_s") {
            Some(rate) => format!("{rate:.0}"),
            None => format!("{:.2}", self.measured.main()),
        };
        let tail = self.measured.numbers.get("p99_ms").map(|ms| format!("{ms:.2}"));
        let tail = tail.unwrap_or_default();
        // A slow one is a hundredth of the relay: two decimals would say nothing of it.
        let ratio =
            |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |r| format!("{r:.3}"));
        let (to_taskyard, to_relay) = (ratio(self.to_taskyard), ratio(self.to_relay));
        write!(f, "{:<10} {main:>9} {tail:>9} {to_taskyard:>12} {to_relay:>9}", self.system)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, system, measure, tasks, missing, wrong } = self;
        write!(
            f,
            "{system} {measure} in round {round}: of {tasks} tasks {missing} results missing, {wrong} wrong"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rate(tasks: usize) -> Measured {
        Measured::throughput(tasks, Duration::from_secs(1))
    }

    fn report(tasks: usize, missing: usize) -> Report {
        Report { versions: BTreeMap::new(), measured: rate(tasks), missing, wrong: 0 }
    }

    fn comparison() -> Comparison {
        Comparison {
            settings: json!({}),
            rounds: Vec::new(),
            versions: BTreeMap::new(),
            losses: Vec::new(),
        }
    }

    fn ours(relay: usize, single: usize) -> Round {
        [(Measure::RawTwo, rate(relay)), (Measure::Single, rate(single))].into()
    }

    #[test]
    fn ratios_are_taken_within_their_round() {
        let mut comparison = comparison();
        // The machine is ten times slower in the last round; who is compared suffers alike.
        for (relay, single, celery) in [(2_000, 1_000, 100), (2_000, 1_000, 50), (200, 100, 20)] {
            comparison.begin_round(ours(relay, single));
            comparison.add(Peer::Celery, Measure::Single, report(celery, 0));
        }
        let rows = comparison.rows(Measure::Single);
        let systems: Vec<_> = rows.iter().map(|row| row.system).collect();
        assert_eq!(systems, ["relay", "taskyard", "celery"]);
        let [relay, taskyard, celery] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((relay.to_taskyard, relay.to_relay), (Some(2.0), Some(1.0)));
        assert_eq!((taskyard.to_taskyard, taskyard.to_relay), (Some(1.0), Some(0.5)));
        assert_eq!(celery.measured.main(), 50.0);
        assert_eq!((celery.to_taskyard, celery.to_relay), (Some(0.1), Some(0.05)));
    }

    #[test]
    fn a_round_with_losses_is_reported_and_not_counted() {
        let mut comparison = comparison();
        comparison.begin_round(ours(2_000, 1_000));
        comparison.add(Peer::Bullmq, Measure::Single, report(500, 1));
        assert_eq!(comparison.rows(Measure::Single).len(), 2);
        comparison.begin_round(ours(2_000, 1_000));
        comparison.add(Peer::Bullmq, Measure::Single, report(300, 0));
        let rows = comparison.rows(Measure::Single);
        assert_eq!((rows[2].system, rows[2].to_taskyard), ("bullmq", Some(0.3)));
        let [loss] = &comparison.losses[..] else { panic!("{:?}", comparison.losses) };
        assert!(
            loss.to_string().starts_with("bullmq single in round 1: of 500 tasks 1 "),
            "{loss}"
        );
    }

    #[test]
    fn who_cannot_do_a_measure_has_no_line() {
        let mut comparison = comparison();
        comparison.begin_round(ours(2_000, 1_000));
        comparison.add(Peer::Celery, Measure::Single, report(10, 0));
        assert!(comparison.rows(Measure::Drain).iter().all(|row| row.system == "relay"));
    }
}
