//! What programs say of an attempt while it runs.

use serde::Deserialize;
use taskyard_worker::Context;

/// One thing said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// How far it is.
    Progress {
        /// 0 to 100.
        percent: u8,
        /// A line for people; may be empty.
        note: String,
    },
    /// A line of its log.
    Log(String),
}

/// How it looks in JSON: `{"progress": 40, "note": "reading"}` or `{"log": "line"}`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Words {
    progress: Option<f64>,
    #[serde(default)]
    note: String,
    log: Option<String>,
}

impl Words {
    /// What they say; `None` where that is nothing, or two things at once.
    pub(crate) fn said(self) -> Option<Said> {
        match (self.progress, self.log) {
            (Some(percent), None) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it is between 0 and 100"
                )]
                let percent = percent.clamp(0.0, 100.0) as u8;
                Some(Said::Progress { percent, note: self.note })
            }
            (None, Some(line)) => Some(Said::Log(line)),
            _ => None,
        }
    }
}

impl Said {
    /// Reads a line.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Words>(line).ok()?.said()
    }

    /// Hands it to the worker.
    pub(crate) fn pass_on(self, ctx: &Context) {
        match self {
            Self::Progress { percent, note } => ctx.progress(percent, note),
            Self::Log(line) => ctx.log(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_and_lines_are_read() {
        let progress = |percent, note: &str| Some(Said::Progress { percent, note: note.into() });
        assert_eq!(Said::read(br#"{"progress":40,"note":"half"}"#), progress(40, "half"));
        assert_eq!(Said::read(br#"{"progress":12.7}"#), progress(12, ""));
        assert_eq!(Said::read(br#"{"progress":-1}"#), progress(0, ""));
        assert_eq!(Said::read(br#"{"progress":1e9,"new":1}"#), progress(100, ""));
        assert_eq!(Said::read(br#"{"log":"a line"}"#), Some(Said::Log("a line".into())));
    }

    #[test]
    fn what_says_nothing_or_two_things_is_not_read() {
        for line in ["", "x", "{}", "40", r#"{"note":"a"}"#, r#"{"progress":1,"log":"a"}"#] {
            assert_eq!(Said::read(line.as_bytes()), None, "{line}");
        }
    }
}
