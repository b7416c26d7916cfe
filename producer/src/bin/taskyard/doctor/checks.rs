//! One check a file; `check.rs` has the table.

pub(crate) mod rabbitmq_reach;

pub(crate) mod rabbitmq_alarms;
pub(crate) mod rabbitmq_cluster;
pub(crate) mod rabbitmq_consumer_timeout;
pub(crate) mod rabbitmq_message_size;
pub(crate) mod rabbitmq_user;
pub(crate) mod rabbitmq_version;

pub(crate) mod bindings;
pub(crate) mod policies;
pub(crate) mod queues;

pub(crate) mod redis_reach;

pub(crate) mod redis_hashes;
pub(crate) mod redis_memory;
pub(crate) mod redis_persistence;
pub(crate) mod redis_role;
pub(crate) mod redis_user;
pub(crate) mod redis_version;

pub(crate) mod clocks;
pub(crate) mod dead_letters;
pub(crate) mod dispatchers;
pub(crate) mod waiting;
pub(crate) mod workers;

/// How to get at what only the management API shows.
const ENABLE_MANAGEMENT: &str = "rabbitmq-plugins enable rabbitmq_management, then give \
                                 --management-url http://user:password@host:15672 (a user with the \
                                 tag monitoring)";

/// Major and minor number of a version.
fn version_numbers(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}
