//! What the program of a peer says when it is done.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::ensure;
use serde::Deserialize;

use crate::results::Measured;

/// A measurement of a peer: what it took, and what became of the tasks.
#[derive(Debug)]
pub(crate) struct Report {
    /// Of its packages.
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) measured: Measured,
    /// Tasks whose results were not there at the end.
    pub(crate) missing: usize,
    /// Tasks whose results were not what was sent.
    pub(crate) wrong: usize,
}

/// As `tests/peers/measure.py` writes it.
#[derive(Debug, Deserialize)]
struct Written {
    versions: BTreeMap<String, String>,
    missing: usize,
    wrong: usize,
    #[serde(flatten)]
    taken: Taken,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Taken {
    Throughput { tasks: usize, seconds: f64 },
    Latency { took_ms: Vec<f64> },
}

impl Report {
    /// Reads it.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let Written { versions, missing, wrong, taken } = serde_json::from_str(text)?;
        let measured = match taken {
            Taken::Throughput { tasks, seconds } => {
                let took = Duration::try_from_secs_f64(seconds)?;
                ensure!(tasks > 0 && !took.is_zero(), "too few tasks to measure anything");
                Measured::throughput(tasks, took)
            }
            Taken::Latency { took_ms } => {
                ensure!(!took_ms.is_empty(), "no task was measured");
                let took = took_ms.into_iter().map(|ms| Duration::try_from_secs_f64(ms / 1e3));
                Measured::latency(took.collect::<Result<_, _>>()?)
            }
        };
        Ok(Self { versions, measured, missing, wrong })
    }

    /// Whether every task came back as it was sent.
    pub(crate) fn is_whole(&self) -> bool {
        self.missing == 0 && self.wrong == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.measured.fmt(f)?;
        match self.is_whole() {
            true => Ok(()),
            false => write!(f, "  NOT COUNTED: {} missing, {} wrong", self.missing, self.wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughputs_and_latencies_are_read() -> anyhow::Result<()> {
        let text =
            r#"{"tasks":300,"seconds":1.5,"missing":0,"wrong":0,"versions":{"celery":"5.7.0"}}"#;
        let report = Report::parse(text)?;
        assert_eq!((report.measured.tasks, report.measured.main()), (300, 200.0));
        assert_eq!(report.versions["celery"], "5.7.0");
        assert!(report.is_whole());
        let text = r#"{"took_ms":[3.0,1.0,2.0],"missing":0,"wrong":0,"versions":{}}"#;
        assert_eq!(Report::parse(text)?.measured.main(), 2.0);
        Ok(())
    }

    #[test]
    fn losses_are_told() -> anyhow::Result<()> {
        let text = r#"{"tasks":300,"seconds":1.5,"missing":2,"wrong":1,"versions":{}}"#;
        let report = Report::parse(text)?;
        assert!(!report.is_whole());
        assert!(report.to_string().ends_with("2 missing, 1 wrong"), "{report}");
        Ok(())
    }

    #[test]
    fn reports_of_nothing_are_refused() {
        for taken in [
            r#""tasks":0,"seconds":1.5"#,
            r#""tasks":300,"seconds":0.0"#,
            r#""tasks":300,"seconds":-1.0"#,
            r#""took_ms":[]"#,
            r#""tasks":300"#,
        ] {
            let text = format!(r#"{{{taken},"missing":0,"wrong":0,"versions":{{}}}}"#);
            assert!(Report::parse(&text).is_err(), "{text}");
        }
    }
}
