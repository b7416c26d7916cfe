use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, or_ok};

pub(crate) const CHECK: Check = Check {
    name: "dead-letters",
    looks_at: "how many tasks are in `taskyard.dead` and submissions in `taskyard.rejected`, as far as \
               RabbitMQ says (approximate)",
    why: "nothing leaves the dead letters but by an operator, and the oldest of 100,000 rejected \
          submissions go unseen",
    mend: "`taskyard dead ls`, mend the cause, `taskyard dead replay`; for rejected submissions, mend who \
           submits them",
    judge,
};

/// From here on nobody looks at them one by one.
const DEAD_MANY: u32 = 1_000;
/// Near the number of which the oldest leave.
const REJECTED_MANY: u32 = 90_000;

fn judge(facts: &Facts) -> Vec<Finding> {
    if facts.broker.is_err() {
        return Vec::new();
    }
    let messages = |queue: String| facts.counts(&queue).map_or(0, |counts| counts.messages);
    let (dead, rejected) = (messages(facts.names.dead()), messages(facts.names.rejected()));
    let mut findings = Vec::new();
    if dead >= DEAD_MANY {
        findings.push(Finding::warning(
            format!("about {dead} dead letters"),
            "taskyard dead ls, mend the cause, taskyard dead replay --all",
        ));
    }
    let queue = facts.names.rejected();
    let fix =
        format!("read {queue} (x-task-reason, x-task-error), mend who submits, then purge it");
    match rejected {
        0 => {}
        REJECTED_MANY.. => findings.push(Finding::problem(
            format!("about {rejected} rejected submissions: the oldest leave at 100,000"),
            fix,
        )),
        _ => findings.push(Finding::warning(format!("about {rejected} rejected submissions"), fix)),
    }
    or_ok(findings, format!("about {dead} dead letters, no rejected submissions"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;
    use taskyard_common::amqp::Counts;

    #[test]
    fn many_dead_letters_and_any_rejected_submission_are_told() {
        let table = [
            ("taskyard.dead", 999, Verdict::Ok),
            ("taskyard.dead", 1_000, Verdict::Warning),
            ("taskyard.rejected", 1, Verdict::Warning),
            ("taskyard.rejected", 90_000, Verdict::Problem),
        ];
        for (name, messages, expected) in table {
            let found = judged(judge, |facts| {
                let queues = &mut facts.broker.as_mut().unwrap().queues;
                let queue = queues.iter_mut().find(|queue| queue.name == name).unwrap();
                queue.counts = Some(Counts { messages, consumers: 0 });
            });
            assert_eq!(found[0].0, expected, "{name} {messages}");
        }
    }
}
