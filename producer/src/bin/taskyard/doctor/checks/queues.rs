use crate::doctor::check::Check;
use crate::doctor::facts::{Broker, Facts, Thing};
use crate::doctor::finding::{Finding, or_ok};
use std::collections::BTreeSet;
use taskyard_common::amqp::{Comparison, inner_queues, ways_in};

pub(crate) const CHECK: Check = Check {
    name: "queues",
    looks_at: "the exchanges and queues of the namespace: whether they exist, and are of the type and \
               with the arguments that dispatchers declare",
    why: "a dispatcher refuses to run on a queue with other arguments, and what is sent to one that is \
          missing is lost or refused",
    mend: "empty and delete what differs, or take another `--namespace`; a dispatcher declares what is \
           missing when it starts",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    let Ok(broker) = &facts.broker else { return Vec::new() };
    let all = || broker.exchanges.iter().chain(&broker.queues);
    let there = all().filter(|thing| thing.counts.is_some()).count();
    if there == 0 {
        let what = "nothing is declared: no dispatcher has run yet; the first one declares it all";
        return vec![Finding::ok(what)];
    }
    let mut findings: Vec<Finding> =
        all().filter_map(|thing| differs(thing, &broker.vhost)).collect();
    findings.extend(missing(facts, broker));
    if all().any(|thing| thing.comparison == Some(Comparison::Forbidden)) {
        findings.push(Finding::unknown(
            format!("{} may not declare, so arguments cannot be compared", broker.user),
            "taskyard doctor with the --amqp-url of a dispatcher",
        ));
    }
    or_ok(findings, format!("{there} exchanges and queues are as they have to be"))
}

fn differs(thing: &Thing, vhost: &str) -> Option<Finding> {
    let Some(Comparison::Differs(why)) = &thing.comparison else { return None };
    let name = &thing.name;
    let fix = format!(
        "stop what uses {name}, move what it holds, rabbitmqctl delete_queue -p {vhost} {name} (or delete the \
         exchange), start a dispatcher; or use another --namespace"
    );
    Some(Finding::problem(format!("{name} is another than Taskyard's: {why}"), fix))
}

/// Of what somebody has declared once: all that is shared, the ways into pools that have any, and the
/// inside of those that were served.
fn missing(facts: &Facts, broker: &Broker) -> Vec<Finding> {
    let absent: BTreeSet<&str> = broker
        .exchanges
        .iter()
        .chain(&broker.queues)
        .filter(|thing| thing.counts.is_none())
        .map(|thing| thing.name.as_str())
        .collect();
    let names = &facts.names;
    // Queues of pools that nobody has served, or that exist in somebody's settings alone.
    let mut may_be_absent = BTreeSet::new();
    for pool in &facts.pools {
        let parts = [ways_in(names, pool), inner_queues(names, pool)];
        for part in parts.map(|part| part.into_iter().map(|(name, _)| name).collect::<Vec<_>>()) {
            if part.iter().all(|name| absent.contains(name.as_str())) {
                may_be_absent.extend(part);
            }
        }
    }
    let missing = absent.into_iter().filter(|&name| !may_be_absent.contains(name));
    let finding = |name: &str| {
        let fix = "restart a dispatcher of its pool: it declares what is missing; what the queue held \
                   is gone";
        Finding::problem(format!("{name} does not exist, although others do: it was deleted"), fix)
    };
    missing.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    fn thing<'a>(facts: &'a mut Facts, name: &str) -> &'a mut Thing {
        let broker = facts.broker.as_mut().unwrap();
        let mut all = broker.exchanges.iter_mut().chain(&mut broker.queues);
        all.find(|thing| thing.name == name).unwrap()
    }

    #[test]
    fn what_differs_is_a_problem() {
        for name in ["taskyard.tasks", "taskyard.submit.default", "taskyard.delay.3"] {
            let found = judged(judge, |facts| {
                let comparison = Comparison::Differs("inequivalent arg 'x-max-length'".into());
                thing(facts, name).comparison = Some(comparison);
            });
            assert!(matches!(&found[..], [(Verdict::Problem, what)] if what.starts_with(name)));
        }
    }

    #[test]
    fn what_is_missing_among_others_is_a_problem() {
        for name in ["taskyard.outcomes", "taskyard.dead", "taskyard.lane.default.4"] {
            let found = judged(judge, |facts| thing(facts, name).counts = None);
            assert!(matches!(&found[..], [(Verdict::Problem, what)] if what.starts_with(name)));
        }
    }

    #[test]
    fn a_pool_that_nobody_serves_has_no_lanes() {
        let found = judged(judge, |facts| {
            for (name, _) in inner_queues(&facts.names.clone(), facts.pools.first().unwrap()) {
                thing(facts, &name).counts = None;
            }
        });
        assert_eq!(found[0].0, Verdict::Ok, "{found:?}");
    }

    #[test]
    fn an_empty_virtual_host_waits_for_a_dispatcher() {
        let found = judged(judge, |facts| {
            let broker = facts.broker.as_mut().unwrap();
            broker.exchanges.iter_mut().for_each(|thing| thing.counts = None);
            broker.queues.iter_mut().for_each(|thing| thing.counts = None);
        });
        assert!(matches!(&found[..], [(Verdict::Ok, what)] if what.contains("no dispatcher")));
    }

    #[test]
    fn what_may_not_be_compared_is_unknown() {
        let found = judged(judge, |facts| {
            thing(facts, "taskyard.unbound").comparison = Some(Comparison::Forbidden);
        });
        assert_eq!(found[0].0, Verdict::Unknown);
    }
}
