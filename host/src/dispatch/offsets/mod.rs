//! Which offsets of a partition are finished, and how far its commit may go.
//!
//! The committed offset is the lowest one that was received and is not finished; when all are, one past the last.
//! Only received offsets count, so gaps in the log (compaction, transaction markers) are no special case. Plain data.

use std::collections::VecDeque;

/// The offsets of one partition from its commit on.
#[derive(Debug)]
pub(super) struct Offsets {
    /// Received offsets from the first unfinished one on, ascending, and whether each is finished.
    received: VecDeque<(u64, bool)>,
    /// The offset to commit while nothing is received: one past the last finished.
    next: u64,
    /// Whether nothing was received yet.
    fresh: bool,
}

impl Offsets {
    /// Begins at the offset of the next record to come.
    pub(super) fn new(next: u64) -> Self {
        Self { received: VecDeque::new(), next, fresh: true }
    }

    /// Notes a record that was read. Says whether it is new: a broker may hand a record over again, and what was
    /// received once is not handled twice.
    pub(super) fn receive(&mut self, offset: u64) -> bool {
        self.fresh = false;
        let expected = self.received.back().map_or(self.next, |(last, _)| last + 1);
        if offset < expected {
            return false;
        }
        self.received.push_back((offset, false));
        true
    }

    /// Whether a record that is the first to be received shows that the log does not reach the offset it was to begin
    /// at: the topic was made anew, or has lost its end.
    pub(super) fn begins_below(&self, offset: u64) -> bool {
        self.fresh && offset < self.next
    }

    /// Notes that a received record is finished.
    pub(super) fn finish(&mut self, offset: u64) {
        if let Ok(index) = self.received.binary_search_by_key(&offset, |(offset, _)| *offset) {
            self.received[index].1 = true;
        }
        while let Some((offset, true)) = self.received.front() {
            self.next = offset + 1;
            self.received.pop_front();
        }
    }

    /// The offset that may be committed: every received record below it is finished.
    pub(super) fn committable(&self) -> u64 {
        self.received.front().map_or(self.next, |(offset, _)| *offset)
    }

    /// How many offsets are kept in memory: from the lowest unfinished one on.
    pub(super) fn tracked(&self) -> usize {
        self.received.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn offsets_agree_with_a_naive_model(
            start in 0..10u64,
            steps in prop::collection::vec((prop::bool::ANY, 0..4u64, 0..64usize), 1..200),
        ) {
            let mut offsets = Offsets::new(start);
            let mut model: BTreeMap<u64, bool> = BTreeMap::new();
            let mut next = start;
            for (receive, gap, pick) in steps {
                if receive {
                    next += gap;
                    prop_assert!(offsets.receive(next));
                    model.insert(next, false);
                    next += 1;
                } else if let Some(offset) = model.keys().nth(pick % model.len().max(1)).copied() {
                    offsets.finish(offset);
                    model.insert(offset, true);
                }
                let unfinished = model.iter().find(|(_, finished)| !**finished).map(|(offset, _)| *offset);
                let expected = unfinished.unwrap_or(model.keys().last().map_or(start, |last| last + 1));
                prop_assert_eq!(offsets.committable(), expected);
                prop_assert_eq!(offsets.tracked(), model.range(expected..).count());
            }
        }
    }
}
