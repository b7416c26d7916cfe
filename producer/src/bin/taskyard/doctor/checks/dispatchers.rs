use super::ENABLE_MANAGEMENT;
use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, or_ok};
use taskyard_model::PoolName;

pub(crate) const CHECK: Check = Check {
    name: "dispatchers",
    looks_at: "whether a dispatcher holds each pool's token, whether others wait for it (management \
               API), and whether a leader answers a command",
    why: "a pool without a dispatcher accepts tasks and runs none; with one alone, its restart is a \
          pause",
    mend: "start `taskyard-dispatcher --pool POOL`, two for each pool",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    if facts.broker.is_err() {
        return Vec::new();
    }
    let mut findings: Vec<Finding> =
        facts.pools.iter().filter_map(|pool| judge_pool(facts, pool)).collect();
    let serving = facts.served().filter(|(_, token)| token.consumers > 0).count();
    if let (Some(Err(why)), 1..) = (&facts.answer, serving) {
        findings.push(Finding::problem(
            format!("no leader answers commands: {why}"),
            "look at the log of taskyard-dispatcher, and at its /readyz",
        ));
    }
    let well = match serving {
        0 => "no dispatcher has run yet".to_owned(),
        pools => format!("served: {pools}, each with somebody who stands by"),
    };
    or_ok(findings, well)
}

fn judge_pool(facts: &Facts, pool: &PoolName) -> Option<Finding> {
    let token = facts.names.leader(pool);
    let start = format!("taskyard-dispatcher --pool {pool}");
    let Some(counts) = facts.counts(&token) else {
        let may_be_sent_to = facts.counts(&facts.names.submit(pool)).is_some();
        let what =
            format!("no dispatcher has served the pool {pool} yet: what is sent to it waits");
        return may_be_sent_to.then(|| Finding::problem(what, start));
    };
    if counts.consumers == 0 {
        return Some(Finding::problem(format!("no dispatcher serves the pool {pool}"), start));
    }
    // Over AMQP only the one that holds the token is to be seen.
    let mut queues = facts.management.iter().flat_map(|management| &management.queues).flatten();
    match queues.find(|queue| queue.name == token).and_then(|queue| queue.consumers) {
        None => Some(Finding::unknown(
            format!("a dispatcher serves the pool {pool}; who stands by is not to be seen"),
            ENABLE_MANAGEMENT,
        )),
        Some(0 | 1) => Some(Finding::warning(
            format!("one dispatcher serves the pool {pool}: nobody stands by"),
            start,
        )),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;
    use taskyard_common::amqp::Counts;

    fn with_token(token: Option<u32>) -> Vec<(Verdict, String)> {
        judged(judge, |facts| {
            let queues = &mut facts.broker.as_mut().unwrap().queues;
            let queue = queues.iter_mut().find(|q| q.name == "taskyard.leader.default").unwrap();
            queue.counts = token.map(|consumers| Counts { messages: 0, consumers });
        })
    }

    #[test]
    fn a_pool_needs_a_dispatcher() {
        for (token, expected) in
            [(None, Verdict::Problem), (Some(0), Verdict::Problem), (Some(1), Verdict::Ok)]
        {
            assert_eq!(with_token(token)[0].0, expected, "{token:?}");
        }
    }

    #[test]
    fn a_pool_should_have_a_dispatcher_that_stands_by() {
        for (consumers, expected) in
            [(None, Verdict::Unknown), (Some(1), Verdict::Warning), (Some(2), Verdict::Ok)]
        {
            let found = judged(judge, |facts| {
                let queues = facts.management.as_mut().unwrap().queues.as_mut().unwrap();
                queues[1].consumers = consumers;
            });
            assert_eq!(found[0].0, expected, "{consumers:?}");
        }
    }

    #[test]
    fn a_leader_that_does_not_answer_is_a_problem() {
        let found = judged(judge, |facts| facts.answer = Some(Err("no answer".into())));
        assert_eq!(found[0].0, Verdict::Problem);
    }

    #[test]
    fn where_no_dispatcher_has_run_nothing_is_expected() {
        let found = judged(judge, |facts| {
            facts.answer = Some(Err("nobody listens".into()));
            facts.broker.as_mut().unwrap().queues.iter_mut().for_each(|queue| queue.counts = None);
        });
        assert_eq!(found, [(Verdict::Ok, "no dispatcher has run yet".to_owned())]);
    }
}
