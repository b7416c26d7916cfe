use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, or_ok};

pub(crate) const CHECK: Check = Check {
    name: "redis-persistence",
    looks_at: "the append-only file, `appendfsync`, and whether the last writes to disk worked",
    why: "what Redis forgets in a crash is rebuilt from RabbitMQ, so no task is lost; but what ran \
          meanwhile may run again, and what had ended is no longer known",
    mend: "`appendonly yes` and `appendfsync everysec` in redis.conf",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(redis) = facts.redis() else { return Vec::new() };
    let survey = &redis.survey;
    let mut findings = Vec::new();
    for (name, what) in [
        ("aof_last_write_status", "the last write to the append-only file failed"),
        ("aof_last_bgrewrite_status", "the append-only file could not be rewritten"),
        ("rdb_last_bgsave_status", "the last snapshot could not be written"),
    ] {
        if survey.text(name).is_some_and(|status| status != "ok") {
            findings.push(Finding::problem(what, "free its disk; redis-cli INFO persistence"));
        }
    }
    let everysec = "redis-cli CONFIG SET appendfsync everysec (and in redis.conf)";
    match (survey.text("aof_enabled"), survey.text("appendfsync")) {
        (None, _) => findings.push(Finding::unknown(
            "persistence is not to be seen: INFO is forbidden",
            "ACL SETUSER USER +info, or redis-cli INFO persistence with another user",
        )),
        (Some("0"), _) => findings.push(Finding::warning(
            match survey.text("save") {
                Some("") => "nothing is written to disk: a restart forgets all records",
                _ => "no append-only file: a crash forgets all records since the last snapshot",
            },
            "redis-cli CONFIG SET appendonly yes (and in redis.conf)",
        )),
        (_, Some("no")) => findings.push(Finding::warning(
            "appendfsync no: a crash of the machine forgets up to half a minute",
            everysec,
        )),
        (_, Some("always")) => findings.push(Finding::warning(
            "appendfsync always: every transition waits for the disk",
            everysec,
        )),
        _ => {}
    }
    or_ok(findings, "append-only file, written every second")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    #[test]
    fn what_a_crash_forgets_is_a_warning() {
        let table = [
            ("aof_enabled", Some("0"), Verdict::Warning),
            ("appendfsync", Some("no"), Verdict::Warning),
            ("appendfsync", Some("always"), Verdict::Warning),
            // CONFIG GET is forbidden.
            ("appendfsync", None, Verdict::Ok),
            ("aof_enabled", None, Verdict::Unknown),
            ("aof_last_write_status", Some("err"), Verdict::Problem),
            ("rdb_last_bgsave_status", Some("err"), Verdict::Problem),
            ("rdb_last_bgsave_status", Some("ok"), Verdict::Ok),
        ];
        for (name, value, expected) in table {
            let found = judged(judge, |facts| facts.set_redis(name, value));
            assert_eq!(found[0].0, expected, "{name} {value:?}");
        }
    }
}
