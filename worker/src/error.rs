use std::error::Error;
use std::fmt;
use std::time::Duration;
use taskyard_model::ErrorKind;

/// Longest text of an error in bytes: it is kept in the task's record and shown to people.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// Why an attempt failed, and whether another one can help.
///
/// Every error of the standard kind becomes a retryable one by `?`, its sources joined by `: `.
///
/// ```
/// use taskyard_worker::TaskError;
///
/// fn port(text: &str) -> Result<u16, TaskError> {
///     if text.is_empty() {
///         return Err(TaskError::permanent("there is no port, and there never will be"));
///     }
///     Ok(text.parse::<u16>()?)
/// }
///
/// assert!(port("").unwrap_err().is_permanent());
/// assert!(!port("x").unwrap_err().is_permanent());
/// ```
// It cannot be a standard error itself: the blanket `From` below would then overlap with the
// reflexive one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskError {
    text: String,
    kind: ErrorKind,
    is_permanent: bool,
    retry_after: Option<Duration>,
}

impl TaskError {
    /// Another attempt may succeed: it is made after the task's backoff, unless it was the last.
    #[must_use]
    pub fn retryable(text: impl Into<String>) -> Self {
        Self::new(text.into(), ErrorKind::Failed, false)
    }

    /// No other attempt can succeed: the task is `failed` at once.
    #[must_use]
    pub fn permanent(text: impl Into<String>) -> Self {
        Self::new(text.into(), ErrorKind::Failed, true)
    }

    /// The attempt took longer than the handler allows itself; retryable. (The submitter's
    /// `x-task-timeout` is enforced without the handler's help.)
    #[must_use]
    pub fn timed_out(text: impl Into<String>) -> Self {
        Self::new(text.into(), ErrorKind::Timeout, false)
    }

    /// The same error, and not before this time is worth another attempt: a lower bound of the task's
    /// backoff for this once. The dispatcher takes a day for more than a day.
    ///
    /// ```
    /// use std::time::Duration;
    /// use taskyard_worker::TaskError;
    ///
    /// let error = TaskError::retryable("busy").with_retry_after(Duration::from_secs(30));
    /// assert_eq!(error.retry_after(), Some(Duration::from_secs(30)));
    /// ```
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether no other attempt can succeed.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.is_permanent
    }

    /// How long the next attempt has to wait at least, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What the task's record says besides the text.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn cancelled() -> Self {
        Self::new("cancelled".to_owned(), ErrorKind::Cancelled, true)
    }

    pub(crate) fn expired() -> Self {
        let text = "its start-by had passed when the worker could have begun";
        Self::new(text.to_owned(), ErrorKind::Expired, true)
    }

    fn new(mut text: String, kind: ErrorKind, is_permanent: bool) -> Self {
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        Self { text, kind, is_permanent, retry_after: None }
    }
}

impl<E: Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        Self::retryable(text)
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("outside")]
        struct Outside(#[source] std::num::ParseIntError);
        let inside = "x".parse::<u8>().unwrap_err();
        let error = TaskError::from(Outside(inside));
        assert_eq!(error.text(), "outside: invalid digit found in string");
        assert_eq!((error.is_permanent(), error.kind()), (false, ErrorKind::Failed));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let error = TaskError::retryable("ä".repeat(TEXT_BYTES_MAX));
        assert_eq!(error.text().len(), TEXT_BYTES_MAX);
        let error = TaskError::retryable(format!("x{}", "ä".repeat(TEXT_BYTES_MAX)));
        assert_eq!(error.text().len(), TEXT_BYTES_MAX - 1);
    }
}
