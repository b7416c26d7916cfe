use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use taskyard_model::{
    Kind, Origin, PoolName, State, TaskId, Timestamp, Transition, Wants, WorkerId,
};

/// One transition of one task's record, to be made if the record is where it may start.
#[derive(Clone, Debug)]
pub struct Change {
    /// The task.
    pub id: TaskId,
    /// The transition: says from which states it is allowed.
    pub transition: Transition,
    /// Which attempt the record must be at; not looked at where there is no record.
    pub expect: Expect,
    /// The new state, one of [`Transition::to`]; `None` exactly where that is empty.
    pub state: Option<State>,
    /// Fields to write, besides `state` and `id`. Absolute values only, so that a repetition
    /// changes nothing.
    pub fields: Vec<(&'static str, Value)>,
    /// What becomes of the stored payload. A fresh record forgets the payload of an earlier one.
    pub payload: PayloadOp,
    /// How long the record is kept.
    pub keep: Keep,
    /// Whether the record as it was before is wanted although the change applies (one more call
    /// inside Redis).
    pub wants: Wants,
}

impl Change {
    /// A change that writes nothing but the state, whatever the attempt.
    #[must_use]
    pub fn new(id: TaskId, transition: Transition, state: Option<State>) -> Self {
        Self {
            id,
            transition,
            expect: Expect::Any,
            state,
            fields: Vec::new(),
            payload: PayloadOp::Keep,
            keep: Keep::Unchanged,
            wants: Wants::Nothing,
        }
    }

    /// What the table of transitions does not allow about it, if anything.
    pub(super) fn mistake(&self) -> Option<String> {
        let to = self.transition.to();
        let is_state_right = self.state.map_or_else(|| to.is_empty(), |state| to.contains(&state));
        let is_field_wrong = self.fields.iter().any(|(name, _)| matches!(*name, "state" | "id"));
        (!is_state_right || is_field_wrong)
            .then(|| format!("{:?} of {:?} to {:?}", self.transition, self.id, self.state))
    }
}

/// Which attempt the record must be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whichever.
    Any,
    /// This one.
    Exactly(u32),
    /// An earlier one than this.
    Below(u32),
}

/// What is written into a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number, in decimal.
    Int(u64),
    /// A word that the program knows.
    Word(&'static str),
    /// Any text.
    Text(Arc<str>),
    /// Any bytes.
    Bytes(Bytes),
    /// A worker's id.
    Worker(WorkerId),
    /// A pool's name.
    Pool(PoolName),
    /// A kind.
    Kind(Kind),
}

impl Value {
    /// The empty text: unknown, or no longer so.
    pub const EMPTY: Value = Value::Word("");

    /// Bytes it takes in a command, roughly.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Value::Int(_) => 13,
            other => other.as_bytes().len(),
        }
    }

    /// The bytes of everything but numbers.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Value::Int(_) => &[],
            Value::Word(text) => text.as_bytes(),
            Value::Text(text) => text.as_bytes(),
            Value::Bytes(bytes) => bytes,
            Value::Worker(id) => id.as_str().as_bytes(),
            Value::Pool(pool) => pool.as_str().as_bytes(),
            Value::Kind(kind) => kind.as_str().as_bytes(),
        }
    }
}

macro_rules! from {
    ($($source:ty: $name:ident => $value:expr,)+) => {
        $(impl From<$source> for Value {
            fn from($name: $source) -> Self {
                $value
            }
        })+
    };
}

from! {
    u64: n => Value::Int(n),
    u32: n => Value::Int(n.into()),
    u8: n => Value::Int(n.into()),
    Timestamp: at => Value::Int(at.as_ms()),
    &'static str: word => Value::Word(word),
    String: text => Value::Text(text.into()),
    Arc<str>: text => Value::Text(text),
    Bytes: bytes => Value::Bytes(bytes),
    WorkerId: id => Value::Worker(id),
    PoolName: pool => Value::Pool(pool),
    Kind: kind => Value::Kind(kind),
    State: state => Value::Word(state.as_str()),
}

/// What becomes of the stored payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadOp {
    /// It stays, or stays away.
    Keep,
    /// It is stored.
    Set(Bytes),
    /// It is deleted.
    Delete,
}

/// How long the record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As before; a fresh record forever.
    Unchanged,
    /// This long from now, whole milliseconds, at least one and at most ten years.
    For(Duration),
    /// Until somebody ends it.
    Forever,
}

impl Keep {
    /// Milliseconds that Redis accepts: an expiry that overflows would fail after the fields were
    /// written, and zero would delete the record at once.
    pub(super) fn ms(duration: Duration) -> u64 {
        const TEN_YEARS_MS: u64 = 10 * 366 * 86_400_000;
        u64::try_from(duration.as_millis()).unwrap_or(TEN_YEARS_MS).clamp(1, TEN_YEARS_MS)
    }
}

/// One thing to do in a call.
#[derive(Clone, Debug)]
pub enum Op {
    /// Make a change, if it is allowed.
    Change(Change),
    /// Read a record.
    Read(TaskId),
    /// Read a record and the stored payload.
    Payload(TaskId),
}

/// Whether the transition takes something in: these are refused when memory is full. All others
/// end a task or carry it on to its end, and must go through for memory to become free.
pub(super) fn takes_in(transition: Transition) -> bool {
    match transition {
        Transition::Accept
        | Transition::AcceptDispatched
        | Transition::Refuse
        | Transition::Rebuild
        | Transition::Readdress
        | Transition::Replay => true,
        Transition::Dispatch
        | Transition::Adopt
        | Transition::Start
        | Transition::Progress
        | Transition::Succeed
        | Transition::Retry
        | Transition::Fail
        | Transition::Requeue
        | Transition::AskCancel
        | Transition::Cancel
        | Transition::CancelTaken
        | Transition::Expire
        | Transition::Settle => false,
    }
}

/// The states that a transition may start from as the script wants them: `|absent|rejected|`.
pub(super) fn allowed(transition: Transition) -> String {
    let mut text = String::from("|");
    for origin in transition.from() {
        text.push_str(match origin {
            Origin::Absent => "absent",
            Origin::At(state) => state.as_str(),
        });
        text.push('|');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_what_redis_accepts() {
        assert_eq!(Keep::ms(Duration::ZERO), 1);
        assert_eq!(Keep::ms(Duration::from_secs(3600)), 3_600_000);
        assert_eq!(Keep::ms(Duration::MAX), 316_224_000_000);
    }

    #[test]
    fn mistakes_are_found() {
        let id = TaskId::new("t").unwrap();
        let change = |transition, state| Change::new(id.clone(), transition, state);
        assert_eq!(change(Transition::Accept, Some(State::Queued)).mistake(), None);
        assert_eq!(change(Transition::Settle, None).mistake(), None);
        assert!(change(Transition::Accept, None).mistake().is_some());
        assert!(change(Transition::Accept, Some(State::Running)).mistake().is_some());
        assert!(change(Transition::Settle, Some(State::Queued)).mistake().is_some());
        let mut twice = change(Transition::Start, Some(State::Running));
        twice.fields.push(("state", Value::Word("queued")));
        assert!(twice.mistake().is_some());
    }
}
