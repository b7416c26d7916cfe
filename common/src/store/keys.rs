use taskyard_model::{PoolName, State, TaskId, WorkerId};

/// The names of our keys in Redis, all of them.
///
/// A task's hash, its payload and its log lie in the same Cluster slot: the hash tag of the latter two
/// is the whole name of the hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    namespace: String,
    task_prefix: String,
    payload_prefix: String,
}

/// What follows the id in the name of a payload.
pub(super) const PAYLOAD_SUFFIX: &str = "}:payload";

impl Keys {
    /// Keys that begin with `namespace`, which must not contain braces (they are hash tags).
    #[must_use]
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            task_prefix: format!("{namespace}:task:"),
            payload_prefix: format!("{{{namespace}:task:"),
        }
    }

    /// The namespace itself.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Hash: the record of a task.
    #[must_use]
    pub fn task(&self, id: &TaskId) -> String {
        format!("{}{id}", self.task_prefix)
    }

    /// String: the payload of a task that a worker has, or that is blocked.
    #[must_use]
    pub fn payload(&self, id: &TaskId) -> String {
        format!("{}{id}{PAYLOAD_SUFFIX}", self.payload_prefix)
    }

    /// Stream: the log of a task, an entry for each line.
    #[must_use]
    pub fn log(&self, id: &TaskId) -> String {
        format!("{}{id}}}:log", self.payload_prefix)
    }

    /// Sorted set: ids of the latest tasks to reach a state, by the time that they did.
    #[must_use]
    pub fn recent(&self, state: State) -> String {
        format!("{}:recent:{state}", self.namespace)
    }

    /// Hash: counts and gauges of a pool.
    #[must_use]
    pub fn stats(&self, pool: &PoolName) -> String {
        format!("{}:stats:{pool}", self.namespace)
    }

    /// Set: the pools that have counts.
    #[must_use]
    pub fn pools(&self) -> String {
        format!("{}:pools", self.namespace)
    }

    /// Sorted set: ids of workers by last heartbeat.
    #[must_use]
    pub fn workers(&self) -> String {
        format!("{}:workers", self.namespace)
    }

    /// Hash: what is known of a worker.
    #[must_use]
    pub fn worker(&self, id: &WorkerId) -> String {
        format!("{}:worker:{id}", self.namespace)
    }

    /// What precedes the id in the name of a task's hash.
    pub(super) fn task_prefix(&self) -> &str {
        &self.task_prefix
    }

    /// What precedes the id in the name of a task's payload.
    pub(super) fn payload_prefix(&self) -> &str {
        &self.payload_prefix
    }

    /// The id in the name of a task's hash; nothing if it is the name of something else.
    pub(super) fn id_of_task(&self, key: &str) -> Option<TaskId> {
        TaskId::new(key.strip_prefix(&self.task_prefix)?).ok()
    }

    /// The id in the name of a payload; nothing if it is the name of something else.
    pub(super) fn id_of_payload(&self, key: &str) -> Option<TaskId> {
        let id = key.strip_prefix(&self.payload_prefix)?.strip_suffix(PAYLOAD_SUFFIX)?;
        TaskId::new(id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_contract() {
        let keys = Keys::new("taskyard");
        let id = TaskId::new("a:1").unwrap();
        assert_eq!(keys.task(&id), "taskyard:task:a:1");
        assert_eq!(keys.payload(&id), "{taskyard:task:a:1}:payload");
        assert_eq!(keys.log(&id), "{taskyard:task:a:1}:log");
        assert_eq!(keys.id_of_payload(&keys.log(&id)), None);
        assert_eq!(keys.recent(State::Failed), "taskyard:recent:failed");
        assert_eq!(keys.stats(&PoolName::default_pool()), "taskyard:stats:default");
        assert_eq!(keys.workers(), "taskyard:workers");
        assert_eq!(keys.worker(&WorkerId::new("w1").unwrap()), "taskyard:worker:w1");
        assert_eq!(keys.id_of_payload("{taskyard:task:a:1}:payload"), Some(id));
        assert_eq!(keys.id_of_payload("{other:task:a:1}:payload"), None);
        assert_eq!(keys.id_of_payload("taskyard:task:a:1"), None);
        assert_eq!(keys.id_of_task("taskyard:task:a:1"), Some(TaskId::new("a:1").unwrap()));
        assert_eq!(keys.id_of_task("taskyard:worker:w1"), None);
    }
}
