use crate::doctor::check::Check;
use crate::doctor::facts::{Broker, Facts, Right};
use crate::doctor::finding::{Finding, or_ok};
use crate::doctor::role::{Act, Role};

pub(crate) const CHECK: Check = Check {
    name: "rabbitmq-user",
    looks_at: "whether this user may do what `--role` needs, and not what it must not: by acts that \
               RabbitMQ refuses in any case, for one reason or the other",
    why: "without its permissions a program cannot work; with those of a dispatcher a submitter or a \
          worker can forge attempts and results",
    mend: "`rabbitmqctl set_permissions` as in docs/operations.md, one user for each role",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    let Ok(broker) = &facts.broker else { return Vec::new() };
    let mut findings = Vec::new();
    if broker.user == "guest" {
        findings.push(Finding::warning(
            "the user is guest, whose password everybody knows",
            "rabbitmqctl add_user taskyard PASSWORD, and rabbitmqctl delete_user guest",
        ));
    }
    match &broker.rights {
        Ok(rights) => {
            findings.extend(rights.iter().filter_map(|right| wrong(facts, broker, right)))
        }
        Err(why) => findings.push(Finding::unknown(
            format!("what {} may do is not to be seen: {why}", broker.user),
            format!("rabbitmqctl list_user_permissions {}", broker.user),
        )),
    }
    or_ok(
        findings,
        match facts.role {
            Role::Operator => format!("{} (give --role to compare its permissions)", broker.user),
            _ => format!("{} may do what it needs", broker.user),
        },
    )
}

fn wrong(facts: &Facts, broker: &Broker, right: &Right) -> Option<Finding> {
    let user = &broker.user;
    let (vhost, act) = (&broker.vhost, text(&right.expected.act));
    let fix = format!("rabbitmqctl set_permissions -p {vhost} {user} {}", regexes(facts));
    match (right.expected.is_needed, right.is_granted) {
        (true, false) => Some(Finding::problem(format!("{user} may not {act}"), fix)),
        (false, true) => Some(Finding::warning(format!("{user} may {act}"), fix)),
        _ => None,
    }
}

fn text(act: &Act) -> String {
    match act {
        Act::Publish(exchange) if exchange.is_empty() => {
            "publish to the default exchange, which reaches every queue".to_owned()
        }
        Act::Publish(exchange) => format!("publish to {exchange}"),
        Act::Consume(queue) => format!("consume {queue}"),
        Act::OwnQueue(None) => "have a queue of its own (amq.gen-…)".to_owned(),
        Act::OwnQueue(Some(exchange)) => format!("bind a queue of its own to {exchange}"),
    }
}

/// What docs/operations.md gives the role: configure, write, read.
pub(crate) fn regexes(facts: &Facts) -> String {
    let own = r"amq\.gen-.*";
    let ns = facts.names.namespace().replace('.', r"\.");
    let [configure, write, read] = match facts.role {
        Role::Submitter => {
            [format!("^{own}$"), format!(r"^({ns}\.(tasks|commands)|{own})$"), format!("^{own}$")]
        }
        Role::Worker => [
            format!("^{own}$"),
            format!(r"^({ns}\.(heartbeats|outcomes)|{own})$"),
            format!(r"^({ns}\.(control|worker\..*)|{own})$"),
        ],
        Role::Operator | Role::Dispatcher => [
            format!(r"^({ns}\..*|{own})$"),
            format!(r"^({ns}\..*|{own}|amq\.default)$"),
            format!(r"^({ns}\..*|{own})$"),
        ],
    };
    format!("'{configure}' '{write}' '{read}'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    fn with(role: Role, granted: impl Fn(&Act, bool) -> bool) -> Vec<(Verdict, String)> {
        judged(judge, |facts| {
            facts.role = role;
            let acts = role.acts(&facts.names, None).into_iter();
            let rights = acts.map(|expected| {
                let is_granted = granted(&expected.act, expected.is_needed);
                Right { expected, is_granted }
            });
            facts.broker.as_mut().unwrap().rights = Ok(rights.collect());
        })
    }

    #[test]
    fn exactly_what_is_needed_is_fine() {
        for role in [Role::Submitter, Role::Worker, Role::Dispatcher] {
            assert_eq!(with(role, |_, is_needed| is_needed)[0].0, Verdict::Ok, "{role:?}");
        }
    }

    #[test]
    fn missing_permissions_are_problems_and_superfluous_ones_warnings() {
        for role in [Role::Submitter, Role::Worker, Role::Dispatcher] {
            let nothing = with(role, |_, _| false);
            assert!(nothing.iter().all(|(verdict, _)| *verdict == Verdict::Problem), "{role:?}");
        }
        for role in [Role::Submitter, Role::Worker] {
            let all = with(role, |_, _| true);
            assert!(all.iter().all(|(verdict, _)| *verdict == Verdict::Warning), "{role:?}");
            assert!(all[0].1.contains("default exchange"), "{all:?}");
        }
    }

    #[test]
    fn guest_is_a_warning() {
        let found = judged(judge, |facts| facts.broker.as_mut().unwrap().user = "guest".into());
        assert_eq!(found[0].0, Verdict::Warning);
    }
}
