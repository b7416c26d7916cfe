use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// All keys of handlers, to tell a wrong one from one in the wrong place.
const KEYS: [&str; 15] = [
    "kind",
    "exec",
    "http",
    "resident",
    "timeout_ms",
    "concurrency",
    "dir",
    "env",
    "user",
    "uid",
    "gid",
    "memory_max",
    "cpu_seconds_max",
    "headers",
    "recycle_after",
];

/// The keys of one handler, taken out one by one. What is wrong with them gathers, so that all of it
/// can be told together.
pub(super) struct Keys {
    /// How problems name the handler.
    name: String,
    table: toml::Table,
    pub(super) problems: Vec<String>,
    /// Variables of the environment whose values were taken.
    pub(super) secrets: BTreeSet<String>,
}

impl Keys {
    /// Those of the handler of that number in the file.
    pub(super) fn of(number: usize, table: toml::Table) -> Self {
        let name = match table.get("kind").and_then(toml::Value::as_str) {
            Some(kind) => format!("handler {number} ({kind})"),
            None => format!("handler {number}"),
        };
        Self { name, table, problems: Vec::new(), secrets: BTreeSet::new() }
    }

    /// Notes what is wrong.
    pub(super) fn problem(&mut self, text: impl AsRef<str>) {
        self.problems.push(format!("{}: {}", self.name, text.as_ref()));
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of a key, if it is there and of the type.
    pub(super) fn take<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        let value = self.table.remove(key)?;
        match value.try_into() {
            Ok(value) => Some(value),
            Err(error) => {
                let text = format!("{key}: {}", error.message());
                self.problem(text);
                None
            }
        }
    }

    /// A number from 1.
    pub(super) fn number(&mut self, key: &str) -> Option<u64> {
        let number = self.take(key)?;
        if number == 0 {
            self.problem(format!("{key} must be at least 1"));
        }
        Some(number)
    }

    /// The same, where more than some thousand make no sense.
    pub(super) fn small_number(&mut self, key: &str) -> Option<u32> {
        let number = self.number(key)?;
        let small = u32::try_from(number).ok();
        if small.is_none() {
            self.problem(format!("{key}: {number} is too large"));
        }
        small
    }

    /// A number of bytes: `1048576`, `"1024k"`, `"1m"`, `"2g"`.
    pub(super) fn bytes(&mut self, key: &str) -> Option<u64> {
        let text = match self.table.get(key) {
            Some(toml::Value::String(text)) => text.clone(),
            _ => return self.number(key),
        };
        self.table.remove(key);
        let bytes = bytes(&text);
        if bytes.is_none() {
            self.problem(format!("{key}: {text:?} is no size; write bytes, or \"512m\""));
        }
        bytes
    }

    /// A table of texts, of which each is given here or by a variable of the environment.
    pub(super) fn texts(&mut self, key: &str) -> BTreeMap<String, String> {
        let table: toml::Table = self.take(key).unwrap_or_default();
        let mut texts = BTreeMap::new();
        for (name, value) in table {
            match text(value) {
                Ok(Text::Plain(value)) => drop(texts.insert(name, value)),
                Ok(Text::Variable(variable)) => {
                    match std::env::var(&variable) {
                        Ok(value) => drop(texts.insert(name, value)),
                        Err(_) => self.problem(format!(
                            "{key}.{name}: the environment has no text named {variable}"
                        )),
                    }
                    self.secrets.insert(variable);
                }
                Err(()) => {
                    self.problem(format!("{key}.{name} is neither a text nor {{ env = \"NAME\" }}"))
                }
            }
        }
        texts
    }

    /// What is left does not belong here.
    pub(super) fn refuse_the_rest(&mut self) {
        for (key, _) in std::mem::take(&mut self.table) {
            if KEYS.contains(&key.as_str()) {
                self.problem(format!("{key} does not go with what it does"));
            } else {
                self.problem(format!("there is no key {key}"));
            }
        }
    }
}

/// A text, or where it is.
enum Text {
    Plain(String),
    Variable(String),
}

fn text(value: toml::Value) -> Result<Text, ()> {
    match value {
        toml::Value::String(text) => Ok(Text::Plain(text)),
        toml::Value::Table(mut table) => match (table.remove("env"), table.len()) {
            (Some(toml::Value::String(variable)), 0) => Ok(Text::Variable(variable)),
            _ => Err(()),
        },
        _ => Err(()),
    }
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("4096"), Some(4096));
        assert_eq!((bytes("2k"), bytes("3M")), (Some(2048), Some(3 << 20)));
        assert_eq!(bytes("1g"), Some(1 << 30));
        for text in ["", "m", "1t", "1.5g", "-1", "0", "1 m", "99999999999999g"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
