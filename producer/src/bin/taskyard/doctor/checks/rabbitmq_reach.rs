use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;

pub(crate) const CHECK: Check = Check {
    name: "rabbitmq-reach",
    looks_at: "whether RabbitMQ takes this user's connections",
    why: "RabbitMQ carries every task: without it nothing is accepted and nothing runs",
    mend: "start RabbitMQ; `--amqp-url` (`TASKYARD_AMQP_URL`) has its hosts, user, password and \
           virtual host",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    let fix = "start RabbitMQ, or mend --amqp-url amqp://user:password@host:5672/vhost";
    vec![match &facts.broker {
        Err(why) => Finding::problem(why, fix),
        Ok(broker) => Finding::ok(format!("connected as {} to {}", broker.user, broker.vhost)),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    #[test]
    fn a_broker_that_is_away_is_a_problem() {
        let found = judged(judge, |facts| facts.broker = Err("no route".into()));
        assert_eq!(found, [(Verdict::Problem, "no route".to_owned())]);
    }
}
