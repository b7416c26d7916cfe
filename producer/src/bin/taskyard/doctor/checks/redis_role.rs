use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, or_ok};
use taskyard_common::store::Survey;

pub(crate) const CHECK: Check = Check {
    name: "redis-role",
    looks_at: "whether it is the primary, holds all keys (no Cluster), and how far its replicas are behind",
    why: "a replica refuses every write, a node of a Cluster those to other nodes' keys; what a replica \
          has not got yet runs again after a failover",
    mend: "give the address of the primary of a Redis without Cluster",
    judge,
};

/// Replicas say every second how far they are.
const LAG_MAX_S: u64 = 10;

fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(redis) = facts.redis() else { return Vec::new() };
    let survey = &redis.survey;
    let mut findings = Vec::new();
    match survey.text("role") {
        None => findings.push(Finding::unknown(
            "the role is not to be seen: INFO is forbidden",
            "ACL SETUSER USER +info, or redis-cli ROLE with another user",
        )),
        Some("master") => {}
        Some(_) => {
            let part = |name| survey.text(name).unwrap_or("?");
            let primary = format!("{}:{}", part("master_host"), part("master_port"));
            let what = format!("this Redis is a replica of {primary}: it refuses writes");
            let fix = format!("--redis-url redis://{primary}/0, or redis-cli REPLICAOF NO ONE");
            findings.push(Finding::problem(what, fix));
        }
    }
    if survey.text("cluster_enabled") == Some("1") {
        findings.push(Finding::problem(
            "this Redis is a node of a Cluster",
            "cluster-enabled no: use a Redis that holds all keys",
        ));
    }
    findings.extend(replicas_behind(survey));
    or_ok(findings, "it is the primary, and holds all keys")
}

/// Lines like `slave0:ip=10.0.0.2,port=6379,state=online,offset=56,lag=1`.
fn replicas_behind(survey: &Survey) -> Vec<Finding> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let lines =
        survey.facts.iter().filter(|(name, _)| name.strip_prefix("slave").is_some_and(is_number));
    let judge = |(_, line): (&String, &String)| {
        let part = |name: &str| {
            let mut parts = line.split(',').filter_map(|part| part.split_once('='));
            parts.find(|(part, _)| *part == name).map_or("", |(_, value)| value)
        };
        let lag_s: u64 = part("lag").parse().unwrap_or(0);
        let is_behind = part("state") != "online" || lag_s > LAG_MAX_S;
        let what = format!(
            "the replica {}:{} is {} and {lag_s} s behind",
            part("ip"),
            part("port"),
            part("state")
        );
        is_behind.then(|| Finding::warning(what, "redis-cli INFO replication; look at its network"))
    };
    lines.filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    #[test]
    fn replicas_and_clusters_are_problems() {
        for (name, value) in [("role", "slave"), ("cluster_enabled", "1")] {
            let found = judged(judge, |facts| facts.set_redis(name, Some(value)));
            assert_eq!(found[0].0, Verdict::Problem, "{name}");
        }
        let found = judged(judge, |facts| facts.set_redis("role", None));
        assert_eq!(found[0].0, Verdict::Unknown);
    }

    #[test]
    fn a_replica_that_is_far_behind_is_a_warning() {
        let table = [
            ("ip=10.0.0.2,port=1,state=online,offset=56,lag=1", Verdict::Ok),
            ("ip=10.0.0.2,port=1,state=online,offset=56,lag=60", Verdict::Warning),
            ("ip=10.0.0.2,port=1,state=wait_bgsave,offset=0,lag=0", Verdict::Warning),
        ];
        for (line, expected) in table {
            let found = judged(judge, |facts| facts.set_redis("slave0", Some(line)));
            assert_eq!(found[0].0, expected, "{line}");
        }
    }
}
