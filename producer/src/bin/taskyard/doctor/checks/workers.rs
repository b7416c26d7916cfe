use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, or_ok};
use crate::doctor::redis::{Worker, Yard};

pub(crate) const CHECK: Check = Check {
    name: "workers",
    looks_at: "the workers that dispatchers know: silent ones, versions, and pools that have none",
    why: "a suspect worker gets nothing new and what a lost one ran is counted as lost; versions that \
          differ for long are an upgrade that nobody finished; a pool without workers runs nothing",
    mend: "look at the machines of silent workers; finish the upgrade; start `taskyard-worker`",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(redis) = facts.redis() else { return Vec::new() };
    let yard = match &redis.yard {
        Ok(yard) => yard,
        Err(why) => {
            let what = format!("workers are not to be seen: {why}");
            return vec![Finding::unknown(what, "mend redis-user")];
        }
    };
    let mut findings: Vec<Finding> = yard.workers.iter().filter_map(silent).collect();
    findings.extend(yard.workers.iter().filter_map(|worker| other_version(facts, worker)));
    findings.extend(pools_without(facts, yard));
    or_ok(findings, format!("{} workers", yard.workers.len()))
}

fn silent(worker: &Worker) -> Option<Finding> {
    let Worker { id, state, .. } = worker;
    let fix = format!("look at its machine and its log; if it is gone for good, nothing ({id})");
    matches!(state.as_str(), "suspect" | "lost")
        .then(|| Finding::warning(format!("the worker {id} is {state}"), fix))
}

fn other_version(facts: &Facts, worker: &Worker) -> Option<Finding> {
    let Worker { id, version, state, .. } = worker;
    // Foreign workers need not say; those that are gone are not upgraded.
    let is_other = !version.is_empty() && version != facts.version && state != "lost";
    is_other.then(|| {
        let what = format!("the worker {id} has version {version}, this program {}", facts.version);
        Finding::warning(what, "upgrade dispatchers first, then workers, then this program")
    })
}

fn pools_without(facts: &Facts, yard: &Yard) -> Vec<Finding> {
    let has_any =
        |pool: &str| yard.workers.iter().any(|worker| worker.pool == pool && worker.state == "up");
    let served = facts.served().filter(|(_, token)| token.consumers > 0).map(|(pool, _)| pool);
    // A pool that has never had a task may be waiting for its first worker.
    let has_tasks = |pool: &&taskyard_model::PoolName| {
        let counts = yard.pools.get(*pool);
        counts.and_then(|counts| counts.get("waiting")).is_some_and(|&waiting| waiting > 0)
    };
    let without = served.filter(has_tasks).filter(|pool| !has_any(pool.as_str()));
    let finding = |pool| {
        let fix = format!("taskyard-worker --pool {pool}");
        Finding::problem(format!("tasks wait in the pool {pool}, which has no worker"), fix)
    };
    without.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    #[test]
    fn silent_workers_are_warnings() {
        let table = [
            ("up", Verdict::Ok),
            ("draining", Verdict::Ok),
            ("suspect", Verdict::Warning),
            ("lost", Verdict::Warning),
        ];
        for (state, expected) in table {
            let found = judged(judge, |facts| facts.add_worker("w1").state = state.to_owned());
            assert_eq!(found[0].0, expected, "{state}");
        }
    }

    #[test]
    fn another_version_is_a_warning() {
        for (version, expected) in [("0.0.1", Verdict::Warning), ("", Verdict::Ok)] {
            let found = judged(judge, |facts| facts.add_worker("w1").version = version.to_owned());
            assert_eq!(found[0].0, expected, "{version}");
        }
    }

    #[test]
    fn tasks_that_wait_without_a_worker_are_a_problem() {
        let waiting = |facts: &mut Facts| facts.set_count("waiting", 3);
        assert_eq!(judged(judge, waiting)[0].0, Verdict::Problem);
        let found = judged(judge, |facts| {
            waiting(facts);
            facts.add_worker("w1");
        });
        assert_eq!(found[0].0, Verdict::Ok);
    }
}
