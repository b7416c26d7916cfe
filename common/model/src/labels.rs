use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A set of worker labels (`gpu,zone=eu`): what a worker offers or a task requires.
///
/// Kept sorted, so that equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[Box<str>]>);

/// Why a text is no set of labels: this one is empty or has a character that labels don't have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelsError(String);

impl fmt::Display for LabelsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "labels are separated by commas, like gpu,zone=eu, and {:?} is none", self.0)
    }
}

impl std::error::Error for LabelsError {}

impl Labels {
    /// Whether every label of `required` is here.
    #[must_use]
    pub fn contains_all(&self, required: &Labels) -> bool {
        required.0.iter().all(|label| self.0.binary_search(label).is_ok())
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }
}

impl FromStr for Labels {
    type Err = LabelsError;

    fn from_str(text: &str) -> Result<Self, LabelsError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut set = BTreeSet::new();
        for label in text.split(',').map(str::trim) {
            let is_wrong = |c: char| c.is_whitespace() || c.is_control();
            if label.is_empty() || label.contains(is_wrong) {
                return Err(LabelsError(label.to_owned()));
            }
            set.insert(Box::from(label));
        }
        Ok(Self(set.into_iter().collect()))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, label) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(label)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_required_labels_are_needed() {
        let worker: Labels = "zone=eu, gpu".parse().unwrap();
        assert!(worker.contains_all(&"gpu,zone=eu".parse().unwrap()));
        assert!(worker.contains_all(&"".parse().unwrap()));
        assert!(!worker.contains_all(&"gpu,zone=us".parse().unwrap()));
        assert!("gpu,,x".parse::<Labels>().is_err());
        assert_eq!(worker.to_string(), "gpu,zone=eu");
    }
}
