//! Lets old records go, in small steps between batches.
//!
//! A record's age counts from when it was written here, not from its timestamp: one that comes with an old timestamp
//! is not gone before anyone has read it. Where records go that a group has not read, that is said once. Topics that were
//! made to be kept are left alone.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};

use super::{
    catalog::{Catalog, Extent, Partition},
    commits,
    error::StoreError,
    placement, store,
};
use crate::config::Retention;

/// Records that one step removes at most.
const RECORDS: usize = 1_000;
/// Bytes that one step removes at most, but for its first record.
const BYTES: u64 = 8 << 20;
/// The longest and shortest time between two looks at what is there.
const LOOKS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));

/// What the writer does between batches.
#[derive(Debug)]
pub(super) struct Trimmer {
    retention: Retention,
    between_looks: Duration,
    next_look: Option<Instant>,
    /// Groups, each with a partition, that were said to have lost records and have not caught up since.
    behind: HashSet<(String, u32)>,
}

impl Trimmer {
    pub(super) fn new(retention: Retention) -> Self {
        let between_looks = retention.time.map_or(LOOKS.1, |time| time / 8);
        let is_bounded = retention.time.is_some() || retention.bytes.is_some();
        Self {
            retention,
            between_looks: between_looks.clamp(LOOKS.0, LOOKS.1),
            next_look: is_bounded.then(Instant::now),
            behind: HashSet::new(),
        }
    }

    /// How long the writer may sleep; `None`: nothing ever goes.
    pub(super) fn next_look(&self) -> Option<Duration> {
        self.next_look.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Sees to it that a partition that has outgrown its bound is looked at next.
    pub(super) fn grown(&mut self, extent: &Extent) {
        if self.is_too_large(extent) {
            self.next_look = Some(Instant::now());
        }
    }

    /// Removes a little of what is to go, if it is time to look. Tells how many bytes went.
    pub(super) fn step(
        &mut self,
        connection: &mut Connection,
        catalog: &Catalog,
        now: Instant,
    ) -> Result<u64, StoreError> {
        if self.next_look.is_none_or(|at| now < at) {
            return Ok(0);
        }
        self.next_look = Some(now + self.between_looks);
        let mut removed = 0;
        for topic in catalog.topics().iter().filter(|topic| !topic.is_kept) {
            for partition in &topic.partitions {
                removed += self.trim(connection, partition)?;
            }
        }
        // What one step has left over goes in the next, as soon as the requests that wait are served.
        if removed > 0 {
            self.next_look = Some(now);
        }
        Ok(removed)
    }

    fn trim(
        &mut self,
        connection: &mut Connection,
        partition: &Partition,
    ) -> Result<u64, StoreError> {
        let now = placement::now();
        let extent = partition.extent();
        if !self.is_over(&extent, now) {
            return Ok(0);
        }
        let oldest = store::oldest(connection, partition, RECORDS + 1)?;
        let kept = self.after(extent, &oldest, now);
        let removed = extent.bytes - kept.bytes;
        if kept.beginning == extent.beginning {
            return Ok(0);
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        store::remove(&transaction, partition, extent.beginning, kept.beginning)?;
        store::set_extent(&transaction, partition, &kept)?;
        transaction.commit()?;
        partition.publish(kept);
        self.warn(connection, partition, kept.beginning)?;
        Ok(removed.max(1))
    }

    fn is_over(&self, extent: &Extent, now: u64) -> bool {
        extent.beginning < extent.end
            && (self.is_too_old(extent.oldest, now) || self.is_too_large(extent))
    }

    fn is_too_old(&self, written: u64, now: u64) -> bool {
        let bound = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.retention.time.is_some_and(|time| now.saturating_sub(written) > bound(time))
    }

    /// The newest record stays, however large.
    fn is_too_large(&self, extent: &Extent) -> bool {
        extent.end - extent.beginning > 1
            && self.retention.bytes.is_some_and(|bytes| extent.bytes > bytes)
    }

    /// What is there after one step over the oldest records, given as (written, bytes).
    fn after(&self, mut extent: Extent, oldest: &[(u64, u64)], now: u64) -> Extent {
        let mut removed = 0;
        for (index, &(written, bytes)) in oldest.iter().enumerate() {
            extent.oldest = written;
            let is_full = index == RECORDS || (index > 0 && removed + bytes > BYTES);
            if is_full || !self.is_over(&extent, now) {
                break;
            }
            extent.beginning += 1;
            extent.bytes = extent.bytes.saturating_sub(bytes);
            removed += bytes;
        }
        extent
    }

    fn warn(
        &mut self,
        connection: &Connection,
        partition: &Partition,
        beginning: u64,
    ) -> Result<(), StoreError> {
        for group in commits::groups(connection)? {
            let Some(committed) = commits::committed(connection, &group, partition)? else {
                continue;
            };
            let place = (group, partition.id);
            if committed.offset >= beginning {
                self.behind.remove(&place);
            } else if !self.behind.contains(&place) {
                tracing::warn!(
                    group = place.0,
                    topic = %partition.name.topic,
                    partition = partition.name.partition,
                    from = committed.offset,
                    to = beginning,
                    "Retention has removed records that this group has not handled, and will go on."
                );
                self.behind.insert(place);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trimmer(time: Option<u64>, bytes: Option<u64>) -> Trimmer {
        Trimmer::new(Retention { time: time.map(Duration::from_millis), bytes })
    }

    const FOUR: Extent = Extent { beginning: 10, end: 14, bytes: 40, oldest: 100 };
    const RECORDS_OF_FOUR: [(u64, u64); 4] = [(100, 10), (200, 10), (300, 10), (400, 10)];

    #[test]
    fn records_older_than_the_bound_go_oldest_first() {
        let after = trimmer(Some(150), None).after(FOUR, &RECORDS_OF_FOUR, 400);
        assert_eq!(after, Extent { beginning: 12, end: 14, bytes: 20, oldest: 300 });
    }

    #[test]
    fn all_records_go_when_all_are_too_old_and_the_end_stays() {
        let after = trimmer(Some(150), None).after(FOUR, &RECORDS_OF_FOUR, 1_000);
        assert_eq!((after.beginning, after.end, after.bytes), (14, 14, 0));
    }

    #[test]
    fn bytes_go_down_to_the_bound_and_not_below() {
        let after = trimmer(None, Some(25)).after(FOUR, &RECORDS_OF_FOUR, 400);
        assert_eq!((after.beginning, after.bytes), (12, 20));
    }

    #[test]
    fn the_newest_record_stays_however_large() {
        let after = trimmer(None, Some(1)).after(FOUR, &RECORDS_OF_FOUR, 400);
        assert_eq!((after.beginning, after.bytes), (13, 10));
    }

    #[test]
    fn without_a_bound_nothing_goes_and_nothing_is_looked_at() {
        let trimmer = trimmer(None, None);
        assert_eq!(trimmer.after(FOUR, &RECORDS_OF_FOUR, u64::MAX), FOUR);
        assert_eq!(trimmer.next_look(), None);
    }
}
