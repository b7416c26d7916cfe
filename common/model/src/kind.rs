use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest kind in bytes: it is an AMQP routing key.
const KIND_BYTES_MAX: usize = 255;

/// What sort of task it is (`image.resize`): words joined by dots, the routing key of a submission.
///
/// 1 to 255 bytes of printable characters without white space; `*` and `#` stand for patterns and
/// are refused.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(Arc<str>);

/// Why a text is no kind or no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KindError {
    /// It is empty.
    Empty,
    /// It is longer than 255 bytes.
    TooLong,
    /// It has this character.
    Character(char),
}

impl fmt::Display for KindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KindError::Empty => write!(f, "a kind is missing: publish with it as the routing key"),
            KindError::TooLong => write!(f, "a kind has at most {KIND_BYTES_MAX} bytes"),
            KindError::Character(c) => {
                write!(f, "a kind is words joined by dots, like image.resize, without {c:?}")
            }
        }
    }
}

impl std::error::Error for KindError {}

impl Kind {
    /// Checks the rule for kinds.
    ///
    /// # Errors
    /// Says which part of the rule the text breaks.
    pub fn new(text: &str) -> Result<Self, KindError> {
        if let Some(c) =
            text.chars().find(|&c| c.is_whitespace() || c.is_control() || c == '*' || c == '#')
        {
            return Err(KindError::Character(c));
        }
        match text.len() {
            0 => Err(KindError::Empty),
            1..=KIND_BYTES_MAX => Ok(Self(text.into())),
            _ => Err(KindError::TooLong),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Kind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        Self::new(text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A pattern over kinds as AMQP's topic exchanges read it: `*` is one word, `#` any number of words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Checks that it can be a binding key: 1 to 255 bytes without white space.
    ///
    /// # Errors
    /// Says which part of the rule the text breaks.
    pub fn new(text: &str) -> Result<Self, KindError> {
        if let Some(c) = text.chars().find(|&c| c.is_whitespace() || c.is_control()) {
            return Err(KindError::Character(c));
        }
        match text.len() {
            0 => Err(KindError::Empty),
            1..=KIND_BYTES_MAX => Ok(Self(text.into())),
            _ => Err(KindError::TooLong),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the kind fits the pattern.
    ///
    /// Greedy with one point to fall back to, so the time is at most words of the kind times words
    /// of the pattern, whatever the pattern.
    #[must_use]
    pub fn matches(&self, kind: &Kind) -> bool {
        let pattern: Vec<&str> = self.0.split('.').collect();
        let words: Vec<&str> = kind.as_str().split('.').collect();
        let (mut p, mut w, mut fall_back) = (0, 0, None);
        while w < words.len() {
            match pattern.get(p) {
                Some(&"#") => {
                    fall_back = Some((p, w));
                    p += 1;
                }
                Some(&word) if word == "*" || word == words[w] => {
                    p += 1;
                    w += 1;
                }
                _ => match fall_back {
                    Some((hash, taken)) => {
                        fall_back = Some((hash, taken + 1));
                        p = hash + 1;
                        w = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|&word| word == "#")
    }

    /// Whether some kind fits both patterns.
    ///
    /// From the last words to the first: two rests overlap where their first words do and what is
    /// behind them does. Time and memory are words of one times words of the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let one: Vec<&str> = self.0.split('.').collect();
        let two: Vec<&str> = other.0.split('.').collect();
        // `below[j]` is about the rest of `one` behind the present word and `two[j..]`.
        let mut below: Vec<bool> =
            (0..=two.len()).map(|j| two[j..].iter().all(|&word| word == "#")).collect();
        for i in (0..one.len()).rev() {
            let mut rest = vec![false; two.len() + 1];
            rest[two.len()] = one[i..].iter().all(|&word| word == "#");
            for j in (0..two.len()).rev() {
                rest[j] = match (one[i], two[j]) {
                    ("#", _) | (_, "#") => below[j] || rest[j + 1],
                    (a, b) => (a == "*" || b == "*" || a == b) && below[j + 1],
                };
            }
            below = rest;
        }
        below[0]
    }
}

impl FromStr for Pattern {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        Self::new(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, kind: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(&Kind::new(kind).unwrap())
    }

    #[test]
    fn patterns_match_like_a_topic_exchange() {
        let table = [
            ("echo", "echo", true),
            ("echo", "echo.x", false),
            ("#", "a.b.c", true),
            ("email.#", "email", true),
            ("email.#", "email.send.now", true),
            ("email.#", "emails.send", false),
            ("*.resize", "image.resize", true),
            ("*.resize", "resize", false),
            ("a.#.z", "a.z", true),
            ("a.#.z", "a.b.c.z", true),
            ("a.#.z", "a.b.c", false),
            ("#.b.#", "a.b.c", true),
            ("#.#", "a", true),
            ("*", "a.b", false),
        ];
        for (pattern, kind, expected) in table {
            assert_eq!(fits(pattern, kind), expected, "{pattern} {kind}");
        }
    }

    #[test]
    fn patterns_overlap_where_a_kind_fits_both() {
        let table = [
            ("mail.#", "mail.send", true),
            ("mail.#", "mail", true),
            ("mail.*", "mail", false),
            ("*.send", "mail.*", true),
            ("*.send", "mail.*.now", false),
            ("a.#.z", "#.b", false),
            ("a.#.z", "#.y.#", true),
            ("#", "a.b.c", true),
            ("a.b", "a.c", false),
            ("#.a", "b.#", true),
        ];
        for (one, two, expected) in table {
            let [a, b] = [one, two].map(|text| Pattern::new(text).unwrap());
            assert_eq!((a.overlaps(&b), b.overlaps(&a)), (expected, expected), "{one} {two}");
        }
    }

    #[test]
    fn kinds_follow_the_rule() {
        assert_eq!(Kind::new(""), Err(KindError::Empty));
        assert_eq!(Kind::new(&"k".repeat(256)), Err(KindError::TooLong));
        assert!(matches!(Kind::new("a b"), Err(KindError::Character(' '))));
        assert!(matches!(Kind::new("a.#"), Err(KindError::Character('#'))));
        assert!(Kind::new("größe.ändern").is_ok());
    }
}
