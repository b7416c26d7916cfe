use super::ENABLE_MANAGEMENT;
use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;
use crate::doctor::management::Node;

pub(crate) const CHECK: Check = Check {
    name: "rabbitmq-cluster",
    looks_at: "how many nodes there are, whether they run and see one another, and what they do when \
               they do not (management API, `rabbitmqctl environment`)",
    why: "every queue is a quorum queue: it lives as long as most of its nodes do, so one node is \
          a single disk, and two stop when either does",
    mend: "run three nodes; `cluster_partition_handling = pause_minority` in rabbitmq.conf",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    if facts.broker.is_err() {
        return Vec::new();
    }
    let nodes = facts.management.as_ref().map_err(Clone::clone);
    let nodes = match nodes.and_then(|management| management.nodes.as_ref().map_err(Clone::clone)) {
        Ok(nodes) => nodes,
        Err(why) => {
            let what = format!("the nodes are not to be seen: {why}");
            let fix = format!("rabbitmqctl cluster_status; or {ENABLE_MANAGEMENT}");
            return vec![Finding::unknown(what, fix)];
        }
    };
    let mut findings = Vec::from([size(nodes)]);
    for node in nodes {
        if !node.is_running {
            let what = format!("the node {} does not run", node.name);
            let fix = format!("start it, or rabbitmqctl forget_cluster_node {}", node.name);
            findings.push(Finding::problem(what, fix));
        }
        if !node.partitions.is_empty() {
            let what = format!("{} has lost {}", node.name, node.partitions.join(", "));
            let fix = "mend the network, then restart the nodes of the smaller part";
            findings.push(Finding::problem(what, fix));
        }
    }
    findings.extend(handling(facts, nodes.len()));
    findings
}

fn size(nodes: &[Node]) -> Finding {
    let fix = "rabbitmqctl join_cluster on more nodes, three in all; then rabbitmq-queues grow";
    match nodes.len() {
        1 => Finding::warning("one node: no copy of any task elsewhere", fix),
        2 => Finding::warning("two nodes: queues stop when either is down", fix),
        nodes => Finding::ok(format!("{nodes} nodes")),
    }
}

/// What nodes do that no longer see one another; one alone has nobody to lose.
fn handling(facts: &Facts, nodes: usize) -> Option<Finding> {
    if nodes < 2 {
        return None;
    }
    let environment = facts.environment.as_ref();
    Some(match environment.and_then(|environment| environment.partition_handling.as_deref()) {
        None => Finding::unknown(
            "what nodes do that no longer see one another is not to be seen",
            "rabbitmqctl environment | taskyard doctor --rabbitmq-environment -",
        ),
        Some("ignore") => Finding::warning(
            "nodes that no longer see one another go on (cluster_partition_handling ignore)",
            "cluster_partition_handling = pause_minority in rabbitmq.conf",
        ),
        Some(handling) => Finding::ok(format!("cluster_partition_handling {handling}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    fn nodes(facts: &mut Facts) -> &mut Vec<Node> {
        facts.management.as_mut().unwrap().nodes.as_mut().unwrap()
    }

    #[test]
    fn few_nodes_are_a_warning() {
        for (count, expected) in [(1, Verdict::Warning), (2, Verdict::Warning), (3, Verdict::Ok)] {
            let found = judged(judge, |facts| nodes(facts).truncate(count));
            assert_eq!(found[0].0, expected, "{count}: {found:?}");
        }
    }

    #[test]
    fn nodes_that_are_down_or_lost_are_problems() {
        let down = judged(judge, |facts| nodes(facts)[1].is_running = false);
        assert!(down.contains(&(Verdict::Problem, "the node b does not run".into())), "{down:?}");
        let lost = judged(judge, |facts| nodes(facts)[0].partitions = vec!["c".into()]);
        assert!(lost.contains(&(Verdict::Problem, "a has lost c".into())), "{lost:?}");
    }

    #[test]
    fn nodes_that_go_on_apart_are_a_warning() {
        let found = judged(judge, |facts| {
            facts.environment.as_mut().unwrap().partition_handling = Some("ignore".into());
        });
        assert_eq!(found[1].0, Verdict::Warning, "{found:?}");
        let unseen = judged(judge, |facts| facts.environment = None);
        assert_eq!(unseen[1].0, Verdict::Unknown, "{unseen:?}");
    }

    #[test]
    fn without_the_management_api_nothing_is_known() {
        let found = judged(judge, |facts| facts.management = Err("off".into()));
        assert_eq!(found[0].0, Verdict::Unknown);
        assert!(found[0].1.contains("off"));
    }
}
