use std::collections::HashSet;

/// Complaints remembered; beyond it all are forgotten and may be made once more.
const REMEMBERED_MAX: usize = 1_000;

/// What has been complained of: who sends the same nonsense every two seconds is told once.
#[derive(Debug, Default)]
pub(crate) struct Complaints(HashSet<String>);

impl Complaints {
    /// Whether it has not been said yet; it counts as said from now on.
    pub(crate) fn is_new(&mut self, text: &str) -> bool {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        self.0.insert(text.to_owned())
    }
}
