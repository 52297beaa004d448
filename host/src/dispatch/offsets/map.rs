//! Which offsets from a base on are finished, at one moment: what goes into a commit's metadata as text, and comes back.

use std::ops::Range;

/// Which offsets from the committed one on are finished: what goes with a commit, in its metadata. What is below the
/// map's end and not unfinished is finished, or is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetMap {
    base: u64,
    /// The lengths of the runs of offsets from `base` on: unfinished and finished ones by turns, unfinished first.
    runs: Vec<u64>,
}

impl OffsetMap {
    /// A map of what is from `base`, the committed offset, to below `end`; `unfinished` are those from `base` on that are
    /// not finished, ascending and without overlaps. Offsets are below 2⁶³, as Kafka's are.
    pub fn new(base: u64, end: u64, unfinished: impl IntoIterator<Item = Range<u64>>) -> Self {
        let unfinished = unfinished.into_iter();
        let mut runs = Vec::with_capacity(2 * unfinished.size_hint().0 + 2);
        runs.push(0);
        let mut at = base;
        for range in unfinished.take_while(|range| range.start < end) {
            let range = range.start..range.end.min(end);
            if range.start > at {
                runs.extend([range.start - at, 0]);
            }
            if let Some(run) = runs.last_mut() {
                *run += range.end - range.start;
            }
            at = range.end;
        }
        if end > at {
            runs.push(end - at);
        }
        Self { base, runs }
    }

    /// A map of runs that were read; `None`: it would go past the last offset that there can be.
    pub(super) fn of_runs(base: u64, runs: Vec<u64>) -> Option<Self> {
        let end = runs.iter().try_fold(base, |end, length| end.checked_add(*length));
        end.filter(|end| i64::try_from(*end).is_ok()).map(|_| Self { base, runs })
    }

    /// The offset that it begins at: the one that is committed with it.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// One past the highest offset that it says anything about.
    pub fn end(&self) -> u64 {
        self.base + self.runs.iter().sum::<u64>()
    }

    /// The lengths of its runs: unfinished and finished offsets by turns, unfinished first.
    pub(super) fn runs(&self) -> &[u64] {
        &self.runs
    }

    /// What is not finished below its end, ascending.
    pub fn unfinished(&self) -> impl Iterator<Item = Range<u64>> {
        let mut at = self.base;
        let ranges = self.runs.iter().enumerate().map(move |(index, length)| {
            let start = at;
            at += length;
            (index % 2 == 0 && *length > 0).then_some(start..at)
        });
        ranges.flatten()
    }
}
