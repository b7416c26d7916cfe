use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, or_ok};
use crate::doctor::role::Role;
use taskyard_common::store::Deed;

pub(crate) const CHECK: Check = Check {
    name: "redis-user",
    looks_at: "whether this user may do what `--role` does, by commands that change nothing",
    why: "a dispatcher that may not write cannot dispatch, and whoever may not read sees nothing",
    mend: "`ACL SETUSER` as in docs/operations.md",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(redis) = facts.redis() else { return Vec::new() };
    let ns = facts.names.namespace();
    let fix = match facts.role {
        Role::Dispatcher => format!(
            "ACL SETUSER USER ~{ns}:* ~{{{ns}:task:* +@read +@write +@scripting +@connection +info \
             +config|get +select"
        ),
        _ => format!("ACL SETUSER USER %R~{ns}:* +@read +@connection +info +select"),
    };
    let finding = |(deed, why): &(Deed, String)| match deed {
        Deed::Restore => Finding::warning(
            format!("first records are written field by field, several times slower: {why}"),
            "ACL SETUSER USER +restore",
        ),
        Deed::Read | Deed::Write => Finding::problem(why, &fix),
    };
    let findings = redis.forbidden.iter().map(finding).collect();
    or_ok(findings, "this user may do what it needs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    #[test]
    fn forbidden_deeds_are_problems_but_for_the_short_way() {
        let table = [
            (Deed::Read, Verdict::Problem),
            (Deed::Write, Verdict::Problem),
            (Deed::Restore, Verdict::Warning),
        ];
        for (deed, expected) in table {
            let found = judged(judge, |facts| {
                let redis = facts.redis.as_mut().unwrap().as_mut().unwrap();
                redis.forbidden = vec![(deed, "HSET: no permissions".into())];
            });
            assert_eq!(found[0].0, expected, "{deed:?}");
        }
    }
}
