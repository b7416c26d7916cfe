use std::collections::BTreeMap;

use redis::Value as Reply;
use taskyard_model::Timestamp;

use super::health::facts;
use super::{Reader, StoreError};

/// What a Redis says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// By name, what `INFO` and `CONFIG GET` said, `_` for `-`; what this user may not ask is missing.
    pub facts: BTreeMap<String, String>,
    /// When it was asked and when the answer was there, by our clock; by Redis' clock it was
    /// between them.
    pub asked: (Timestamp, Timestamp),
}

impl Survey {
    /// A fact as it was said.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }

    /// A fact that is a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

/// Something that a user of Redis does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Look at tasks, workers and counts.
    Read,
    /// Write tasks' records.
    Write,
    /// Make first records the short way, which may be forbidden.
    Restore,
}

impl Reader {
    /// Asks Redis about itself.
    ///
    /// # Errors
    /// `Unreachable`, `Unknown` (no answer), or what Redis said to the connection.
    pub async fn survey(&self) -> Result<Survey, StoreError> {
        let mut pipeline = redis::pipe();
        for section in ["server", "memory", "persistence", "replication", "cluster"] {
            pipeline.cmd("INFO").arg(section);
        }
        for name in ["maxmemory*", "append*", "save", "hash-max-listpack-value"] {
            pipeline.cmd("CONFIG").arg("GET").arg(name);
        }
        // A connection stands before the time is taken.
        self.replies(redis::pipe().cmd("PING")).await?;
        let asked_at = crate::now();
        let replies = self.replies(&pipeline).await?;
        Ok(Survey { facts: facts(replies), asked: (asked_at, crate::now()) })
    }

    /// Commands of these deeds that this user may not use, with Redis' words.
    ///
    /// Each is sent in a form that changes nothing where it is allowed: about keys that do not
    /// exist, or with arguments that Redis refuses after it has looked at the permissions.
    ///
    /// # Errors
    /// As [`Reader::survey`].
    pub async fn forbidden(&self, deed: Deed) -> Result<Vec<String>, StoreError> {
        let attempts = self.attempts(deed);
        let mut pipeline = redis::pipe();
        for words in &attempts {
            pipeline.cmd(&words[0]).arg(&words[1..]);
        }
        let replies = self.replies(&pipeline).await?;
        let refused = attempts.iter().zip(replies).filter_map(|(words, reply)| match reply {
            Reply::ServerError(error) if error.code() == "NOPERM" => {
                let details = error.details().unwrap_or_default();
                Some(format!("{}: {details}", words[0]))
            }
            _ => None,
        });
        Ok(refused.collect())
    }

    fn attempts(&self, deed: Deed) -> Vec<Vec<String>> {
        let key = format!("{}:doctor", self.keys.namespace());
        let payload = format!("{{{}:task:doctor}}:payload", self.keys.namespace());
        let nobody = "0".repeat(40);
        let lines: Vec<Vec<&str>> = match deed {
            Deed::Read => vec![
                vec!["HGETALL", &key],
                vec!["ZREVRANGE", &key, "0", "0"],
                vec!["SMEMBERS", &key],
                vec!["SCAN", "0", "COUNT", "1"],
            ],
            Deed::Write => vec![
                vec!["DEL", &key],
                vec!["DEL", &payload],
                vec!["SET", &payload, "", "XX"],
                vec!["PEXPIREAT", &key, "1"],
                // A value is missing.
                vec!["HSET", &key, "field", "value", "field"],
                // No number.
                vec!["HINCRBY", &key, "field", "one"],
                vec!["ZADD", &key, "XX", "1", "member"],
                vec!["ZREMRANGEBYRANK", &key, "0", "0"],
                vec!["EVALSHA", &nobody, "1", &key],
                vec!["SCRIPT", "EXISTS", &nobody],
            ],
            Deed::Restore => vec![vec!["RESTORE", &key, "0", "no dump"]],
        };
        lines.into_iter().map(|line| line.into_iter().map(str::to_owned).collect()).collect()
    }
}
