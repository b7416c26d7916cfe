use super::checks::*;
use super::facts::Facts;
use super::finding::Finding;

/// What a check finds in the facts: pure judgement.
pub(crate) type Judge = fn(&Facts) -> Vec<Finding>;

/// One thing that may be wrong, and why that matters.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    /// What it is about.
    pub(crate) looks_at: &'static str,
    /// Why it matters.
    pub(crate) why: &'static str,
    /// What mends it, in general; a finding says it for the case at hand.
    pub(crate) mend: &'static str,
    pub(crate) judge: Judge,
}

/// All checks, in the order in which one would look: docs/doctor.md is made of this table.
pub(crate) const CHECKS: &[Check] = &[
    rabbitmq_reach::CHECK,
    rabbitmq_version::CHECK,
    rabbitmq_cluster::CHECK,
    rabbitmq_alarms::CHECK,
    rabbitmq_message_size::CHECK,
    rabbitmq_consumer_timeout::CHECK,
    rabbitmq_user::CHECK,
    queues::CHECK,
    policies::CHECK,
    bindings::CHECK,
    redis_reach::CHECK,
    redis_version::CHECK,
    redis_role::CHECK,
    redis_memory::CHECK,
    redis_persistence::CHECK,
    redis_hashes::CHECK,
    redis_user::CHECK,
    clocks::CHECK,
    dispatchers::CHECK,
    workers::CHECK,
    waiting::CHECK,
    dead_letters::CHECK,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy;
    use crate::doctor::finding::Verdict;

    #[test]
    fn a_healthy_yard_has_no_findings_but_good_ones() {
        let facts = healthy::facts();
        for check in CHECKS {
            let findings = (check.judge)(&facts);
            assert!(!findings.is_empty(), "{} says nothing", check.name);
            for finding in findings {
                assert_eq!(finding.verdict, Verdict::Ok, "{}: {finding:?}", check.name);
            }
        }
    }

    #[test]
    fn what_is_out_of_reach_is_said_once() {
        let mut facts = healthy::facts();
        facts.broker = Err("no route".into());
        facts.redis = Some(Err("no route".into()));
        facts.answer = None;
        facts.management = Err("no route".into());
        facts.environment = None;
        let problems = CHECKS.iter().flat_map(|check| {
            let findings = (check.judge)(&facts).into_iter();
            findings.filter(|f| f.verdict == Verdict::Problem).map(|_| check.name)
        });
        assert_eq!(problems.collect::<Vec<_>>(), ["rabbitmq-reach", "redis-reach"]);
    }

    #[test]
    fn names_are_of_one_form_and_unique() {
        let mut names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        assert!(names.iter().all(|n| n.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CHECKS.len());
    }
}
