//! The token: who holds it unacked leads.

use std::time::{Duration, Instant};
use taskyard_common::amqp::{AmqpError, Channel, Message, Properties, Publication, Publisher};
use taskyard_common::names::Names;
use taskyard_model::PoolName;

/// How often the leader passes the token to itself.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// A leader that does not get its token back within this time leads no longer: it may be on the
/// wrong side of a partition, where the broker says nothing.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(15);
/// A standby that hears no leader for so long publishes a token: the last one may be gone.
const SILENCE: Duration = Duration::from_secs(30);

/// Where this process stands in the pool.
#[derive(Debug)]
pub(crate) enum Role {
    /// Another leads, or nobody yet.
    Standby { heard_leader: Instant },
    /// This process leads, with the token of this tag.
    Leader { tag: u64, since: Instant },
    /// The token was passed on and has to come back.
    Refreshing { since: Instant },
}

/// What a token that was delivered means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// This process leads from now on.
    Lead,
    /// It came back: the lead goes on.
    Back,
    /// Somebody published one more (each dispatcher does at its start). The one held until now, of
    /// this tag, has to be acked: left unacked, the broker would close the channel after half an
    /// hour, and ten of them would use up the prefetch.
    Surplus(u64),
}

/// What has to be done about the token now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Nothing.
    Wait,
    /// Publish a token.
    Publish,
    /// Publish a new token, then ack the one of this tag.
    Refresh(u64),
    /// The token did not come back: stop leading.
    StepDown,
}

impl Role {
    pub(crate) fn standby() -> Self {
        Role::Standby { heard_leader: Instant::now() }
    }

    pub(crate) fn is_leading(&self) -> bool {
        !matches!(self, Role::Standby { .. })
    }

    /// A token has been delivered.
    pub(crate) fn took(&mut self, tag: u64) -> Taken {
        let before = std::mem::replace(self, Role::Leader { tag, since: Instant::now() });
        match before {
            Role::Standby { .. } => Taken::Lead,
            Role::Leader { tag, .. } => Taken::Surplus(tag),
            // The one before is acked by whoever passed it on.
            Role::Refreshing { .. } => Taken::Back,
        }
    }

    /// Another dispatcher says that it leads.
    pub(crate) fn heard(&mut self) {
        if let Role::Standby { heard_leader } = self {
            *heard_leader = Instant::now();
        }
    }

    pub(crate) fn duty(&mut self, now: Instant) -> Duty {
        match self {
            Role::Standby { heard_leader } if now.duration_since(*heard_leader) > SILENCE => {
                *heard_leader = now;
                Duty::Publish
            }
            Role::Leader { tag, since } if now.duration_since(*since) > REFRESH_INTERVAL => {
                let tag = *tag;
                *self = Role::Refreshing { since: now };
                Duty::Refresh(tag)
            }
            Role::Refreshing { since } if now.duration_since(*since) > REFRESH_TIMEOUT => {
                Duty::StepDown
            }
            _ => Duty::Wait,
        }
    }
}

/// Publishes a token.
pub(crate) async fn publish(
    publisher: &Publisher,
    names: &Names,
    pool: &PoolName,
) -> Result<(), AmqpError> {
    let message = Message::to_queue(
        names.leader(pool),
        Properties::default(),
        bytes::Bytes::from_static(b"token"),
    );
    match publisher.publish(message).await {
        Publication::Confirmed => Ok(()),
        _ => Err(AmqpError::Timeout(REFRESH_TIMEOUT)),
    }
}

/// A new token first, then the old one is let go of: there is always one.
pub(crate) async fn refresh(
    publisher: Publisher,
    channel: Channel,
    names: Names,
    pool: PoolName,
    tag: u64,
) -> Result<(), AmqpError> {
    publish(&publisher, &names, &pool).await?;
    taskyard_common::amqp::ack(&channel, tag, false).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_gets_no_token_back_steps_down() {
        let start = Instant::now();
        let mut role = Role::standby();
        assert_eq!(role.took(1), Taken::Lead);
        assert_eq!(role.duty(start + Duration::from_secs(1)), Duty::Wait);
        let refreshed = start + Duration::from_secs(7);
        assert_eq!(role.duty(refreshed), Duty::Refresh(1));
        assert_eq!(role.duty(refreshed + Duration::from_secs(1)), Duty::Wait);
        assert_eq!(role.duty(refreshed + Duration::from_secs(16)), Duty::StepDown);
        assert_eq!(role.took(2), Taken::Back, "the lead goes on");
    }

    #[test]
    fn a_surplus_token_replaces_the_one_held() {
        let mut role = Role::standby();
        assert_eq!(role.took(1), Taken::Lead);
        assert_eq!(role.took(2), Taken::Surplus(1));
        let late = Instant::now() + Duration::from_secs(6);
        assert_eq!(role.duty(late), Duty::Refresh(2));
        assert_eq!(role.took(3), Taken::Back);
        assert_eq!(role.took(4), Taken::Surplus(3));
    }

    #[test]
    fn a_standby_that_hears_nobody_publishes_a_token() {
        let start = Instant::now();
        let mut role = Role::standby();
        assert_eq!(role.duty(start + Duration::from_secs(31)), Duty::Publish);
        assert_eq!(role.duty(start + Duration::from_secs(32)), Duty::Wait);
    }
}
