use crate::doctor::check::Check;
use crate::doctor::facts::{Facts, Publishing};
use crate::doctor::finding::{Finding, or_ok};

pub(crate) const CHECK: Check = Check {
    name: "rabbitmq-alarms",
    looks_at: "whether RabbitMQ blocks whoever publishes (memory or disk alarm), by publishing \
               something that it must refuse; which alarm it is, by the management API",
    why: "while an alarm lasts nothing is accepted, dispatched or reported; nothing is lost",
    mend: "free disk or memory, or raise `vm_memory_high_watermark` or lower `disk_free_limit`",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    let Ok(broker) = &facts.broker else { return Vec::new() };
    let mut findings = Vec::new();
    let nodes = facts.management.iter().flat_map(|management| &management.nodes).flatten();
    for node in nodes {
        if node.has_memory_alarm {
            let fix = "give it more memory, or rabbitmqctl set_vm_memory_high_watermark 0.6";
            findings.push(Finding::problem(format!("memory alarm on {}", node.name), fix));
        }
        if node.has_disk_alarm {
            let fix = "free its disk (disk_free_limit in rabbitmq.conf)";
            findings.push(Finding::problem(format!("disk alarm on {}", node.name), fix));
        }
    }
    match &broker.publishing {
        Ok(Publishing::Blocked) if findings.is_empty() => findings.push(Finding::problem(
            "RabbitMQ blocks whoever publishes",
            "rabbitmq-diagnostics alarms, then free memory or disk",
        )),
        Err(why) => findings.push(Finding::unknown(
            format!("whether RabbitMQ takes messages is not to be seen: {why}"),
            "rabbitmq-diagnostics alarms",
        )),
        Ok(_) => {}
    }
    or_ok(findings, "no alarm")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    #[test]
    fn an_alarm_is_a_problem_and_named_where_it_can_be_seen() {
        let blocked = |facts: &mut Facts| {
            facts.broker.as_mut().unwrap().publishing = Ok(Publishing::Blocked);
        };
        let found = judged(judge, blocked);
        assert_eq!(found, [(Verdict::Problem, "RabbitMQ blocks whoever publishes".into())]);
        let found = judged(judge, |facts| {
            blocked(facts);
            let management = facts.management.as_mut().unwrap();
            management.nodes.as_mut().unwrap()[0].has_disk_alarm = true;
            management.nodes.as_mut().unwrap()[1].has_memory_alarm = true;
        });
        let texts =
            [(Verdict::Problem, "disk alarm on a"), (Verdict::Problem, "memory alarm on b")];
        assert_eq!(found, texts.map(|(verdict, text)| (verdict, text.to_owned())));
    }

    #[test]
    fn no_answer_is_unknown() {
        let found = judged(judge, |facts| {
            facts.broker.as_mut().unwrap().publishing = Err("slow".into());
        });
        assert_eq!(found[0].0, Verdict::Unknown);
    }
}
