//! Rounds of a measurement, and whether they agree well enough to mean anything.

use std::fmt;

/// Rounds that differ by more than this from the least to the most, as a part of the median, tell nothing.
const NOISE: f64 = 0.25;

/// The least, the middle and the most of several rounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of at least one round.
    pub(crate) fn of(rounds: impl IntoIterator<Item = f64>) -> Self {
        let mut rounds: Vec<f64> = rounds.into_iter().collect();
        rounds.sort_by(f64::total_cmp);
        Self { least: rounds[0], median: rounds[rounds.len() / 2], most: rounds[rounds.len() - 1] }
    }

    fn noise(self) -> f64 {
        (self.most - self.least) / self.median
    }

    /// A warning when the machine does something else beside this, else nothing.
    pub(crate) fn warning(self) -> &'static str {
        if self.noise() > NOISE {
            " (too noisy to tell: rounds differ by more than a quarter)"
        } else {
            ""
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median < 100.0 { 2 } else { 0 };
        let Self { least, median, most } = self;
        write!(f, "{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}

/// The value below which `part` of the sorted values are.
pub(crate) fn percentile(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_round_and_says_when_rounds_disagree() {
        let steady = Spread::of([102.0, 100.0, 101.0]);
        assert_eq!(steady.to_string(), "101 (100 to 102)");
        assert_eq!(steady.warning(), "");
        assert_ne!(Spread::of([1.0, 2.0, 1.0]).warning(), "");
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.99), 100.0);
        assert_eq!(percentile(&values, 0.5), 51.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }
}
