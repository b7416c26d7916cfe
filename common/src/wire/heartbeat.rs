use super::text;
use serde::{Deserialize, Serialize};
use taskyard_model::{Labels, Pattern, PoolName, TaskId, WorkerId};

/// Whether a worker takes new tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// It does.
    #[default]
    Up,
    /// It finishes what it has.
    Draining,
}

/// An attempt that a worker has received and not settled; written `"id:attempt"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holding {
    /// The task.
    pub id: TaskId,
    /// The attempt.
    pub attempt: u32,
}

impl std::fmt::Display for Holding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.id, self.attempt)
    }
}

impl std::str::FromStr for Holding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} in holding is not \"id:attempt\"");
        let (id, attempt) = text.rsplit_once(':').ok_or_else(error)?;
        let id = id.parse().map_err(|_| error())?;
        Ok(Self { id, attempt: attempt.parse().map_err(|_| error())? })
    }
}

impl Serialize for Holding {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Holding {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text::deserialize(from)
    }
}

/// What a worker says of itself every 2 s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who.
    #[serde(with = "text")]
    pub id: WorkerId,
    /// Random for each process: a new one is a new life.
    pub boot: String,
    /// Whose tasks it takes.
    #[serde(with = "text", default = "PoolName::default_pool")]
    pub pool: PoolName,
    /// The kinds it takes, as topic patterns.
    #[serde(with = "patterns")]
    pub kinds: Vec<Pattern>,
    /// How many it runs at once.
    pub slots: u32,
    /// What it offers.
    #[serde(default, with = "labels")]
    pub labels: Labels,
    /// Its share under weighted routing.
    #[serde(default = "one")]
    pub weight: u32,
    /// Whether it takes new tasks.
    #[serde(default)]
    pub state: WorkerState,
    /// What it has received and not settled.
    #[serde(default)]
    pub holding: Vec<Holding>,
    /// How many tasks it takes in one message; absent or 0 for a worker that knows no trains.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub trains: u32,
    /// Load average of its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Free memory of its machine in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_free: Option<u64>,
    /// Its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its program's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A message that is no heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a heartbeat: {0}")]
pub struct HeartbeatError(String);

/// Slots that a worker may claim: beyond it, it is a mistake.
const SLOTS_MAX: u32 = 100_000;
/// Weight that a worker may claim.
const WEIGHT_MAX: u32 = 1_000_000;
/// Characters of an alleged id that a complaint shows.
const ID_CHARS_SHOWN: usize = 128;
/// Kinds that a worker may list.
const KINDS_MAX: usize = 1_000;

impl Heartbeat {
    /// Reads and checks one.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(body: &[u8]) -> Result<Self, HeartbeatError> {
        let beat: Heartbeat =
            serde_json::from_slice(body).map_err(|error| HeartbeatError(error.to_string()))?;
        let check = |is_good: bool, why: &str| match is_good {
            true => Ok(()),
            false => Err(HeartbeatError(why.to_owned())),
        };
        check((1..=SLOTS_MAX).contains(&beat.slots), "slots must be 1 to 100000")?;
        check((1..=WEIGHT_MAX).contains(&beat.weight), "weight must be 1 to 1000000")?;
        check(
            !beat.boot.is_empty() && beat.boot.len() <= 128,
            "boot must have 1 to 128 characters",
        )?;
        check(!beat.kinds.is_empty(), "kinds must name at least one pattern")?;
        check(beat.kinds.len() <= KINDS_MAX, "kinds may list at most 1000 patterns")?;
        Ok(beat)
    }

    /// Who says that it sent what cannot be read, where as much can be read.
    #[must_use]
    pub fn claimed_id(body: &[u8]) -> Option<String> {
        let beat = serde_json::from_slice::<serde_json::Value>(body).ok()?;
        let id = beat.get("id")?.as_str()?;
        Some(id.chars().take(ID_CHARS_SHOWN).collect())
    }

    /// The message body.
    ///
    /// # Panics
    /// Never: it is plain data.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("heartbeats are plain data")
    }
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Lists of patterns.
mod patterns {
    use serde::{Deserialize, Deserializer, Serializer};
    use taskyard_model::Pattern;

    pub(super) fn serialize<S: Serializer>(value: &[Pattern], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(value.iter().map(Pattern::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Pattern>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
    }
}

/// Labels: a list of texts, or one text with commas.
mod labels {
    use serde::{Deserialize, Deserializer, Serializer};
    use taskyard_model::Labels;

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "labels are a list of texts, or one text with commas")]
    enum Either {
        List(Vec<String>),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(value: &Labels, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(value.iter())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Labels, D::Error> {
        let text = match Either::deserialize(from)? {
            Either::List(list) => list.join(","),
            Either::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_heartbeat_is_understood() {
        let text = br#"{"id":"w1","boot":"b","pool":"default","kinds":["image.#"],"slots":2,"holding":["a:b:3"]}"#;
        let beat = Heartbeat::read(text).unwrap();
        assert_eq!(beat.weight, 1);
        assert_eq!(beat.holding, [Holding { id: "a:b".parse().unwrap(), attempt: 3 }]);
        assert_eq!(Heartbeat::read(&beat.write()).unwrap(), beat);
    }

    #[test]
    fn wrong_heartbeats_say_why() {
        let wrong = [
            "",
            "nonsense",
            "[]",
            r#"{"id":"w 1","boot":"b","kinds":["x"],"slots":1}"#,
            r#"{"id":"w1","boot":"b","kinds":[],"slots":1}"#,
            r#"{"id":"w1","boot":"b","kinds":["x"],"slots":0}"#,
            r#"{"id":"w1","boot":"b","kinds":["x"],"slots":-1}"#,
            r#"{"id":"w1","boot":"b","kinds":["x"],"slots":1,"holding":["x"]}"#,
            r#"{"id":"w1","boot":"","kinds":["x"],"slots":1}"#,
            r#"{"id":"w1","boot":"b","kinds":["x"],"slots":1,"state":"asleep"}"#,
        ];
        for text in wrong {
            assert!(Heartbeat::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
