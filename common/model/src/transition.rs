use crate::state::State::{self, *};

/// Where a transition may start: a state, or no record at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// There is no record: never seen, forgotten, or Redis lost it.
    Absent,
    /// The record is in this state.
    At(State),
}

use Origin::{Absent, At};

/// Whether the record as it was is wanted although a change is made; a refusal always brings it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wants {
    /// No.
    #[default]
    Nothing,
    /// Only if it names a reply address, which is all that matters of it.
    ReplyAddress,
    /// Yes.
    Record,
}

/// A named change of a task's record: the only ones there are.
///
/// The store writes nothing else, and compares state and attempt in the same step, so two writers
/// cannot both succeed. [`Transition::from`] and [`Transition::to`] are the state machine; the
/// picture in the docs and the exhaustive test below are made from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transition {
    /// Taken in: waits for a worker or for its time.
    Accept,
    /// Taken in and given to a worker in one step.
    AcceptDispatched,
    /// The submission broke a rule.
    Refuse,
    /// The record was lost; a copy carries it back.
    Rebuild,
    /// Given to a worker: the only change that raises the attempt.
    Dispatch,
    /// A copy proves an attempt that the record has forgotten: Redis went back.
    Adopt,
    /// The worker says that it began.
    Start,
    /// The handler reports how far it is.
    Progress,
    /// Done.
    Succeed,
    /// Failed, and will be tried again.
    Retry,
    /// Failed for good.
    Fail,
    /// Came back, and waits again: not started (free), or its worker was lost (charged).
    Requeue,
    /// Somebody asked to end it while a worker has it.
    AskCancel,
    /// Ended before a worker had it.
    Cancel,
    /// Ended while a worker had it: the worker let go of it.
    CancelTaken,
    /// Its start-by passed.
    Expire,
    /// A second submission: the latest reply address wins.
    Readdress,
    /// What was owed for the final state (reply, dead letter) has been delivered.
    Settle,
    /// An operator puts a dead letter back.
    Replay,
}

impl Transition {
    /// Every transition.
    pub const ALL: &[Transition] = &[
        Transition::Accept,
        Transition::AcceptDispatched,
        Transition::Refuse,
        Transition::Rebuild,
        Transition::Dispatch,
        Transition::Adopt,
        Transition::Start,
        Transition::Progress,
        Transition::Succeed,
        Transition::Retry,
        Transition::Fail,
        Transition::Requeue,
        Transition::AskCancel,
        Transition::Cancel,
        Transition::CancelTaken,
        Transition::Expire,
        Transition::Readdress,
        Transition::Settle,
        Transition::Replay,
    ];

    /// Where it may start.
    ///
    /// A success counts from `queued` and `retrying` too: it may come after the attempt was given
    /// up. Without a record it counts as well (Redis lost it); the report has all that is needed.
    #[must_use]
    pub const fn from(self) -> &'static [Origin] {
        match self {
            Transition::Accept | Transition::AcceptDispatched | Transition::Refuse => {
                &[Absent, At(Rejected)]
            }
            Transition::Rebuild => &[Absent],
            Transition::Dispatch => &[At(Queued), At(Delayed), At(Retrying)],
            Transition::Adopt => {
                &[At(Blocked), At(Delayed), At(Queued), At(Dispatched), At(Running), At(Retrying)]
            }
            Transition::Start => &[At(Dispatched)],
            Transition::Progress | Transition::AskCancel => &[At(Dispatched), At(Running)],
            Transition::Succeed => &[Absent, At(Queued), At(Dispatched), At(Running), At(Retrying)],
            Transition::Retry | Transition::Requeue | Transition::CancelTaken => {
                &[At(Dispatched), At(Running)]
            }
            Transition::Fail => &[At(Dispatched), At(Running)],
            Transition::Cancel => &[At(Blocked), At(Delayed), At(Queued), At(Retrying)],
            Transition::Expire => {
                &[Absent, At(Blocked), At(Delayed), At(Queued), At(Retrying), At(Dispatched)]
            }
            Transition::Readdress => {
                &[At(Blocked), At(Delayed), At(Queued), At(Dispatched), At(Running), At(Retrying)]
            }
            Transition::Settle => {
                &[At(Succeeded), At(Failed), At(Cancelled), At(Expired), At(Rejected)]
            }
            Transition::Replay => &[At(Failed)],
        }
    }

    /// The states it may end in; empty where the state stays as it is.
    #[must_use]
    pub const fn to(self) -> &'static [State] {
        match self {
            Transition::Accept | Transition::Rebuild => &[Delayed, Queued],
            Transition::AcceptDispatched | Transition::Dispatch | Transition::Adopt => {
                &[Dispatched]
            }
            Transition::Refuse => &[Rejected],
            Transition::Start => &[Running],
            Transition::Succeed => &[Succeeded],
            Transition::Retry => &[Retrying],
            Transition::Fail => &[Failed],
            Transition::Requeue | Transition::Replay => &[Queued],
            Transition::Cancel | Transition::CancelTaken => &[Cancelled],
            Transition::Expire => &[Expired],
            Transition::Progress
            | Transition::AskCancel
            | Transition::Readdress
            | Transition::Settle => &[],
        }
    }

    /// Whether it may start here.
    #[must_use]
    pub fn is_allowed(self, from: Origin) -> bool {
        self.from().contains(&from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_operator_or_a_new_submission_leaves_a_final_state() {
        for &transition in Transition::ALL {
            for &state in State::ALL.iter().filter(|state| state.is_final()) {
                let leaves = transition.is_allowed(At(state)) && !transition.to().is_empty();
                let expected = match state {
                    Rejected => matches!(
                        transition,
                        Transition::Accept | Transition::AcceptDispatched | Transition::Refuse
                    ),
                    Failed => transition == Transition::Replay,
                    _ => false,
                };
                assert_eq!(leaves, expected, "{transition:?} from {state}");
            }
        }
    }

    #[test]
    fn every_state_but_final_ones_can_be_left() {
        for &state in State::ALL.iter().filter(|state| !state.is_final()) {
            let ways =
                Transition::ALL.iter().filter(|t| t.is_allowed(At(state)) && !t.to().is_empty());
            assert!(ways.count() > 0, "{state}");
        }
    }

    #[test]
    fn only_three_transitions_end_dispatched() {
        let to_dispatched = |t: &&Transition| t.to().contains(&Dispatched);
        let found: Vec<_> = Transition::ALL.iter().filter(to_dispatched).collect();
        assert_eq!(
            found,
            [&Transition::AcceptDispatched, &Transition::Dispatch, &Transition::Adopt]
        );
    }
}
