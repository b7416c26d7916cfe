use super::version_numbers;
use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;

pub(crate) const CHECK: Check = Check {
    name: "rabbitmq-version",
    looks_at: "the version that RabbitMQ tells whoever connects (3.10 to 4.x)",
    why: "before 3.10 quorum queues have neither message TTL nor at-least-once dead-lettering, so \
          copies would stay or be lost",
    mend: "upgrade RabbitMQ to 3.10 or newer",
    judge,
};

const OLDEST: (u32, u32) = (3, 10);
/// The last major version that Taskyard was tried on.
const MAJOR_MAX: u32 = 4;

fn judge(facts: &Facts) -> Vec<Finding> {
    let Ok(broker) = &facts.broker else { return Vec::new() };
    let server = match &broker.server {
        Ok(server) => server,
        Err(why) => {
            let what = format!("the version is not to be seen: {why}");
            return vec![Finding::unknown(what, "rabbitmqctl version")];
        }
    };
    let what = format!("{} {} in the cluster {}", server.product, server.version, server.cluster);
    vec![match version_numbers(&server.version) {
        _ if server.product != "RabbitMQ" => {
            Finding::warning(what, "use RabbitMQ: Taskyard needs its quorum queues")
        }
        Some(version) if version < OLDEST => {
            Finding::problem(what, "upgrade RabbitMQ to 3.10 or newer")
        }
        Some((major, _)) if major <= MAJOR_MAX => Finding::ok(what),
        _ => Finding::warning(what, "Taskyard was tried on RabbitMQ 3.10 to 4.x"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;
    use taskyard_common::amqp::Server;

    #[test]
    fn versions_from_3_10_to_4_are_fine() {
        let table = [
            ("RabbitMQ", "3.9.29", Verdict::Problem),
            ("RabbitMQ", "2.8.4", Verdict::Problem),
            ("RabbitMQ", "3.10.0", Verdict::Ok),
            ("RabbitMQ", "4.2.1", Verdict::Ok),
            ("RabbitMQ", "4.3.0-rc.1", Verdict::Ok),
            ("RabbitMQ", "5.0.0", Verdict::Warning),
            ("RabbitMQ", "new", Verdict::Warning),
            ("LavinMQ", "3.10.0", Verdict::Warning),
        ];
        for (product, version, expected) in table {
            let found = judged(judge, |facts| {
                let (product, version) = (product.to_owned(), version.to_owned());
                let server = Server { product, version, cluster: "c".into() };
                facts.broker.as_mut().unwrap().server = Ok(server);
            });
            assert_eq!(found[0].0, expected, "{product} {version}");
        }
    }
}
