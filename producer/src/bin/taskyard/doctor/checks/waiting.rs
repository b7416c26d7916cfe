use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, or_ok};

pub(crate) const CHECK: Check = Check {
    name: "waiting",
    looks_at: "tasks that wait because no worker takes them: parked ones, and the reasons in Redis",
    why: "they wait until somebody starts a worker with their kind and labels",
    mend: "start a worker with the kind and the labels that they require",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for pool in &facts.pools {
        let parked = facts.names.parked(pool);
        if let Some(messages @ 1..) = facts.counts(&parked).map(|counts| counts.messages) {
            findings.push(Finding::warning(
                format!(
                    "about {messages} tasks of the pool {pool} are parked: no worker takes them"
                ),
                "taskyard ls --state queued; then taskyard-worker with their kinds and labels",
            ));
        }
    }
    let yard = facts.redis().and_then(|redis| redis.yard.as_ref().ok());
    let Some(yard) = yard else {
        return match facts.broker {
            Ok(_) => or_ok(findings, "no tasks are parked"),
            Err(_) => Vec::new(),
        };
    };
    match &yard.waiting {
        None => findings.push(Finding::unknown(
            "why tasks wait: there are too many keys to look through in the time",
            "taskyard ls --state queued",
        )),
        Some(waiting) => findings.extend(waiting.iter().map(|((reason, kind), tasks)| {
            let fix =
                format!("taskyard-worker with a handler for {kind} and the labels it requires");
            Finding::warning(format!("{tasks} tasks of kind {kind} wait: {reason}"), fix)
        })),
    }
    or_ok(findings, "no task waits for a worker that is not there")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;
    use std::collections::BTreeMap;
    use taskyard_common::amqp::Counts;

    #[test]
    fn parked_tasks_are_a_warning() {
        let found = judged(judge, |facts| {
            let queues = &mut facts.broker.as_mut().unwrap().queues;
            let queue = queues.iter_mut().find(|q| q.name == "taskyard.parked.default").unwrap();
            queue.counts = Some(Counts { messages: 7, consumers: 0 });
        });
        assert_eq!(found[0].0, Verdict::Warning);
    }

    #[test]
    fn kinds_without_a_taker_are_named() {
        let found = judged(judge, |facts| {
            let key = ("no worker takes this kind".to_owned(), "a.b".to_owned());
            facts.yard_mut().waiting = Some(BTreeMap::from([(key, 3)]));
        });
        let expected = "3 tasks of kind a.b wait: no worker takes this kind";
        assert_eq!(found, [(Verdict::Warning, expected.to_owned())]);
        let found = judged(judge, |facts| facts.yard_mut().waiting = None);
        assert_eq!(found[0].0, Verdict::Unknown);
    }
}
