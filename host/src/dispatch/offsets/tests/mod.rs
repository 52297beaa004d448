//! Offsets against a naive model, and their maps as text.

mod as_text;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[test]
fn a_gap_in_the_log_does_not_hold_the_commit_back() {
    let mut offsets = Offsets::new(0);
    for offset in [3, 7] {
        assert!(offsets.receive(offset));
        offsets.finish(offset);
    }
    assert_eq!(offsets.committable(), 8);
    assert_eq!(offsets.metadata(), "", "there is nothing above it");
}

#[test]
fn a_record_that_comes_again_is_not_new() {
    let mut offsets = Offsets::new(5);
    assert!(!offsets.receive(4));
    assert!(offsets.receive(5));
    assert!(!offsets.receive(5));
    offsets.finish(5);
    assert!(!offsets.receive(5));
}

#[test]
fn what_the_map_expects_and_the_log_has_no_more_does_not_hold_the_commit_back() {
    let mut offsets = Offsets::new(0);
    (0..10).for_each(|offset| assert!(offsets.receive(offset)));
    (0..10).filter(|offset| offset % 3 != 0).for_each(|offset| offsets.finish(offset));
    let metadata = offsets.metadata().to_owned();
    let mut restored = Offsets::restore(0, &metadata).unwrap();
    assert_eq!(restored.committable(), 0);
    assert!(restored.receive(6), "0 and 3 were compacted away");
    assert_eq!(restored.committable(), 6);
    restored.finish(6);
    assert_eq!(restored.committable(), 9);
    assert!(!restored.receive(8));
    assert!(restored.receive(9), "what was unfinished at the end is not in the map");
}

#[test]
fn a_window_of_many_finished_offsets_is_kept_in_little_memory_and_a_short_map() {
    let mut offsets = Offsets::new(0);
    (0..1_000_000).for_each(|offset| assert!(offsets.receive(offset)));
    (1..1_000_000).filter(|offset| offset % 100_000 != 0).for_each(|offset| offsets.finish(offset));
    assert_eq!(offsets.unfinished.len(), 10);
    assert!(offsets.metadata().len() < 128, "{}", offsets.metadata());
    assert!(!offsets.is_crowded());
}

/// Finishes offsets of a window that no run and no repetition makes short: every offset with an odd count of set bits
/// in a number that a mixing function makes of it.
fn finish_without_pattern(offsets: &mut Offsets, window: Range<u64>) {
    for offset in window {
        let mixed = (offset ^ offset >> 7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if mixed.count_ones() % 2 == 1 {
            offsets.finish(offset);
        }
    }
}

#[test]
fn a_map_near_the_limit_is_crowded_until_it_is_short_again() {
    let mut offsets = Offsets::new(0);
    (0..40_000).for_each(|offset| assert!(offsets.receive(offset)));
    finish_without_pattern(&mut offsets, 1..16_000);
    assert!(!offsets.is_crowded());
    finish_without_pattern(&mut offsets, 16_000..20_000);
    assert!(offsets.is_crowded() && !offsets.is_roomy());
    assert!(offsets.metadata().len() <= 4096);
    (0..10_000).for_each(|offset| offsets.finish(offset));
    assert!(!offsets.is_crowded() && offsets.is_roomy());
}

#[test]
fn a_map_that_does_not_fit_is_committed_as_far_as_it_does() {
    let mut offsets = Offsets::new(0);
    (0..40_000).for_each(|offset| assert!(offsets.receive(offset)));
    finish_without_pattern(&mut offsets, 1..40_000);
    assert!(offsets.is_crowded());
    let metadata = offsets.metadata().to_owned();
    assert!((3900..=4096).contains(&metadata.len()), "{} characters", metadata.len());
    let mut restored = Offsets::restore(0, &metadata).unwrap();
    let again: BTreeSet<_> = (0..40_000).filter(|offset| restored.receive(*offset)).collect();
    assert!(offsets.all_unfinished().flatten().all(|offset| again.contains(&offset)));
    assert!(again.len() < 40_000 - 10_000, "{} are handled again", again.len());
}

#[test]
fn a_long_map_that_was_restored_does_not_hold_back_what_makes_it_shorter() {
    let mut offsets = Offsets::new(0);
    (0..40_000).for_each(|offset| assert!(offsets.receive(offset)));
    finish_without_pattern(&mut offsets, 1..24_000);
    let metadata = offsets.metadata().to_owned();
    let mut restored = Offsets::restore(0, &metadata).unwrap();
    assert!(restored.is_longer(NEAR));
    assert!(!restored.is_crowded());
    let again = (0..30_000).filter(|offset| restored.receive(*offset)).count();
    assert!((6_000..24_000).contains(&again), "{again} are handled again");
    assert!(restored.is_crowded(), "what comes now can only make it longer");
}

/// What a step of a random sequence does.
#[derive(Clone, Debug)]
enum Step {
    /// Reads the log's next record; at its end, one that comes after a gap.
    Read { gap: u64 },
    /// Finishes the nth of the records that were received and are not finished.
    Finish { nth: usize },
    /// Goes on from the commit and its metadata, after compaction took one record.
    Restart { compacted: usize },
    /// Reads again from the commit on, without a restart.
    ReadAgain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..4u64).prop_map(|gap| Step::Read { gap }),
        10 => (0..64usize).prop_map(|nth| Step::Finish { nth }),
        1 => (0..64usize).prop_map(|compacted| Step::Restart { compacted }),
        1 => Just(Step::ReadAgain),
    ]
}

/// The naive model: every offset by itself.
#[derive(Default)]
struct Model {
    log: Vec<u64>,
    /// Index in the log of what is read next.
    at: usize,
    /// Where it began, or began again.
    start: u64,
    finished: BTreeSet<u64>,
    unfinished: BTreeSet<u64>,
    expected: BTreeSet<u64>,
}

impl Model {
    fn end(&self) -> u64 {
        self.finished.last().map_or(self.start, |last| last + 1)
    }

    fn next(&self) -> u64 {
        self.at.checked_sub(1).map_or(self.start, |last| self.start.max(self.log[last] + 1))
    }

    fn open(&self) -> BTreeSet<u64> {
        self.unfinished.union(&self.expected).copied().collect()
    }

    fn committable(&self) -> u64 {
        let lowest = self.open().first().copied();
        lowest.unwrap_or(self.next().max(self.end()))
    }

    /// The offsets above the commit that are not finished, below the highest that is.
    fn map(&self) -> BTreeSet<u64> {
        self.open().into_iter().filter(|offset| *offset < self.end()).collect()
    }

    fn go_back(&mut self) {
        let base = self.committable();
        self.expected = self.map();
        self.unfinished.clear();
        self.start = base;
        self.at = self.log.partition_point(|offset| *offset < base);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]
    #[test]
    fn offsets_agree_with_a_naive_model(
        start in 0..10u64,
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let mut offsets = Offsets::new(start);
        let mut model = Model { start, ..Model::default() };
        for step in steps {
            match step {
                Step::Read { gap } => {
                    if model.at == model.log.len() {
                        model.log.push(model.next().max(model.end()) + gap);
                    }
                    let offset = model.log[model.at];
                    model.at += 1;
                    model.expected.retain(|expected| *expected > offset);
                    let is_new = !model.finished.contains(&offset);
                    prop_assert_eq!(offsets.receive(offset), is_new, "{}", offset);
                    prop_assert!(!offsets.receive(offset));
                    if is_new {
                        model.unfinished.insert(offset);
                    }
                }
                Step::Finish { nth } => {
                    let count = model.unfinished.len().max(1);
                    let Some(offset) = model.unfinished.iter().nth(nth % count).copied() else { continue };
                    model.unfinished.remove(&offset);
                    model.finished.insert(offset);
                    offsets.finish(offset);
                }
                Step::Restart { compacted } => {
                    let committed = offsets.committable();
                    let metadata = offsets.metadata().to_owned();
                    offsets = Offsets::restore(committed, &metadata).unwrap();
                    model.go_back();
                    if compacted < model.log.len() {
                        model.log.remove(compacted);
                        model.at -= usize::from(compacted < model.at);
                    }
                }
                Step::ReadAgain => {
                    offsets = offsets.again_from(offsets.committable());
                    model.go_back();
                }
            }
            prop_assert_eq!(offsets.committable(), model.committable());
            let map = OffsetMap::decode(offsets.committable(), offsets.metadata()).unwrap();
            let unfinished: BTreeSet<u64> = map.unfinished().flatten().collect();
            prop_assert_eq!(&unfinished, &model.map());
            prop_assert_eq!(map.end(), model.end().max(model.committable()));
        }
    }
}
