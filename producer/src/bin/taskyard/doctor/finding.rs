use crate::output::Tone;

/// What a check says about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    /// What is so.
    pub(crate) what: String,
    /// The command or setting that mends it, or that shows what could not be seen.
    pub(crate) fix: Option<String>,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it should be, or a thing to know.
    Ok,
    /// It works, and somebody should look at it.
    Warning,
    /// A promise is broken, or will be.
    Problem,
    /// It could not be seen.
    Unknown,
}

impl Verdict {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
            Verdict::Unknown => "unknown",
        }
    }

    pub(crate) const fn tone(self) -> Tone {
        match self {
            Verdict::Ok => Tone::Good,
            Verdict::Warning => Tone::Odd,
            Verdict::Problem => Tone::Bad,
            Verdict::Unknown => Tone::Faint,
        }
    }
}

impl Finding {
    pub(crate) fn ok(what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, what: what.into(), fix: None }
    }

    pub(crate) fn warning(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, what: what.into(), fix: Some(fix.into()) }
    }

    pub(crate) fn problem(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Problem, what: what.into(), fix: Some(fix.into()) }
    }

    pub(crate) fn unknown(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unknown, what: what.into(), fix: Some(fix.into()) }
    }
}

/// What was found, or that all is well.
pub(crate) fn or_ok(findings: Vec<Finding>, all_is_well: impl Into<String>) -> Vec<Finding> {
    match findings.is_empty() {
        true => vec![Finding::ok(all_is_well)],
        false => findings,
    }
}
