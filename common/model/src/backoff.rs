use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How long a failed task waits before its next attempt.
///
/// Written `fixed:1000`, `linear:1000` or `exponential:1000:60000` (base and cap in milliseconds).
/// The exponential one has full jitter (Brooker, "Exponential Backoff and Jitter", AWS 2015): a
/// uniform share of `min(cap, base * 2^(failures-1))`, so that tasks that failed together don't
/// come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Always the same.
    Fixed {
        /// The wait.
        base_ms: u64,
    },
    /// The base times the number of failures.
    Linear {
        /// The wait after the first failure.
        base_ms: u64,
    },
    /// A uniform share of the base doubled with each failure, up to the cap.
    Exponential {
        /// The longest wait after the first failure.
        base_ms: u64,
        /// The longest wait at all.
        cap_ms: u64,
    },
}

/// A text that is no backoff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackoffError(String);

impl fmt::Display for BackoffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a backoff is fixed:MS, linear:MS or exponential:MS:CAP_MS \
             (at most 10 years), not {:?}",
            self.0
        )
    }
}

impl std::error::Error for BackoffError {}

/// Longest wait: ten years in milliseconds, far below where adding it to a date would overflow.
const WAIT_MS_MAX: u64 = 10 * 366 * 86_400_000;

impl Default for Backoff {
    fn default() -> Self {
        Backoff::Exponential { base_ms: 1_000, cap_ms: 600_000 }
    }
}

impl Backoff {
    /// The wait after the `failures`-th failure (from 1), with `share` in `0.0..1.0` drawn uniformly.
    #[must_use]
    pub fn wait(self, failures: u32, share: f64) -> Duration {
        let ms = match self {
            Backoff::Fixed { base_ms } => base_ms,
            Backoff::Linear { base_ms } => base_ms.saturating_mul(u64::from(failures.max(1))),
            Backoff::Exponential { base_ms, cap_ms } => {
                let doublings = failures.saturating_sub(1).min(63);
                let ceiling = base_ms.saturating_mul(1 << doublings).min(cap_ms);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::cast_precision_loss,
                    reason = "a share of a wait needs no exactness"
                )]
                let part = (ceiling as f64 * share.clamp(0.0, 1.0)) as u64;
                part
            }
        };
        Duration::from_millis(ms.min(WAIT_MS_MAX))
    }
}

impl FromStr for Backoff {
    type Err = BackoffError;

    fn from_str(text: &str) -> Result<Self, BackoffError> {
        let error = || BackoffError(text.to_owned());
        let ms = |part: &str| match part.parse::<u64>() {
            Ok(ms) if ms <= WAIT_MS_MAX => Ok(ms),
            _ => Err(error()),
        };
        match text.split(':').collect::<Vec<_>>()[..] {
            ["fixed", base] => Ok(Backoff::Fixed { base_ms: ms(base)? }),
            ["linear", base] => Ok(Backoff::Linear { base_ms: ms(base)? }),
            ["exponential", base, cap] => {
                Ok(Backoff::Exponential { base_ms: ms(base)?, cap_ms: ms(cap)? })
            }
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Backoff::Fixed { base_ms } => write!(f, "fixed:{base_ms}"),
            Backoff::Linear { base_ms } => write!(f, "linear:{base_ms}"),
            Backoff::Exponential { base_ms, cap_ms } => write!(f, "exponential:{base_ms}:{cap_ms}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_as_written() {
        let wait =
            |text: &str, failures| text.parse::<Backoff>().unwrap().wait(failures, 1.0).as_millis();
        assert_eq!([1, 2, 9].map(|n| wait("fixed:1000", n)), [1000, 1000, 1000]);
        assert_eq!([1, 2, 9].map(|n| wait("linear:1000", n)), [1000, 2000, 9000]);
        assert_eq!(
            [1, 2, 9, 100].map(|n| wait("exponential:1000:60000", n)),
            [1000, 2000, 60000, 60000]
        );
        assert_eq!(
            "exponential:1000:60000".parse::<Backoff>().unwrap().wait(3, 0.25).as_millis(),
            1000
        );
    }

    #[test]
    fn wrong_texts_are_refused() {
        for text in [
            "",
            "fixed",
            "fixed:",
            "fixed:-1",
            "linear:1:2",
            "exponential:1",
            "fixed:1e3",
            "fixed:999999999999999",
        ] {
            assert!(text.parse::<Backoff>().is_err(), "{text}");
        }
    }
}
