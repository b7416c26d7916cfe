use std::collections::BTreeMap;
use std::fmt;

use redis::Value as Reply;

use super::record::text;
use super::{Store, StoreError};

/// Something about this Redis that an operator should change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is found.
    pub what: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// Whether a dispatcher should not start on it.
    pub is_fatal: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.remedy)
    }
}

impl Store {
    /// One round trip, to know that Redis is there.
    ///
    /// # Errors
    /// As [`Store::run`], and what Redis itself answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("PING");
        match self.link.call(&pipeline).await?.into_iter().next() {
            Some(Reply::ServerError(error)) => Err(StoreError::from_server(&error)),
            _ => Ok(()),
        }
    }

    /// Whether this Redis can be relied on: its version, its eviction policy, its role.
    ///
    /// # Errors
    /// As [`Store::run`]. What Redis does not let us ask is a problem, not an error.
    pub async fn problems(&self) -> Result<Vec<Problem>, StoreError> {
        let mut pipeline = redis::pipe();
        for section in ["server", "memory", "replication", "cluster"] {
            pipeline.cmd("INFO").arg(section);
        }
        // Often forbidden, but right where INFO is.
        pipeline.cmd("CONFIG").arg("GET").arg("maxmemory*");
        let replies = self.link.call(&pipeline).await?;
        Ok(judge(&facts(replies)))
    }
}

/// `INFO` has lines `name:value`, `CONFIG GET` names and values in turn and `-` in its names.
pub(super) fn facts(replies: Vec<Reply>) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for reply in replies {
        match reply {
            Reply::Array(parts) => {
                let mut parts = parts.into_iter().map(text);
                while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
                    facts.insert(name.replace('-', "_"), value);
                }
            }
            reply => {
                let text = text(reply);
                let lines = text.lines().filter_map(|line| line.split_once(':'));
                facts.extend(lines.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
        }
    }
    facts
}

/// Oldest major version: scripts with flags came with 7.0, and without them a full Redis stops a
/// script half-way.
const VERSION_MIN: u32 = 7;

fn judge(facts: &BTreeMap<String, String>) -> Vec<Problem> {
    let fact = |name: &str| facts.get(name).map(String::as_str);
    let mut problems = Vec::new();
    let mut found = |is_fatal, what: String, remedy| {
        problems.push(Problem { what, remedy, is_fatal });
    };
    let major = |version: &str| version.split('.').next().and_then(|n| n.parse::<u32>().ok());
    match fact("redis_version") {
        None => found(
            false,
            "the version of redis is not to be seen".to_owned(),
            "allow the command INFO to this user, or make sure that it is 7.0 or newer",
        ),
        Some(version) if major(version).is_none_or(|major| major < VERSION_MIN) => {
            found(true, format!("redis has version {version}"), "use Redis 7.0 or newer, or Valkey")
        }
        Some(_) => {}
    }
    match (fact("maxmemory"), fact("maxmemory_policy")) {
        (Some("0"), _) | (Some(_), Some("noeviction")) => {}
        (Some(bytes), Some(policy)) => found(
            true,
            format!(
                "redis throws keys away when {bytes} bytes are full (maxmemory-policy {policy})"
            ),
            "set maxmemory-policy to noeviction: a forgotten task runs again",
        ),
        _ => found(
            false,
            "the memory limit of redis is not to be seen".to_owned(),
            "allow INFO or CONFIG GET to this user, or make sure that maxmemory-policy is noeviction",
        ),
    }
    if fact("role").is_some_and(|role| role != "master") {
        found(
            true,
            "this redis is a replica, which refuses writes".to_owned(),
            "give the address of the primary",
        );
    }
    if fact("cluster_enabled") == Some("1") {
        found(
            true,
            "this redis runs in cluster mode".to_owned(),
            "use a Redis that holds all keys: this version speaks to one node",
        );
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(facts: &[(&str, &str)]) -> Vec<(bool, String)> {
        let facts = facts.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        judge(&facts.collect()).into_iter().map(|p| (p.is_fatal, p.what)).collect()
    }

    const GOOD: &[(&str, &str)] = &[
        ("redis_version", "7.0.15"),
        ("maxmemory", "0"),
        ("maxmemory_policy", "noeviction"),
        ("role", "master"),
        ("cluster_enabled", "0"),
    ];

    fn with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
        GOOD.iter().map(|&(n, v)| if n == name { (n, value) } else { (n, v) }).collect()
    }

    #[test]
    fn a_good_redis_has_no_problems() {
        assert_eq!(judged(GOOD), []);
        assert_eq!(judged(&with("maxmemory_policy", "allkeys-lru")), [], "no limit, no eviction");
        assert_eq!(judged(&with("maxmemory", "1000000")), []);
        assert_eq!(judged(&with("redis_version", "8.2.1")), []);
    }

    #[test]
    fn each_problem_is_found() {
        for (name, value) in
            [("redis_version", "6.2.14"), ("role", "slave"), ("cluster_enabled", "1")]
        {
            let found = judged(&with(name, value));
            assert!(matches!(&found[..], [(true, _)]), "{name}: {found:?}");
        }
        let mut evicting = with("maxmemory", "1000000");
        evicting[2].1 = "volatile-ttl";
        let found = judged(&evicting);
        assert!(matches!(&found[..], [(true, what)] if what.contains("volatile-ttl")), "{found:?}");
    }

    #[test]
    fn what_may_not_be_asked_is_no_reason_to_stop() {
        let found = judged(&[]);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|(is_fatal, _)| !is_fatal));
    }
}
