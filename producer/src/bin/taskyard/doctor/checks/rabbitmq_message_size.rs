use crate::doctor::check::Check;
use crate::doctor::facts::{Facts, Publishing};
use crate::doctor::finding::Finding;

pub(crate) const CHECK: Check = Check {
    name: "rabbitmq-message-size",
    looks_at: "whether RabbitMQ takes a message of 16 MiB, by publishing one that it must refuse for \
               another reason",
    why: "a payload may be 16 MiB: a smaller limit refuses tasks and results that Taskyard promises \
          to carry",
    mend: "`max_message_size = 16777216` or more in rabbitmq.conf",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    let Ok(broker) = &facts.broker else { return Vec::new() };
    let look = "rabbitmqctl environment, max_message_size";
    vec![match &broker.publishing {
        Ok(Publishing::Fine) => Finding::ok("messages of 16 MiB are taken"),
        Ok(Publishing::TooLarge(why)) => {
            Finding::problem(why, "max_message_size = 16777216 in rabbitmq.conf, and restart it")
        }
        Ok(Publishing::Blocked) => Finding::unknown("nothing is taken at present: an alarm", look),
        Err(why) => Finding::unknown(format!("it is not to be seen: {why}"), look),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    #[test]
    fn a_limit_below_a_payload_is_a_problem() {
        let table = [
            (Ok(Publishing::Fine), Verdict::Ok),
            (Ok(Publishing::TooLarge("message size 16777216".into())), Verdict::Problem),
            (Ok(Publishing::Blocked), Verdict::Unknown),
            (Err("slow".into()), Verdict::Unknown),
        ];
        for (publishing, expected) in table {
            let found = judged(judge, |facts| {
                facts.broker.as_mut().unwrap().publishing = publishing.clone();
            });
            assert_eq!(found[0].0, expected, "{publishing:?}");
        }
    }
}
