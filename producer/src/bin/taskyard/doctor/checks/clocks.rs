use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, or_ok};
use crate::doctor::redis::{Redis, Worker};
use taskyard_model::Timestamp;

pub(crate) const CHECK: Check = Check {
    name: "clocks",
    looks_at: "this machine's clock beside that of Redis, and beside the instants at which dispatchers \
               saw workers",
    why: "delays, ETAs and start-bys are instants: a task starts early, late or never by what clocks \
          differ",
    mend: "run an NTP client (chrony, systemd-timesyncd) on every machine",
    judge,
};

/// What is borne; heartbeats and sweeps are seconds apart.
const TOLERANCE_MS: u64 = 1_000;

fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(redis) = facts.redis() else { return Vec::new() };
    let mut findings = Vec::from_iter(beside_redis(redis));
    let workers = redis.yard.iter().flat_map(|yard| &yard.workers);
    findings.extend(workers.filter_map(|worker| from_the_future(redis, worker)));
    or_ok(findings, format!("within {TOLERANCE_MS} ms of one another"))
}

fn beside_redis(redis: &Redis) -> Option<Finding> {
    let look = "redis-cli TIME, and date +%s beside it";
    let Some(micros) = redis.survey.number("server_time_usec") else {
        return Some(Finding::unknown("the clock of Redis is not to be seen", look));
    };
    let there = micros / 1_000;
    let (asked_at, answered_at) = redis.survey.asked;
    // It was read somewhere between question and answer, so within them nothing can be said.
    let (behind, ahead) =
        (asked_at.as_ms().saturating_sub(there), there.saturating_sub(answered_at.as_ms()));
    let skew_ms = behind.max(ahead);
    let is_ahead = ahead > 0;
    (skew_ms > TOLERANCE_MS).then(|| {
        let how = if is_ahead { "ahead of" } else { "behind" };
        let what = format!("the clock of Redis is {skew_ms} ms {how} this machine's");
        Finding::problem(what, "timedatectl set-ntp true on both machines")
    })
}

/// Dispatchers write when they heard of a worker, by their own clocks: that is in the past.
fn from_the_future(redis: &Redis, worker: &Worker) -> Option<Finding> {
    let now: Timestamp = redis.survey.asked.1;
    let ahead_ms = worker.seen_at.as_ms().saturating_sub(now.as_ms());
    (ahead_ms > TOLERANCE_MS).then(|| {
        let (id, pool) = (&worker.id, &worker.pool);
        let what = format!(
            "the dispatcher of the pool {pool} saw the worker {id} {ahead_ms} ms in the future"
        );
        Finding::problem(
            what,
            "timedatectl set-ntp true on the dispatcher's machine and on this one",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    #[test]
    fn a_second_is_borne() {
        // Asked at 1,000,000 ms, answered at 1,000,010 ms.
        let table = [
            (Some("1000005000"), Verdict::Ok),
            (Some("1001010000"), Verdict::Ok),
            (Some("1001011000"), Verdict::Problem),
            (Some("999000000"), Verdict::Ok),
            (Some("998999000"), Verdict::Problem),
            (None, Verdict::Unknown),
        ];
        for (time, expected) in table {
            let found = judged(judge, |facts| facts.set_redis("server_time_usec", time));
            assert_eq!(found[0].0, expected, "{time:?}: {found:?}");
        }
    }

    #[test]
    fn a_worker_seen_in_the_future_is_a_problem() {
        for (seen_at, expected) in [(1_001_010, Verdict::Ok), (1_001_011, Verdict::Problem)] {
            let found = judged(judge, |facts| {
                let seen_at = Timestamp::from_ms(seen_at);
                facts.add_worker("w1").seen_at = seen_at;
            });
            assert_eq!(found[0].0, expected, "{seen_at}");
        }
    }
}
