use crate::doctor::{Check, Finding};
use serde::Serialize;

/// What a check has found: `doctor`.
#[derive(Serialize)]
pub(crate) struct Found<'a> {
    check: &'a str,
    verdict: &'a str,
    what: &'a str,
    why: &'a str,
    fix: Option<&'a str>,
}

impl<'a> Found<'a> {
    pub(crate) fn new(check: &Check, finding: &'a Finding) -> Self {
        let Finding { verdict, what, fix } = finding;
        let verdict = verdict.as_str();
        Self { check: check.name, verdict, what, why: check.why, fix: fix.as_deref() }
    }
}

/// A check: `doctor --list`.
#[derive(Serialize)]
pub(crate) struct Listed {
    check: &'static str,
    looks_at: &'static str,
    why: &'static str,
    mend: &'static str,
}

impl From<&Check> for Listed {
    fn from(check: &Check) -> Self {
        let Check { name, looks_at, why, mend, .. } = check;
        Self { check: name, looks_at, why, mend }
    }
}
