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
    use proptest::prelude::*;

    use super::*;
    use crate::handler::Failure;

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

    fn outcome() -> impl Strategy<Value = Outcome> {
        let own = prop::option::of((0..100_000u64).prop_map(Duration::from_millis));
        prop_oneof![
            1 => Just(Outcome::Handled(Vec::new())),
            1 => Just(Outcome::Reject { reason: "never".into() }),
            6 => own.prop_map(later),
            6 => Just(Outcome::Failed(Failure::Memory(1))),
        ]
    }

    fn retry() -> impl Strategy<Value = Retry> {
        let backoff = (0..27u32).prop_map(|doublings| Duration::from_millis(1 << doublings));
        (1..60u32, 1..86_400_000u64, backoff).prop_map(|(attempts, max, backoff)| {
            let max_backoff = Duration::from_millis(max);
            Retry { attempts, backoff: backoff.min(max_backoff), max_backoff }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        /// The naive model: it counts the attempts of a record, and doubles its bound for each that failed.
        #[test]
        fn attempts_agree_with_a_naive_model(
            retry in retry(),
            attempts in prop::collection::vec((outcome(), 0.0..1.0f64), 1..200),
        ) {
            let (mut attempt, mut bound) = (1, retry.backoff);
            for (outcome, random) in attempts {
                let verdict = judge(&retry, attempt, &outcome, random);
                let is_last = attempt == retry.attempts;
                let again = match (outcome, verdict) {
                    (Outcome::Handled(_), None) => false,
                    (Outcome::Reject { reason }, Some(Verdict::GiveUp { reason: given })) => {
                        prop_assert_eq!(given, reason);
                        false
                    }
                    (Outcome::Retry { .. } | Outcome::Failed(_), Some(Verdict::GiveUp { .. })) => {
                        prop_assert!(is_last, "given up on after {} attempts", attempt);
                        false
                    }
                    (Outcome::Retry { after: Some(own), .. }, Some(Verdict::Again { after, .. })) => {
                        prop_assert_eq!(after, own);
                        true
                    }
                    (Outcome::Retry { .. } | Outcome::Failed(_), Some(Verdict::Again { after, .. })) => {
                        prop_assert!(after.abs_diff(bound.mul_f64(random)) < Duration::from_micros(1));
                        true
                    }
                    (outcome, verdict) => {
                        return Err(TestCaseError::fail(format!("{verdict:?} for {outcome:?}")));
                    }
                };
                prop_assert!(!(again && is_last), "more attempts than {}", attempt);
                if again {
                    (attempt, bound) = (attempt + 1, (2 * bound).min(retry.max_backoff));
                } else {
                    (attempt, bound) = (1, retry.backoff); // another record
                }
            }
        }
    }
}
