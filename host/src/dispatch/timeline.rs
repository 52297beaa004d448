//! When the records of a partition were written, by offset: enough of it to tell how old an unfinished one is.
//!
//! A record is noted only where its timestamp is further from the last noted one than [`RESOLUTION`], so that a record
//! of a busy partition costs one comparison. Where more would be noted than [`MOST`], every second note is given up:
//! ages become coarser before memory grows. Plain data.

use std::collections::VecDeque;

/// Milliseconds that a timestamp may differ from the noted one that stands for it.
const RESOLUTION: u64 = 50;
/// Notes that are kept.
const MOST: usize = 4096;

/// Timestamps by offset.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// The first offset of a stretch, and the timestamp of all records in it, in milliseconds since the Unix epoch. In
    /// ascending order of offsets.
    notes: VecDeque<(u64, Option<u64>)>,
}

impl Timeline {
    /// Notes a record that was received, at a higher offset than those before. `oldest` is asked for the lowest offset
    /// that is still of interest, where room is short.
    pub(super) fn note(
        &mut self,
        offset: u64,
        timestamp: Option<u64>,
        oldest: impl FnOnce() -> Option<u64>,
    ) {
        let is_near = |last: Option<u64>| match (last, timestamp) {
            (Some(last), Some(given)) => last.abs_diff(given) <= RESOLUTION,
            (last, given) => last == given,
        };
        if self.notes.back().is_some_and(|(_, last)| is_near(*last)) {
            return;
        }
        if self.notes.len() == MOST {
            self.forget_below(oldest().unwrap_or(offset));
        }
        if self.notes.len() == MOST {
            let mut index = 0;
            self.notes.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
        self.notes.push_back((offset, timestamp));
    }

    /// Forgets what only offsets below this one need.
    pub(super) fn forget_below(&mut self, offset: u64) {
        let needed = self.notes.partition_point(|(first, _)| *first <= offset);
        self.notes.drain(..needed.saturating_sub(1));
    }

    /// The timestamp of the record at an offset that was received and not forgotten; `None` where it carries none.
    pub(super) fn at(&self, offset: u64) -> Option<u64> {
        let after = self.notes.partition_point(|(first, _)| *first <= offset);
        self.notes.get(after.checked_sub(1)?)?.1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn a_timestamp_is_told_to_the_resolution_whatever_was_forgotten_below_it(
            steps in prop::collection::vec((1..4u64, prop::option::of(0..500u64)), 1..200),
            keep in 0..200usize,
        ) {
            let mut timeline = Timeline::default();
            let mut records = Vec::new();
            for (gap, timestamp) in steps {
                let offset = records.last().map_or(0, |(last, _)| last + gap);
                records.push((offset, timestamp));
                timeline.note(offset, timestamp, || None);
            }
            let keep = keep % records.len();
            timeline.forget_below(records[keep].0);
            for (offset, timestamp) in &records[keep..] {
                match (timeline.at(*offset), timestamp) {
                    (Some(told), Some(given)) => prop_assert!(told.abs_diff(*given) <= RESOLUTION),
                    (told, given) => prop_assert_eq!(told, *given),
                }
            }
        }
    }

    #[test]
    fn a_stuck_partition_takes_no_more_than_its_room_and_still_tells_how_old_its_oldest_record_is()
    {
        let mut timeline = Timeline::default();
        for offset in 0..10 * MOST as u64 {
            timeline.note(offset, Some(offset * 1000), || Some(7));
        }
        assert!(timeline.notes.len() <= MOST);
        assert!(timeline.at(7).unwrap() <= 7_000);
    }

    #[test]
    fn what_is_finished_is_given_up_before_anything_becomes_coarser() {
        let mut timeline = Timeline::default();
        for offset in 0..10 * MOST as u64 {
            timeline.note(offset, Some(offset * 1000), || Some(offset - 3));
        }
        let last = 10 * MOST as u64 - 3;
        assert_eq!(timeline.at(last), Some(last * 1000));
    }
}
