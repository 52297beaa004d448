//! Exactly-once: what came of records waits in a batch, and is written together with their offsets in one transaction.
//!
//! A record's lane goes on as soon as it is handled: what comes behind it is in the same transaction or in a later one,
//! and there is one under way at a time. A transaction that failed takes back all that was handled since the last one that
//! did not ([`Engine::rewind`]). One that was refused because of some of its records is made again without them: their
//! source records, when they come again, are given up on.
//!
//! Invariants: what came of a record is in the transaction that commits its offset, or in one before; what came of a parked
//! one is in a transaction that commits its partition's offset anew, so that only the owner's passes; none is begun between
//! one that failed and the rewinding that it asks for.

use std::time::Duration;

use tokio::time::Instant;

use super::{COMMIT_INTERVAL, Done, Engine};
use crate::{
    broker::{Commands, OffsetCommit, Produced, TransactError},
    config::{Delivery, OnReject},
    dispatch::{
        batch::{Batch, Origin, Refusals, Room, Size},
        lanes::Slot,
        output::Chosen,
        partition::Partition,
    },
    produce::Pending,
    record::{NewRecord, Place, TopicPartition},
};

/// The wait after a transaction that failed for the broker's reasons; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What waits for a member's next transaction.
#[derive(Default)]
pub(super) struct Transacting {
    batch: Batch,
    room: Room,
    /// Source records that the next transaction is done with, of those that were refused.
    settled: Vec<Place>,
    pub(super) refusals: Refusals,
    /// When the next transaction may be begun, after one that failed, and how long that one waited.
    rest: Option<(Instant, Duration)>,
}

/// A transaction that is under way.
pub(super) struct Transaction {
    size: Size,
    origins: Vec<Origin>,
    pending: Vec<Option<Pending>>,
    settled: Vec<Place>,
    offsets: Vec<OffsetCommit>,
}

impl Transacting {
    /// Adds what came of a source record, which is thereby done with.
    pub(super) fn add(&mut self, origin: &Origin, records: Vec<Chosen>) {
        self.batch.push(origin, records);
        if self.refusals.get(&origin.source).is_some() {
            self.settled.push(origin.source.clone());
        }
    }

    /// Whether nothing more is to be handled until there is room.
    pub(super) fn is_full(&self) -> bool {
        self.batch.is_full(&self.room)
    }

    /// How many source records may be handled at once.
    pub(super) fn most_in_flight(&self) -> usize {
        self.room.most_in_flight()
    }

    pub(super) fn drop_batch(&mut self) {
        self.batch = Batch::default();
        self.settled.clear();
    }

    /// Forgets what came of a partition that is the member's no more.
    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.batch.forget(partition);
        self.settled.retain(|source| source.partition != *partition);
        self.refusals.forget(partition);
    }

    fn wait_after_failure(&mut self) {
        let wait = self.rest.map_or(FIRST_WAIT, |(_, wait)| (wait * 2).min(LONGEST_WAIT));
        self.rest = Some((Instant::now() + wait, wait));
    }
}

impl Engine {
    pub(super) fn is_exactly_once(&self) -> bool {
        self.shared.group.delivery == Delivery::ExactlyOnce
    }

    /// When the next transaction is due; `None`: nothing waits for it, or it cannot be begun yet.
    pub(super) fn transaction_due(&self) -> Option<Instant> {
        let due = self.commit_due.filter(|_| !self.committing && !self.is_rewinding())?;
        Some(self.transacting.rest.map_or(due, |(rest, _)| rest.max(due)))
    }

    fn is_rewinding(&self) -> bool {
        self.partitions.values().any(|partition| partition.abandoned && !partition.leaving)
    }

    /// Begins a transaction, when it is time, the batch is full, or somebody waits for it.
    pub(super) fn transact(&mut self) {
        if !self.is_exactly_once() || self.committing || self.is_rewinding() {
            return;
        }
        let now = Instant::now();
        let is_due = match self.transacting.rest {
            Some((rest, _)) if now < rest => false,
            _ => self.transacting.is_full() || self.commit_due.is_some_and(|due| due <= now),
        };
        if !is_due && !self.is_waited_for() {
            return;
        }
        self.commit_due = None;
        let waiting: Vec<Slot> = self.seeks.iter().flat_map(|seek| seek.slots()).collect();
        let open = self.partitions.iter_mut();
        // Of a partition whose new offset is being committed, nothing of the old position is.
        let open = open.filter(|(slot, partition)| !partition.moving || waiting.contains(slot));
        let take = |(_, partition): (&Slot, &mut Partition)| {
            let commit = partition.commit();
            partition.fences = false;
            commit
        };
        let offsets: Vec<_> = open.filter_map(take).collect();
        let batch = std::mem::take(&mut self.transacting.batch);
        let size = batch.size();
        let (origins, pending, records) = batch.into_parts();
        let settled = std::mem::take(&mut self.transacting.settled);
        if records.is_empty() && offsets.is_empty() {
            return;
        }
        self.committing = true;
        let commands = self.commands.clone();
        let transaction = Transaction { size, origins, pending, settled, offsets };
        self.work.push(Box::pin(async move {
            let result = commit(&commands, records, &transaction.offsets).await;
            Done::Transacted { transaction, result }
        }));
    }

    /// Whether partitions that are quiet wait to go, or to be moved.
    fn is_waited_for(&self) -> bool {
        let is_quiet = |slot: &Slot| {
            self.partitions.get(slot).is_none_or(|partition| partition.in_flight == 0)
        };
        self.releases.iter().any(|release| release.slots.iter().all(is_quiet))
            || self.seeks.iter().any(|seek| seek.slots().all(|slot| is_quiet(&slot)))
    }

    /// Whether all that was handled of these partitions is committed, or never will be.
    pub(super) fn is_settled(&mut self, slots: &[Slot]) -> bool {
        if !self.is_exactly_once() {
            return true;
        }
        let batch = &self.transacting.batch;
        let is_open = |partition: &mut Partition| {
            batch.holds(&partition.name) || partition.commit().is_some()
        };
        !self.committing
            && !slots.iter().any(|slot| self.partitions.get_mut(slot).is_some_and(is_open))
    }

    /// Lets partitions go whose time is up, without what was handled of them since the last transaction.
    pub(super) fn abandon(&mut self, slots: &[Slot]) {
        for slot in slots {
            let Some(partition) = self.partitions.get_mut(slot) else { continue };
            partition.abandoned = true;
            self.transacting.forget(&partition.name);
        }
    }

    pub(super) async fn transacted(
        &mut self,
        transaction: Transaction,
        result: Result<Vec<Produced>, TransactError>,
    ) {
        self.committing = false;
        let Transaction { size, origins, pending, settled, offsets } = transaction;
        let error = match result {
            Ok(produced) => {
                self.transacting.rest = None;
                self.transacting.room.grow(size);
                self.transacting.refusals.settle(&settled);
                self.shared.output.count(&pending, &produced);
                self.letters_written(&origins);
                return self.committed_with_records(offsets);
            }
            Err(error) => error,
        };
        tracing::warn!(
            group = %self.shared.group.id, reason = %error,
            "A transaction failed: what was handled since the last one is handled again."
        );
        match &error {
            TransactError::Refused(refusals) if !refusals.is_empty() => {
                if !self.transacting.refusals.note(&origins, refusals) {
                    self.transacting.wait_after_failure(); // it was made without them, and in vain
                }
                let slots = &self.slots;
                self.transacting.refusals.retain(|partition| slots.contains_key(partition));
            }
            TransactError::TimedOut(_) => self.transacting.room.shrink(size),
            _ => self.transacting.wait_after_failure(),
        }
        self.rewind().await;
        self.commit_due.get_or_insert_with(|| Instant::now() + COMMIT_INTERVAL);
    }
}

impl Engine {
    /// Notes offsets that a transaction has committed.
    fn committed_with_records(&mut self, offsets: Vec<OffsetCommit>) {
        for OffsetCommit { partition, committed } in offsets {
            let slot = self.slots.get(&partition);
            if let Some(partition) = slot.and_then(|slot| self.partitions.get_mut(slot)) {
                partition.committed(committed);
            }
        }
    }

    /// Counts letters that are durable, and has parked ones looked for soon.
    fn letters_written(&mut self, origins: &[Origin]) {
        let letters = origins.iter().filter(|origin| origin.is_letter);
        let parked = match self.shared.group.on_reject {
            OnReject::Park => &self.shared.counters.parked,
            _ => &self.shared.counters.dead_lettered,
        };
        for Origin { source, .. } in letters {
            parked.add(1);
            if let Some(slot) = self.slots.get(&source.partition) {
                self.parking.look_soon(*slot);
            }
        }
    }
}

/// Commits a transaction; where the broker takes no map of this length, with the offsets alone.
async fn commit(
    commands: &Commands,
    records: Vec<NewRecord>,
    offsets: &[OffsetCommit],
) -> Result<Vec<Produced>, TransactError> {
    let has_maps = offsets.iter().any(|offset| !offset.committed.metadata.is_empty());
    if !has_maps {
        return commands.transact(records, offsets.to_vec()).await;
    }
    match commands.transact(records.clone(), offsets.to_vec()).await {
        Err(TransactError::MetadataTooLong(reason)) => {
            tracing::warn!(%reason, "A transaction is committed without the map of what is finished above its offsets, which may be handled again after a restart.");
            let mut bare = offsets.to_vec();
            bare.iter_mut().for_each(|offset| offset.committed.metadata.clear());
            commands.transact(records, bare).await
        }
        result => result,
    }
}
