use std::fmt;
use std::str::FromStr;

/// A name that stands for nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownName(pub(crate) String);

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown name {:?}", self.0)
    }
}

impl std::error::Error for UnknownName {}

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of a task's life.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// The name that users see.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                match text { $($text => Ok($name::$variant),)+ _ => Err(UnknownName(text.to_owned())) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

names! {
    /// Where a task is in its life.
    State {
        /// Waits for the tasks that it comes after.
        Blocked = "blocked",
        /// Waits for its time to come.
        Delayed = "delayed",
        /// Could start; waits for a worker.
        Queued = "queued",
        /// Given to a worker.
        Dispatched = "dispatched",
        /// The worker has said that it began.
        Running = "running",
        /// Failed, and waits for its next attempt.
        Retrying = "retrying",
        /// Done, with a result. Final.
        Succeeded = "succeeded",
        /// No attempts left, or a failure that retrying cannot mend. Final.
        Failed = "failed",
        /// Somebody ended it. Final.
        Cancelled = "cancelled",
        /// Its start-by passed before it started. Final.
        Expired = "expired",
        /// The submission broke a rule. Final, but the id may be submitted again.
        Rejected = "rejected",
    }
}

impl State {
    /// Whether it never changes again, except by an operator's replay.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            State::Succeeded | State::Failed | State::Cancelled | State::Expired | State::Rejected
        )
    }
}

names! {
    /// Why a task did not succeed.
    ErrorKind {
        /// The handler said so.
        Failed = "failed",
        /// The attempt ran longer than its limit.
        Timeout = "timeout",
        /// Its workers died under it too often.
        Lost = "lost",
        /// The submission broke a rule.
        Rejected = "rejected",
        /// Another task with the same unique key is not final.
        Duplicate = "duplicate",
        /// Its start-by passed.
        Expired = "expired",
        /// Somebody ended it.
        Cancelled = "cancelled",
    }
}
