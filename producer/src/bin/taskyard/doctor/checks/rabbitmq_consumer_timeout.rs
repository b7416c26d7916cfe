use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;

pub(crate) const CHECK: Check = Check {
    name: "rabbitmq-consumer-timeout",
    looks_at: "how long a message may stay unacked (`rabbitmqctl environment`; policies, by the \
               management API)",
    why: "RabbitMQ closes the channel of whoever holds a message for longer: a dispatcher holds them \
          for up to --hold-max-ms (10 minutes), a worker for --held-after-ms (5 minutes)",
    mend: "`consumer_timeout = 1800000` in rabbitmq.conf (its default), or lower both settings below \
           a third of it",
    judge,
};

/// The longest that anything of ours stays unacked, unless set otherwise.
const HOLD_MAX_MS: u64 = 600_000;
/// RabbitMQ looks once a minute, and what is due is moved on in turn.
const MARGIN: u64 = 3;

fn judge(facts: &Facts) -> Vec<Finding> {
    if facts.broker.is_err() {
        return Vec::new();
    }
    let environment = facts.environment.as_ref();
    let mut findings = vec![match environment.and_then(|e| e.consumer_timeout.as_deref()) {
        Some(value) => judge_value("consumer_timeout", value),
        None => Finding::unknown(
            "consumer_timeout is not to be seen",
            "rabbitmqctl environment | taskyard doctor --rabbitmq-environment -",
        ),
    }];
    // From 3.12 on a policy may say otherwise for its queues.
    let queues = facts.management.iter().flat_map(|management| &management.queues).flatten();
    for queue in queues.filter(|queue| facts.names.owns(&queue.name)) {
        if let Some(value) = queue.effective.get("consumer-timeout") {
            let what = format!("consumer-timeout of a policy on {}", queue.name);
            findings.push(judge_value(&what, &value.to_string()));
        }
    }
    findings
}

fn judge_value(what: &str, value: &str) -> Finding {
    let fix = "consumer_timeout = 1800000 in rabbitmq.conf, or give dispatchers and workers smaller \
               --hold-max-ms and --held-after-ms: below a third of it";
    let Ok(ms) = value.parse::<u64>() else {
        return Finding::ok(format!("{what} is {value}: no limit"));
    };
    let what = format!("{what} is {ms} ms");
    match ms {
        0..=HOLD_MAX_MS => Finding::problem(what, fix),
        _ if ms < MARGIN * HOLD_MAX_MS => Finding::warning(what, fix),
        _ => Finding::ok(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    #[test]
    fn a_timeout_has_to_be_longer_than_what_is_held() {
        let table = [
            (Some("1800000"), Verdict::Ok),
            (Some("undefined"), Verdict::Ok),
            (Some("1200000"), Verdict::Warning),
            (Some("60000"), Verdict::Problem),
            (None, Verdict::Unknown),
        ];
        for (value, expected) in table {
            let found = judged(judge, |facts| {
                let environment = facts.environment.as_mut().unwrap();
                environment.consumer_timeout = value.map(str::to_owned);
            });
            assert_eq!(found[0].0, expected, "{value:?}");
        }
    }

    #[test]
    fn a_policy_may_shorten_it() {
        let found = judged(judge, |facts| {
            let queues = facts.management.as_mut().unwrap().queues.as_mut().unwrap();
            queues[0].effective.insert("consumer-timeout".into(), 1000.into());
        });
        assert_eq!(found[1].0, Verdict::Problem, "{found:?}");
    }
}
