//! The table at the end, and the file.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use serde::Serialize;
use serde_json::json;

use crate::{
    Cli,
    results::{Measure, Measured, Round, median},
};

/// Roles in the order of a task's way.
pub(crate) const ROLES: [&str; 5] = ["bench", "broker", "dispatcher", "redis", "worker"];

/// What we want to reach.
const TARGETS: [Target; 4] = [
    Target { name: "single", at_least: Some(1.0), at_most: None },
    Target { name: "bulk", at_least: Some(2.5), at_most: None },
    Target { name: "idle_reply", at_least: None, at_most: Some(1.5) },
    Target { name: "idle_result", at_least: None, at_most: Some(1.5) },
];

#[derive(Debug, Clone, Copy, Serialize)]
struct Target {
    /// Of the ratio.
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
}

impl Target {
    fn is_met(&self, ratio: f64) -> bool {
        self.at_least.is_none_or(|least| ratio >= least)
            && self.at_most.is_none_or(|most| ratio <= most)
    }

    fn text(&self, ratio: f64) -> String {
        let wanted = match (self.at_least, self.at_most) {
            (Some(least), _) => format!(">= {least:.1}"),
            (_, Some(most)) => format!("<= {most:.1}"),
            _ => String::new(),
        };
        format!("{wanted} {}", if self.is_met(ratio) { "pass" } else { "MISS" })
    }
}

/// All rounds.
#[derive(Debug)]
pub(crate) struct Summary {
    settings: serde_json::Value,
    rounds: Vec<Round>,
}

impl Summary {
    pub(crate) fn new(cli: &Cli) -> Self {
        let settings = json!({
            "rounds": cli.rounds, "quick": cli.quick,
            "workers": cli.system.workers, "slots": cli.system.slots,
        });
        Self { settings, rounds: Vec::new() }
    }

    pub(crate) fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    fn medians(&self) -> Round {
        let measures = self.rounds.first().into_iter().flat_map(BTreeMap::keys).copied();
        let of = |measure| -> Vec<&Measured> {
            self.rounds.iter().filter_map(|round| round.get(&measure)).collect()
        };
        measures.map(|measure| (measure, Measured::median(&of(measure)))).collect()
    }

    fn ratio(&self, measure: Measure) -> Option<f64> {
        let limit = measure.limit()?;
        let in_round =
            |round: &Round| Some(round.get(&measure)?.main() / round.get(&limit)?.main());
        Some(median(self.rounds.iter().filter_map(in_round).collect())).filter(|r| !r.is_nan())
    }

    fn ratios(&self) -> BTreeMap<&'static str, f64> {
        let measures = self.medians().into_keys();
        measures.filter_map(|measure| Some((measure.name(), self.ratio(measure)?))).collect()
    }

    /// Prints medians, ratios and where the processors' time went.
    pub(crate) fn print(&self) {
        let ratios = self.ratios();
        println!("\nmedian of {} round(s); CPU in us a task", self.rounds.len());
        print!("{:<12} {:>16} {:>10} {:>6}  {:<12}", "", "", "p99", "ratio", "target");
        ROLES.iter().for_each(|role| print!(" {role:>10}"));
        println!(" {:>10}", "scripts");
        for (measure, measured) in self.medians() {
            let number = match measured.numbers.get("per_s") {
                Some(rate) => format!("{rate:.0} tasks/s"),
                None => format!("p50 {:.2} ms", measured.main()),
            };
            let tail = measured.numbers.get("p99_ms").map(|ms| format!("{ms:.2} ms"));
            let ratio = ratios.get(measure.name());
            let target = TARGETS.iter().find(|target| target.name == measure.name());
            let verdict = target.zip(ratio).map(|(target, ratio)| target.text(*ratio));
            print!(
                "{:<12} {number:>16} {:>10} {:>6}  {:<12}",
                measure.name(),
                tail.unwrap_or_default(),
                ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
                verdict.unwrap_or_default(),
            );
            let cpu = |role: &&str| measured.cpu_us.get(*role).copied().unwrap_or_default();
            ROLES.iter().for_each(|role| print!(" {:>10.1}", cpu(role)));
            println!(" {:>10.2}", measured.numbers.get("scripts").copied().unwrap_or_default());
        }
    }

    /// Writes the file (see the documentation of the program).
    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        let ratios = self.ratios();
        let targets: Vec<_> = TARGETS
            .iter()
            .filter_map(|target| {
                let mut entry = serde_json::to_value(target).ok()?;
                entry["is_met"] = target.is_met(*ratios.get(target.name)?).into();
                Some(entry)
            })
            .collect();
        let summary = json!({
            "settings": self.settings,
            "rounds": self.rounds,
            "median": self.medians(),
            "ratios": ratios,
            "targets": targets,
        });
        write(file, summary)
    }
}

/// Writes a file of results, with what each says of itself: when, which version, on how many cores.
pub(crate) fn write(file: &Path, mut results: serde_json::Value) -> anyhow::Result<()> {
    let taken_at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    results["schema"] = 1.into();
    results["taken_at"] = u64::try_from(taken_at)?.into();
    results["version"] = env!("CARGO_PKG_VERSION").into();
    results["cores"] = std::thread::available_parallelism()?.get().into();
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(&results)? + "\n";
    std::fs::write(file, text).with_context(|| file.display().to_string())
}
