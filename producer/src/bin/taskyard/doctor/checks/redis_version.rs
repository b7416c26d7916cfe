use super::version_numbers;
use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;

pub(crate) const CHECK: Check = Check {
    name: "redis-version",
    looks_at: "the version of Redis (7.0 or newer) or Valkey",
    why: "scripts with flags came with 7.0: without them a full Redis stops a change half-way",
    mend: "upgrade to Redis 7.0 or newer, or Valkey",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(redis) = facts.redis() else { return Vec::new() };
    let Some(version) = redis.survey.text("redis_version") else {
        return vec![Finding::unknown(
            "the version is not to be seen: INFO is forbidden",
            "ACL SETUSER USER +info, or redis-cli INFO server with another user",
        )];
    };
    // Valkey calls itself Redis 7.2 for those who ask, and tells its own number besides.
    let what = match redis.survey.text("valkey_version") {
        Some(valkey) => format!("Valkey {valkey}"),
        None => format!("Redis {version}"),
    };
    vec![match version_numbers(version) {
        Some((major, _)) if major >= 7 => Finding::ok(what),
        _ => Finding::problem(what, "upgrade to Redis 7.0 or newer, or Valkey"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    #[test]
    fn redis_has_to_be_7_or_newer() {
        let table = [
            (Some("6.2.14"), Verdict::Problem),
            (Some("7.0.0"), Verdict::Ok),
            (Some("8.2.1"), Verdict::Ok),
            (None, Verdict::Unknown),
        ];
        for (version, expected) in table {
            let found = judged(judge, |facts| facts.set_redis("redis_version", version));
            assert_eq!(found[0].0, expected, "{version:?}");
        }
        let found = judged(judge, |facts| facts.set_redis("valkey_version", Some("8.1.0")));
        assert_eq!(found[0].1, "Valkey 8.1.0");
    }
}
