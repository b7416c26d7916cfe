use taskyard_common::names::Names;
use taskyard_common::store::Deed;
use taskyard_model::{PoolName, WorkerId};

/// Whose permissions the user in use should have: the table of docs/operations.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Somebody who looks: whatever the user may do is right.
    #[default]
    Operator,
    /// Submits tasks and sends commands.
    Submitter,
    /// Runs tasks; has no Redis.
    Worker,
    /// Decides.
    Dispatcher,
}

/// Something that a user may do on RabbitMQ, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Publish to the exchange of this name; the empty one reaches every queue.
    Publish(String),
    /// Consume the queue of this name.
    Consume(String),
    /// Have a queue of its own connection, bound to the exchange of this name if there is one.
    OwnQueue(Option<String>),
}

/// An act, and whether the role has to be allowed it; else it has to be forbidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) act: Act,
    pub(crate) is_needed: bool,
}

impl Role {
    /// What to try on RabbitMQ.
    pub(crate) fn acts(self, names: &Names, worker: Option<&WorkerId>) -> Vec<Expected> {
        let needed = |act| Expected { act, is_needed: true };
        let forbidden = |act| Expected { act, is_needed: false };
        let pool = PoolName::default_pool();
        let forging = [String::new(), names.again(), names.delay(0)].map(Act::Publish);
        match self {
            Role::Operator => Vec::new(),
            Role::Submitter => {
                let mut acts = vec![
                    needed(Act::Publish(names.tasks())),
                    needed(Act::Publish(names.commands())),
                    needed(Act::OwnQueue(None)),
                ];
                acts.extend(forging.map(forbidden));
                acts.push(forbidden(Act::Publish(names.outcomes())));
                acts
            }
            Role::Worker => {
                let mut acts = vec![
                    needed(Act::Publish(names.heartbeats())),
                    needed(Act::Publish(names.outcomes())),
                    needed(Act::OwnQueue(Some(names.control()))),
                ];
                acts.extend(worker.map(|worker| needed(Act::Consume(names.worker(worker)))));
                acts.extend(forging.map(forbidden));
                acts
            }
            Role::Dispatcher => {
                let mut acts: Vec<Expected> = forging.map(needed).into();
                acts.push(needed(Act::OwnQueue(Some(names.heartbeats()))));
                acts.push(needed(Act::Publish(names.control())));
                let queues = [names.submit(&pool), names.outcomes_queue(&pool), names.dead()];
                acts.extend(queues.map(Act::Consume).map(needed));
                acts
            }
        }
    }

    /// Whether its user may declare what is there, so that it can be compared.
    pub(crate) fn compares(self) -> bool {
        matches!(self, Role::Operator | Role::Dispatcher)
    }

    /// What it does on Redis.
    pub(crate) fn deeds(self) -> &'static [Deed] {
        match self {
            Role::Dispatcher => &[Deed::Read, Deed::Write, Deed::Restore],
            Role::Operator | Role::Submitter => &[Deed::Read],
            Role::Worker => &[],
        }
    }
}
