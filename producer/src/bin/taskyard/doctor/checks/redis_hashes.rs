use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;

pub(crate) const CHECK: Check = Check {
    name: "redis-hashes",
    looks_at: "`hash-max-listpack-value` (1024 or more)",
    why: "a task's hash keeps its compact form only while no value is longer: with the default of 64 \
          results of 100 bytes cost 1.52 KB instead of 0.86 KB a task, and a seventh more of Redis' work",
    mend: "`redis-cli CONFIG SET hash-max-listpack-value 1024`",
    judge,
};

const RECOMMENDED: u64 = 1024;

fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(redis) = facts.redis() else { return Vec::new() };
    let fix = "redis-cli CONFIG SET hash-max-listpack-value 1024 (and in redis.conf)";
    vec![match redis.survey.number("hash_max_listpack_value") {
        None => Finding::unknown(
            "hash-max-listpack-value is not to be seen: CONFIG GET is forbidden",
            "redis-cli CONFIG GET hash-max-listpack-value with another user",
        ),
        Some(value) if value < RECOMMENDED => {
            Finding::warning(format!("hash-max-listpack-value is {value}"), fix)
        }
        Some(value) => Finding::ok(format!("hash-max-listpack-value is {value}")),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    #[test]
    fn small_values_are_a_warning() {
        let table =
            [(Some("64"), Verdict::Warning), (Some("4096"), Verdict::Ok), (None, Verdict::Unknown)];
        for (value, expected) in table {
            let found = judged(judge, |facts| facts.set_redis("hash_max_listpack_value", value));
            assert_eq!(found[0].0, expected, "{value:?}");
        }
    }
}
