use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest id in characters: queue names and routing keys hold 255 bytes, prefixes included.
const ID_CHARS_MAX: usize = 128;

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdError {
    /// It is empty.
    Empty,
    /// It has this many characters, more than 128.
    TooLong(usize),
    /// It has this character, which is not one of `A-Z a-z 0-9 . _ : -`.
    Character(char),
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdError::Empty => write!(f, "an id needs at least one character"),
            IdError::TooLong(n) => {
                write!(f, "an id has at most {ID_CHARS_MAX} characters, this one has {n}")
            }
            IdError::Character(c) => {
                write!(f, "an id is made of A-Z a-z 0-9 . _ : - and this one has {c:?}")
            }
        }
    }
}

impl std::error::Error for IdError {}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_CHARS_MAX {
        return Err(IdError::TooLong(text.chars().count()));
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
    text.chars().find(|&c| !is_allowed(c)).map_or(Ok(()), |c| Err(IdError::Character(c)))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to 128 characters of `A-Z a-z 0-9 . _ : -`. Cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the rule for ids.
            ///
            /// # Errors
            /// Says which part of the rule the text breaks.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(text).map(|()| Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id! {
    /// Names one task for as long as its state is remembered.
    TaskId
}
id! {
    /// Names one worker; unique in the namespace, the same over restarts.
    WorkerId
}
id! {
    /// Names one pool: a set of kinds, the dispatcher that leads it and the workers that serve it.
    PoolName
}

impl PoolName {
    /// The pool that takes every kind that no other pool has bound.
    #[must_use]
    pub fn default_pool() -> Self {
        Self("default".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_rule() {
        for good in ["a", "A-b_c.d:9", &"x".repeat(128)] {
            assert_eq!(TaskId::new(good).unwrap().as_str(), good);
        }
        assert_eq!(TaskId::new(""), Err(IdError::Empty));
        assert_eq!(TaskId::new(&"x".repeat(129)), Err(IdError::TooLong(129)));
        for bad in [" ", "a b", "ä", "a/b", "a\n", "{x}"] {
            assert!(matches!(TaskId::new(bad), Err(IdError::Character(_))), "{bad:?}");
        }
    }
}
