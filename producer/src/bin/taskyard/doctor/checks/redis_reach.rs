use crate::doctor::check::Check;
use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;

pub(crate) const CHECK: Check = Check {
    name: "redis-reach",
    looks_at: "whether Redis takes this user's connections (not for `--role worker`)",
    why: "Redis has the state of every task: without it nothing is dispatched, and nobody sees anything",
    mend: "start Redis; `--redis-url` (`TASKYARD_REDIS_URL`) has its host, user, password and database",
    judge,
};

fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(redis) = &facts.redis else { return Vec::new() };
    let fix = "start Redis, or mend --redis-url redis://user:password@host:6379/0";
    vec![match redis {
        Err(why) => Finding::problem(why, fix),
        Ok(_) => Finding::ok("connected"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::healthy::judged;
    use crate::doctor::finding::Verdict;

    #[test]
    fn a_redis_that_is_away_is_a_problem_for_those_who_need_one() {
        let found = judged(judge, |facts| facts.redis = Some(Err("no route".into())));
        assert_eq!(found, [(Verdict::Problem, "no route".to_owned())]);
        assert_eq!(judged(judge, |facts| facts.redis = None), []);
    }
}
