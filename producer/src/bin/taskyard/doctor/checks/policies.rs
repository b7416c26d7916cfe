use super::ENABLE_MANAGEMENT;
use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, or_ok};
use crate::doctor::management::Queue;

pub(crate) const CHECK: Check = Check {
    name: "policies",
    looks_at: "policies and operator policies that apply to queues of the namespace (management API)",
    why: "a policy with a length limit, a TTL or a delivery limit throws tasks away, and one with a \
          dead-letter exchange sends them elsewhere: the promise is void",
    mend: "`rabbitmqctl clear_policy` (or `clear_operator_policy`), or give it a pattern that leaves out \
           the namespace: `^(?!taskyard\\.)`",
    judge,
};

/// Keys of policies, and the arguments of queues that count instead: of two numbers the smaller one, else
/// the queue's own.
const HARMFUL: [(&str, &str); 9] = [
    ("max-length", "x-max-length"),
    ("max-length-bytes", "x-max-length-bytes"),
    ("message-ttl", "x-message-ttl"),
    ("expires", "x-expires"),
    ("delivery-limit", "x-delivery-limit"),
    ("overflow", "x-overflow"),
    ("dead-letter-exchange", "x-dead-letter-exchange"),
    ("dead-letter-routing-key", "x-dead-letter-routing-key"),
    ("dead-letter-strategy", "x-dead-letter-strategy"),
];

fn judge(facts: &Facts) -> Vec<Finding> {
    let Ok(broker) = &facts.broker else { return Vec::new() };
    let queues = facts.management.as_ref().map_err(Clone::clone);
    let queues =
        match queues.and_then(|management| management.queues.as_ref().map_err(Clone::clone)) {
            Ok(queues) => queues,
            Err(why) => {
                let what = format!("policies are not to be seen: {why}");
                let fix = format!("rabbitmqctl list_policies; or {ENABLE_MANAGEMENT}");
                return vec![Finding::unknown(what, fix)];
            }
        };
    let ours = queues.iter().filter(|queue| facts.names.owns(&queue.name));
    let findings: Vec<Finding> = ours.filter_map(|queue| harmed(queue, &broker.vhost)).collect();
    or_ok(findings, "no policy touches what queues hold")
}

fn harmed(queue: &Queue, vhost: &str) -> Option<Finding> {
    let is_harmful = |(key, argument): &&(&str, &str)| {
        let Some(said) = queue.effective.get(*key) else { return false };
        match (said.as_u64(), queue.arguments.get(*argument)) {
            (_, None) => true,
            (Some(said), Some(own)) => own.as_u64().is_none_or(|own| said < own),
            (None, Some(_)) => false,
        }
    };
    let keys: Vec<String> = HARMFUL
        .iter()
        .filter(is_harmful)
        .map(|(key, _)| format!("{key} {}", queue.effective[*key]))
        .collect();
    if keys.is_empty() {
        return None;
    }
    let mut fixes = Vec::new();
    let mut names = Vec::new();
    for (name, clear) in
        [(&queue.policy, "clear_policy"), (&queue.operator_policy, "clear_operator_policy")]
    {
        if let Some(name) = name.as_ref().filter(|name| !name.is_empty()) {
            names.push(name.as_str());
            fixes.push(format!("rabbitmqctl {clear} -p {vhost} '{name}'"));
        }
    }
    let what = format!("the policy {} gives {} {}", names.join(", "), queue.name, keys.join(", "));
    Some(Finding::problem(what, fixes.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;
    use serde_json::{Value, json};

    /// What is said of a queue with these arguments under a policy.
    fn said(key: &str, value: Value, arguments: Value) -> Verdict {
        let found = judged(judge, |facts| {
            let queue = &mut facts.management.as_mut().unwrap().queues.as_mut().unwrap()[0];
            queue.policy = Some("tidy".into());
            queue.effective.insert(key.to_owned(), value);
            queue.arguments = arguments.as_object().cloned().unwrap();
        });
        found[0].0
    }

    #[test]
    fn whatever_drops_or_redirects_is_a_problem() {
        for (key, _) in HARMFUL {
            assert_eq!(said(key, json!(5), json!({})), Verdict::Problem, "{key}");
        }
        assert_eq!(said("max-in-memory-length", json!(5), json!({})), Verdict::Ok);
    }

    #[test]
    fn what_a_queue_says_itself_goes_before_texts_and_larger_numbers() {
        let own = json!({"x-delivery-limit": 1_000_000, "x-overflow": "reject-publish"});
        assert_eq!(said("overflow", json!("drop-head"), own.clone()), Verdict::Ok);
        assert_eq!(said("delivery-limit", json!(2_000_000), own.clone()), Verdict::Ok);
        assert_eq!(said("delivery-limit", json!(20), own), Verdict::Problem);
    }

    #[test]
    fn other_peoples_queues_are_their_own_affair() {
        let found = judged(judge, |facts| {
            let queue = &mut facts.management.as_mut().unwrap().queues.as_mut().unwrap()[0];
            queue.name = "taskyards".into();
            queue.effective.insert("max-length".into(), 1.into());
        });
        assert_eq!(found[0].0, Verdict::Ok);
    }

    #[test]
    fn without_the_management_api_policies_are_unknown() {
        let found = judged(judge, |facts| facts.management = Err("off".into()));
        assert_eq!(found[0].0, Verdict::Unknown);
    }
}
