use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, or_ok};

pub(crate) const CHECK: Check = Check {
    name: "redis-memory",
    looks_at: "`maxmemory-policy` (noeviction), and how full its memory is",
    why: "a Redis that throws keys away forgets tasks, which then run again; a full one refuses new \
          tasks until records expire",
    mend: "`redis-cli CONFIG SET maxmemory-policy noeviction`; more memory, or a shorter `x-task-keep`",
    judge,
};

/// Percent of the limit from which on somebody should look, and from which on it is late.
const WARNING_PERCENT: u64 = 80;
const PROBLEM_PERCENT: u64 = 95;

fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(redis) = facts.redis() else { return Vec::new() };
    let survey = &redis.survey;
    let (Some(limit), Some(policy)) = (survey.number("maxmemory"), survey.text("maxmemory_policy"))
    else {
        return vec![Finding::unknown(
            "the memory limit is not to be seen: INFO and CONFIG GET are forbidden",
            "ACL SETUSER USER +info, or redis-cli CONFIG GET 'maxmemory*' with another user",
        )];
    };
    let mut findings = Vec::new();
    let fix = "redis-cli CONFIG SET maxmemory-policy noeviction (and in redis.conf)";
    match (policy, limit) {
        ("noeviction", _) => {}
        (_, 0) => findings.push(Finding::warning(
            format!("maxmemory-policy is {policy}; it throws keys away once maxmemory is set"),
            fix,
        )),
        _ => findings.push(Finding::problem(
            format!("maxmemory-policy is {policy}: keys are thrown away at {limit} bytes"),
            fix,
        )),
    }
    // Without a limit it is the machine's memory that ends.
    let limit = if limit > 0 { Some(limit) } else { survey.number("total_system_memory") };
    let used = survey.number("used_memory").unwrap_or(0);
    let percent = limit.filter(|&limit| limit > 0).map(|limit| used.saturating_mul(100) / limit);
    let what = format!("{used} bytes are used, {} percent", percent.unwrap_or(0));
    let fix =
        "redis-cli CONFIG SET maxmemory to more, or remember tasks for less long (x-task-keep)";
    match percent {
        Some(PROBLEM_PERCENT..) => findings.push(Finding::problem(what.clone(), fix)),
        Some(WARNING_PERCENT..) => findings.push(Finding::warning(what.clone(), fix)),
        _ => {}
    }
    or_ok(findings, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    #[test]
    fn evicting_policies_are_a_problem_where_there_is_a_limit() {
        let found = judged(judge, |facts| facts.set_redis("maxmemory_policy", Some("allkeys-lru")));
        assert_eq!(found[0].0, Verdict::Problem);
        let found = judged(judge, |facts| {
            facts.set_redis("maxmemory_policy", Some("allkeys-lru"));
            facts.set_redis("maxmemory", Some("0"));
        });
        assert_eq!(found[0].0, Verdict::Warning);
    }

    #[test]
    fn fullness_is_judged_against_the_limit_or_the_machine() {
        let table = [
            ("1000000", None, "700000", Verdict::Ok),
            ("1000000", None, "850000", Verdict::Warning),
            ("1000000", None, "960000", Verdict::Problem),
            ("0", Some("1000000"), "850000", Verdict::Warning),
            ("0", None, "850000", Verdict::Ok),
        ];
        for (limit, machine, used, expected) in table {
            let found = judged(judge, |facts| {
                facts.set_redis("maxmemory", Some(limit));
                facts.set_redis("total_system_memory", machine);
                facts.set_redis("used_memory", Some(used));
            });
            assert_eq!(found[0].0, expected, "{limit} {used}");
        }
    }

    #[test]
    fn what_is_forbidden_is_unknown() {
        let found = judged(judge, |facts| facts.set_redis("maxmemory_policy", None));
        assert_eq!(found[0].0, Verdict::Unknown);
    }
}
