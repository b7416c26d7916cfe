use super::ENABLE_MANAGEMENT;
use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, or_ok};
use taskyard_model::{Pattern, PoolName};

pub(crate) const CHECK: Check = Check {
    name: "bindings",
    looks_at: "whether two pools are bound to the same kinds (management API)",
    why: "a task whose kind two pools are bound to reaches both: two dispatchers decide about it, and \
          which workers run it is chance",
    mend: "unbind the kind from the submit queue of the pool that it has left (management UI, or \
           `rabbitmqadmin delete binding`)",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    if facts.broker.is_err() {
        return Vec::new();
    }
    let bindings = facts.management.as_ref().map_err(Clone::clone);
    let bindings =
        bindings.and_then(|management| management.bindings.as_ref().map_err(Clone::clone));
    let bindings = match bindings {
        Ok(bindings) => bindings,
        Err(why) => {
            let what = format!("bindings are not to be seen: {why}");
            let fix = format!("rabbitmqctl list_bindings; or {ENABLE_MANAGEMENT}");
            return vec![Finding::unknown(what, fix)];
        }
    };
    let tasks = facts.names.tasks();
    let kinds: Vec<(PoolName, Pattern)> = bindings
        .iter()
        .filter(|binding| binding.source == tasks)
        .filter_map(|binding| {
            let pool = facts.names.pool_of_submit(&binding.destination)?;
            Some((pool, Pattern::new(&binding.routing_key).ok()?))
        })
        .collect();
    let mut findings = Vec::new();
    for (n, (pool, kind)) in kinds.iter().enumerate() {
        for (other, others) in &kinds[n + 1..] {
            if pool != other && kind.overlaps(others) {
                let fix = format!(
                    "unbind {others} from {}, or {kind} from {}",
                    facts.names.submit(other),
                    facts.names.submit(pool)
                );
                let what = format!("{pool} ({kind}) and {other} ({others}) get the same tasks");
                findings.push(Finding::problem(what, fix));
            }
        }
    }
    or_ok(findings, "no kind belongs to two pools")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;
    use crate::doctor::management::Binding;

    fn bound(pairs: &[(&str, &str)]) -> Vec<(Verdict, String)> {
        judged(judge, |facts| {
            let bindings = pairs.iter().map(|(queue, key)| Binding {
                source: "taskyard.tasks".into(),
                destination: (*queue).to_owned(),
                routing_key: (*key).to_owned(),
            });
            facts.management.as_mut().unwrap().bindings = Ok(bindings.collect());
        })
    }

    #[test]
    fn pools_that_share_a_kind_are_a_problem() {
        let found = bound(&[("taskyard.submit.mail", "mail.#"), ("taskyard.submit.web", "*.send")]);
        assert_eq!(found[0].0, Verdict::Problem, "{found:?}");
    }

    #[test]
    fn one_pool_may_have_several_patterns_and_others_may_listen() {
        let found = bound(&[
            ("taskyard.submit.mail", "mail.#"),
            ("taskyard.submit.mail", "mail.send"),
            ("somebody.listens", "#"),
            ("taskyard.submit.web", "web.#"),
        ]);
        assert_eq!(found[0].0, Verdict::Ok, "{found:?}");
    }
}
