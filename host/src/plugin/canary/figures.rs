//! What one side of a canary has done, and whether the canary is worse by more than the operator bears. Pure.

use std::time::Duration;

use crate::handler::Outcome;

/// Minimum samples after which both sides forget half of what they go by: what goes wrong late weighs as much as what
/// goes wrong soon.
const WINDOW: u64 = 20;
/// A mean that differs by less is no difference: it is noise for calls of microseconds.
const NOISE: Duration = Duration::from_millis(1);

/// Counts of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Attempts that have ended.
    pub attempts: u64,
    /// Of them, those that were handled.
    pub handled: u64,
    /// Those to be tried again, as the handler asked for.
    pub retried: u64,
    /// Those that the handler refused.
    pub rejected: u64,
    /// Those that trapped, ran out of time or broke another bound.
    pub failed: u64,
    /// Records that were emitted.
    pub emitted: u64,
    /// How long all attempts took together.
    pub time: Duration,
}

/// How much worse a canary may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin) struct Bounds {
    /// Attempts of the canary before it is judged.
    pub(in crate::plugin) minimum: u64,
    /// Percentage points that its share of attempts that were not handled may be above the other's.
    pub(in crate::plugin) more_failures: u8,
    /// How many times as long as the other's its mean attempt may take.
    pub(in crate::plugin) slower: u32,
}

/// Both sides: since the beginning, and what they are judged by.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) serving: Figures,
    pub(super) canary: Figures,
    recent_serving: Figures,
    recent_canary: Figures,
}

impl Figures {
    fn count(&mut self, outcome: &Outcome) {
        self.attempts += 1;
        match outcome {
            Outcome::Handled(records) => {
                self.handled += 1;
                self.emitted += records.len() as u64;
            }
            Outcome::Retry { .. } => self.retried += 1,
            Outcome::Reject { .. } => self.rejected += 1,
            Outcome::Failed(_) => self.failed += 1,
        }
    }

    fn add(&mut self, outcomes: &[Outcome], took: Duration) {
        outcomes.iter().for_each(|outcome| self.count(outcome));
        self.time += took;
    }

    /// The share of attempts that were not handled, in percent; 0 where there are none.
    pub fn failure_rate(&self) -> f64 {
        let bad = self.attempts - self.handled;
        if self.attempts == 0 { 0.0 } else { bad as f64 * 100.0 / self.attempts as f64 }
    }

    /// How long an attempt takes; zero where there are none.
    pub fn mean(&self) -> Duration {
        match self.attempts {
            0 => Duration::ZERO,
            attempts => self.time.div_f64(attempts as f64),
        }
    }

    fn halve(&mut self) {
        let half = |count: u64| count.div_ceil(2);
        let [handled, retried, rejected, failed] =
            [self.handled, self.retried, self.rejected, self.failed].map(half);
        let attempts = handled + retried + rejected + failed;
        let time = self.mean() * u32::try_from(attempts).unwrap_or(u32::MAX);
        *self = Self {
            attempts,
            handled,
            retried,
            rejected,
            failed,
            emitted: half(self.emitted),
            time,
        };
    }
}

impl Comparison {
    /// Counts what became of records on the serving side.
    pub(super) fn serving(&mut self, outcomes: &[Outcome], took: Duration) {
        self.serving.add(outcomes, took);
        self.recent_serving.add(outcomes, took);
    }

    /// Counts what became of records on the canary's side, and says what is wrong with it, if it is worse than `bounds`
    /// allow.
    pub(super) fn canary(
        &mut self,
        outcomes: &[Outcome],
        took: Duration,
        bounds: Bounds,
    ) -> Option<String> {
        self.canary.add(outcomes, took);
        self.recent_canary.add(outcomes, took);
        let verdict = judge(&self.recent_serving, &self.recent_canary, bounds);
        if self.recent_canary.attempts >= WINDOW * bounds.minimum {
            self.recent_serving.halve();
            self.recent_canary.halve();
        }
        verdict
    }
}

/// Why the canary is worse than allowed; `None`: it is not, or too little is known of it.
fn judge(serving: &Figures, canary: &Figures, bounds: Bounds) -> Option<String> {
    if canary.attempts < bounds.minimum {
        return None;
    }
    let rates = (canary.failure_rate(), serving.failure_rate());
    if rates.0 > rates.1 + f64::from(bounds.more_failures) {
        return Some(format!(
            "{:.1} % of {} attempts were not handled, {:.1} % where the serving generation is; it may be {} points more",
            rates.0, canary.attempts, rates.1, bounds.more_failures
        ));
    }
    let means = (canary.mean(), serving.mean());
    let may_take = (means.1 * bounds.slower).max(means.1 + NOISE);
    if serving.attempts >= bounds.minimum && means.0 > may_take {
        return Some(format!(
            "an attempt takes {:.1?}, {:.1?} where the serving generation is; it may take {} times as long",
            means.0, means.1, bounds.slower
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::handler::Failure;

    const BOUNDS: Bounds = Bounds { minimum: 10, more_failures: 5, slower: 3 };

    fn figures(good: u64, bad: u64, mean: Duration) -> Figures {
        let attempts = good + bad;
        let time = mean * u32::try_from(attempts).unwrap();
        Figures { attempts, handled: good, failed: bad, time, ..Figures::default() }
    }

    #[test]
    fn a_canary_is_judged_by_what_both_sides_do_and_not_before_enough_is_known() {
        let fast = Duration::from_micros(50);
        let slow = Duration::from_millis(10);
        for (serving, canary, says) in [
            (figures(100, 0, fast), figures(0, 9, fast), None),
            (figures(100, 0, fast), figures(9, 1, fast), Some("10.0 % of 10 attempts")),
            (figures(94, 6, fast), figures(9, 1, fast), None),
            (figures(0, 0, fast), figures(0, 10, fast), Some("100.0 %")),
            (figures(100, 0, fast), figures(10, 0, fast * 15), None), // less than a millisecond
            (figures(100, 0, slow), figures(10, 0, slow * 4), Some("takes 40.0ms, 10.0ms")),
            (figures(100, 0, slow), figures(10, 0, slow * 3), None),
            (figures(5, 0, slow), figures(10, 0, slow * 4), None), // too little to compare with
        ] {
            let verdict = judge(&serving, &canary, BOUNDS);
            let fits = match (&verdict, says) {
                (Some(verdict), Some(says)) => verdict.contains(says),
                (None, None) => true,
                _ => false,
            };
            assert!(fits, "{serving:?} {canary:?}: {verdict:?}");
        }
    }

    #[test]
    fn a_canary_that_turns_bad_late_is_found_as_soon_as_one_that_was_bad_from_the_start() {
        let mut comparison = Comparison::default();
        let good = [Outcome::Handled(Vec::new())];
        let bad = [Outcome::Failed(Failure::Trap("t".into()))];
        for _ in 0..100_000 {
            comparison.serving(&good, Duration::ZERO);
            assert_eq!(comparison.canary(&good, Duration::ZERO, BOUNDS), None);
        }
        let found = (1..).find(|_| comparison.canary(&bad, Duration::ZERO, BOUNDS).is_some());
        assert!(found.is_some_and(|attempts| attempts <= 12), "{found:?}");
        assert!(comparison.canary.attempts > 100_000, "the whole is told all the same");
    }

    proptest! {
        #[test]
        fn whatever_is_counted_the_parts_make_the_whole_and_a_half_has_the_same_shares(
            outcomes in prop::collection::vec(0..4u8, 1..200),
        ) {
            let outcomes: Vec<_> = outcomes.into_iter().map(|kind| match kind {
                0 => Outcome::Handled(Vec::new()),
                1 => Outcome::Retry { reason: String::new(), after: None },
                2 => Outcome::Reject { reason: String::new() },
                _ => Outcome::Failed(Failure::Trap(String::new())),
            }).collect();
            let mut figures = Figures::default();
            figures.add(&outcomes, Duration::from_millis(outcomes.len() as u64));
            let whole = |it: &Figures| it.handled + it.retried + it.rejected + it.failed;
            prop_assert_eq!((figures.attempts, whole(&figures)), (outcomes.len() as u64, figures.attempts));
            let mut half = figures;
            half.halve();
            prop_assert_eq!(half.attempts, whole(&half));
            prop_assert!((figures.attempts..=figures.attempts + 8).contains(&(2 * half.attempts)));
            prop_assert!(half.mean().abs_diff(figures.mean()) < Duration::from_micros(1));
        }
    }
}
