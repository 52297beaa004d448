//! What follows an attempt that failed: another one after a while, or giving up. Plain data: the random number comes
//! from outside.

use std::time::Duration;

use crate::{config::Retry, handler::Outcome};

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Try again after this long.
    Again {
        /// How long the lane waits.
        after: Duration,
        /// Why the attempt failed.
        reason: String,
    },
    /// The record is given up on; the group's `on-reject` says what becomes of it.
    GiveUp {
        /// Why.
        reason: String,
    },
}

/// Judges an attempt that ended in `outcome`; `random` is from 0 to 1. `None`: it did not fail.
pub fn judge(retry: &Retry, attempt: u32, outcome: &Outcome, random: f64) -> Option<Verdict> {
    let (reason, after) = match outcome {
        Outcome::Handled(_) => return None,
        Outcome::Reject { reason } => return Some(Verdict::GiveUp { reason: reason.clone() }),
        Outcome::Retry { reason, after } => (reason.clone(), *after),
        Outcome::Failed(failure) => (failure.to_string(), None),
    };
    if attempt >= retry.attempts {
        return Some(Verdict::GiveUp { reason });
    }
    let after = after.unwrap_or_else(|| backoff(retry, attempt).mul_f64(random));
    Some(Verdict::Again { after, reason })
}

/// The longest wait after `attempt` attempts: doubled each time, up to the bound. The actual wait is random below it
/// ("full jitter": https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).
pub(super) fn backoff(retry: &Retry, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(31);
    retry.backoff.saturating_mul(1 << doublings).min(retry.max_backoff)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry = Retry {
        attempts: 3,
        backoff: Duration::from_millis(100),
        max_backoff: Duration::from_millis(250),
    };

    fn later(after: Option<Duration>) -> Outcome {
        Outcome::Retry { reason: "not now".into(), after }
    }

    #[test]
    fn the_wait_doubles_up_to_its_bound_and_is_random_below_it() {
        for (attempt, bound) in [(1, 100), (2, 200), (3, 250), (40, 250), (u32::MAX, 250)] {
            assert_eq!(backoff(&RETRY, attempt), Duration::from_millis(bound));
        }
        let after = Duration::from_millis(50);
        let expected = Verdict::Again { after, reason: "not now".into() };
        assert_eq!(judge(&RETRY, 1, &later(None), 0.5), Some(expected));
    }

    #[test]
    fn the_plugins_own_wait_wins() {
        let after = Duration::from_secs(7);
        let expected = Verdict::Again { after, reason: "not now".into() };
        assert_eq!(judge(&RETRY, 1, &later(Some(after)), 0.0), Some(expected));
    }

    #[test]
    fn the_last_attempt_gives_up_and_a_rejection_does_at_once() {
        let given_up = |reason: &str| Some(Verdict::GiveUp { reason: reason.into() });
        assert_eq!(judge(&RETRY, 3, &later(None), 0.5), given_up("not now"));
        let reject = Outcome::Reject { reason: "never".into() };
        assert_eq!(judge(&RETRY, 1, &reject, 0.5), given_up("never"));
        assert_eq!(judge(&RETRY, 1, &Outcome::Handled(Vec::new()), 0.5), None);
    }
}
