//! Where a member is in each of its partitions, and which it reads next: in turn, from the position, unless paused or
//! being revoked.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use super::catalog::Partition;
use crate::record::TopicPartition;

/// All positions of one member.
#[derive(Debug, Default)]
pub(super) struct Positions {
    by_partition: BTreeMap<TopicPartition, Position>,
    last_read: Option<TopicPartition>,
}

#[derive(Debug)]
struct Position {
    partition: Arc<Partition>,
    /// Where the member began: where it goes back to while nothing is committed.
    began: u64,
    next: u64,
    is_paused: bool,
    revoking_since: Option<Instant>,
}

/// Something to read.
#[derive(Debug)]
pub(super) struct Readable {
    pub(super) partition: Arc<Partition>,
    /// The offset of the next record to hand over.
    pub(super) from: u64,
    /// The end of what is there.
    pub(super) end: u64,
}

impl Position {
    fn is_open(&self) -> bool {
        !self.is_paused && self.revoking_since.is_none()
    }
}

impl Positions {
    pub(super) fn insert(&mut self, partition: Arc<Partition>, next: u64) {
        let name = partition.name.clone();
        let position =
            Position { partition, began: next, next, is_paused: false, revoking_since: None };
        self.by_partition.insert(name, position);
    }

    pub(super) fn remove(&mut self, partition: &TopicPartition) -> Option<Arc<Partition>> {
        self.by_partition.remove(partition).map(|position| position.partition)
    }

    pub(super) fn set_paused(&mut self, partitions: &[TopicPartition], is_paused: bool) {
        for partition in partitions {
            if let Some(position) = self.by_partition.get_mut(partition) {
                position.is_paused = is_paused;
            }
        }
    }

    pub(super) fn revoke(&mut self, partitions: &[TopicPartition], now: Instant) {
        for partition in partitions {
            if let Some(position) = self.by_partition.get_mut(partition) {
                position.revoking_since = Some(now);
            }
        }
    }

    /// Goes on at `offset`, or the nearest that there is. `None`: not the member's.
    pub(super) fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Option<u64> {
        let position = self.by_partition.get_mut(partition)?;
        let extent = position.partition.extent();
        position.next = offset.clamp(extent.beginning, extent.end);
        Some(position.next)
    }

    /// Where the member began, of a partition that it has and may keep.
    pub(super) fn began(&self, partition: &TopicPartition) -> Option<(&Arc<Partition>, u64)> {
        let position = self.by_partition.get(partition)?;
        let is_kept = position.revoking_since.is_none();
        is_kept.then_some((&position.partition, position.began))
    }

    /// What to read next: the first that has something, after the one that was read last.
    pub(super) fn next_readable(&mut self) -> Option<Readable> {
        let after = match &self.last_read {
            Some(last) => (Bound::Excluded(last), Bound::Unbounded),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let in_turn = self.by_partition.range::<TopicPartition, _>(after);
        let readable = in_turn.chain(&self.by_partition).find_map(|(_, position)| {
            let end = position.partition.extent().end;
            let is_readable = position.is_open() && position.next < end;
            let partition = &position.partition;
            is_readable.then(|| Readable { partition: partition.clone(), from: position.next, end })
        })?;
        self.last_read = Some(readable.partition.name.clone());
        Some(readable)
    }

    /// Whether what was read from `from` on is still what is to be handed over next.
    pub(super) fn is_at(&self, partition: &TopicPartition, from: u64) -> bool {
        let position = self.by_partition.get(partition);
        position.is_some_and(|position| position.is_open() && position.next == from)
    }

    pub(super) fn advance(&mut self, partition: &TopicPartition, next: u64) {
        if let Some(position) = self.by_partition.get_mut(partition) {
            position.next = next;
        }
    }

    /// When the first revoked partition has been held for `bound`.
    pub(super) fn deadline(&self, bound: Duration) -> Option<Instant> {
        let since = self.by_partition.values().filter_map(|position| position.revoking_since);
        since.min().map(|since| since + bound)
    }

    /// The revoked partitions that have been held for `bound`.
    pub(super) fn overdue(&self, bound: Duration, now: Instant) -> Vec<TopicPartition> {
        let is_overdue =
            |position: &Position| position.revoking_since.is_some_and(|since| since + bound <= now);
        let overdue = self.by_partition.iter().filter(|(_, position)| is_overdue(position));
        overdue.map(|(partition, _)| partition.clone()).collect()
    }

    /// Every partition of the member.
    pub(super) fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.by_partition.values().map(|position| &position.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::catalog::Extent, *};

    fn partition(number: u32, end: u64) -> Arc<Partition> {
        let extent = Extent { beginning: 2, end, bytes: 0, oldest: 0 };
        Arc::new(Partition::new(number, 1, TopicPartition::new("topic", number), extent))
    }

    fn three() -> Positions {
        let mut positions = Positions::default();
        for number in 0..3 {
            positions.insert(partition(number, 10), 5);
        }
        positions
    }

    fn next(positions: &mut Positions) -> Option<u32> {
        positions.next_readable().map(|readable| readable.partition.name.partition)
    }

    #[test]
    fn partitions_are_read_in_turn() {
        let mut positions = three();
        let turns: Vec<_> = (0..5).map(|_| next(&mut positions)).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1].map(Some));
    }

    #[test]
    fn what_is_paused_revoked_or_at_its_end_is_not_read() {
        let mut positions = three();
        let names: Vec<_> = positions.partitions().map(|it| it.name.clone()).collect();
        positions.set_paused(&names[..1], true);
        positions.revoke(&names[1..2], Instant::now());
        positions.advance(&names[2], 10);
        assert_eq!(next(&mut positions), None);
        positions.set_paused(&names[..1], false);
        assert_eq!(next(&mut positions), Some(0));
    }

    #[test]
    fn what_was_read_before_a_seek_is_not_handed_over() {
        let mut positions = three();
        let name = TopicPartition::new("topic", 0);
        assert!(positions.is_at(&name, 5));
        assert_eq!(positions.seek(&name, 7), Some(7));
        assert!(!positions.is_at(&name, 5) && positions.is_at(&name, 7));
        assert_eq!(positions.seek(&name, 0), Some(2), "retention has removed what was before");
        assert_eq!(positions.seek(&name, 99), Some(10));
        assert_eq!(positions.seek(&TopicPartition::new("topic", 9), 7), None);
    }

    #[test]
    fn a_revoked_partition_is_overdue_after_the_bound() {
        let (mut positions, now) = (three(), Instant::now());
        let bound = Duration::from_secs(45);
        assert_eq!(positions.deadline(bound), None);
        positions.revoke(&[TopicPartition::new("topic", 1)], now);
        assert_eq!(positions.deadline(bound), Some(now + bound));
        assert_eq!(positions.overdue(bound, now), []);
        assert_eq!(positions.overdue(bound, now + bound), [TopicPartition::new("topic", 1)]);
    }
}
