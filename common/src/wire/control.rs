use super::text;
use serde::{Deserialize, Serialize};
use taskyard_model::TaskId;

/// What a worker is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Errand {
    /// End an attempt.
    Cancel,
    /// Let go of an attempt, with a checkpoint.
    Yield,
    /// Take nothing new, finish, exit.
    Drain,
    /// Another process has this id: exit.
    Stop,
    /// What was put into your queue has not reached you: connect and consume anew.
    Consume,
}

/// A message to a worker over `taskyard.control`; repeated until its heartbeats show the effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// What to do.
    #[serde(rename = "do")]
    pub errand: Errand,
    /// Which task, where it is about one.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub id: Option<TaskId>,
    /// Which attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Which life of the worker, where only one of two is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
