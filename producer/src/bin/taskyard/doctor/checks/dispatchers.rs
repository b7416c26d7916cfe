use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, or_ok};

pub(crate) const CHECK: Check = Check {
    name: "dispatchers",
    looks_at: "how many dispatchers hold or wait for each pool's token, and whether a leader answers a \
               command",
    why: "a pool without a dispatcher accepts tasks and runs none; with one alone, its restart is a \
          pause",
    mend: "start `taskyard-dispatcher --pool POOL`, two for each pool",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    if facts.broker.is_err() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for pool in &facts.pools {
        let start = format!("taskyard-dispatcher --pool {pool}");
        let token = facts.counts(&facts.names.leader(pool));
        let is_known = facts.counts(&facts.names.submit(pool)).is_some();
        match token.map(|counts| counts.consumers) {
            None if is_known => findings.push(Finding::problem(
                format!(
                    "no dispatcher has served the pool {pool} yet, and tasks can be sent to it"
                ),
                start,
            )),
            None => {}
            Some(0) => {
                findings
                    .push(Finding::problem(format!("no dispatcher serves the pool {pool}"), start));
            }
            Some(1) => findings.push(Finding::warning(
                format!("one dispatcher serves the pool {pool}: nobody stands by"),
                start,
            )),
            Some(_) => {}
        }
    }
    let serving = facts.served().filter(|(_, token)| token.consumers > 0).count();
    if let (Some(Err(why)), 1..) = (&facts.answer, serving) {
        findings.push(Finding::problem(
            format!("no leader answers commands: {why}"),
            "look at the log of taskyard-dispatcher, and at its /readyz",
        ));
    }
    let well = match serving {
        0 => "no dispatcher has run yet".to_owned(),
        pools => format!("{pools} pools are served, each with somebody who stands by"),
    };
    or_ok(findings, well)
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
    fn a_pool_needs_a_dispatcher_and_should_have_two() {
        let table = [
            (None, Verdict::Problem),
            (Some(0), Verdict::Problem),
            (Some(1), Verdict::Warning),
            (Some(2), Verdict::Ok),
        ];
        for (token, expected) in table {
            assert_eq!(with_token(token)[0].0, expected, "{token:?}");
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
