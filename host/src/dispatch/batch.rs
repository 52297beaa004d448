//! What waits for the next transaction: records, each with the source record that it came of, and which source records
//! cannot be committed with what was emitted for them.
//!
//! Owns no offsets: whoever closes a batch takes the offsets of that moment with it, so that a source record's output is
//! in the transaction that carries its offset, or in one before. Plain data.
//!
//! Invariant: the records of one source record are in one batch, together and in the order they were given.

use std::collections::HashMap;

use crate::{
    broker::Refusal,
    dispatch::output::Chosen,
    produce::Pending,
    record::{NewRecord, Place, TopicPartition},
};

/// What a batch holds at the most before it is full; the record that fills it may be the largest that there is.
const RECORDS: usize = 10_000;
const BYTES: usize = 8 << 20;

/// How large something is, or may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// What a batch may hold now: less after a transaction that took too long, and slowly more again.
#[derive(Debug)]
pub(super) struct Room(Size);

impl Default for Room {
    fn default() -> Self {
        Self(Size { records: RECORDS, bytes: BYTES })
    }
}

impl Room {
    /// A transaction of this size took too long: half of that is tried next.
    pub(super) fn shrink(&mut self, late: Size) {
        if late.records == 0 {
            return; // it was not for the records
        }
        let Self(room) = self;
        room.records = (room.records.min(late.records) / 2).max(1);
        room.bytes = (room.bytes.min(late.bytes) / 2).max(1);
    }

    /// A transaction of this size was committed: where it took about what there is, a little more may do.
    pub(super) fn grow(&mut self, committed: Size) {
        let Self(room) = self;
        if committed.records >= room.records / 2 || committed.bytes >= room.bytes / 2 {
            room.records = (room.records + room.records / 8 + 1).min(RECORDS);
            room.bytes = (room.bytes + room.bytes / 8 + 1024).min(BYTES);
        }
    }

    /// How many source records may be handled at once, as far as this goes: what comes of them is in one batch.
    pub(super) fn most_in_flight(&self) -> usize {
        let Self(room) = self;
        if room.records < RECORDS { room.records } else { usize::MAX }
    }
}

/// Where a record of a batch comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The source record.
    pub(super) source: Place,
    /// Whether it is that record's dead letter, and not what its handler emitted.
    pub(super) is_letter: bool,
}

/// The records of one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// In the order in which they are to be written.
    records: Vec<(Origin, Chosen)>,
    bytes: usize,
}

impl Batch {
    /// Adds what came of one source record.
    pub(super) fn push(&mut self, origin: &Origin, records: Vec<Chosen>) {
        self.bytes += records.iter().map(|chosen| chosen.record.size()).sum::<usize>();
        self.records.extend(records.into_iter().map(|record| (origin.clone(), record)));
    }

    /// Whether nothing more should be added.
    pub(super) fn is_full(&self, Room(room): &Room) -> bool {
        self.records.len() >= room.records || self.bytes >= room.bytes
    }

    pub(super) fn size(&self) -> Size {
        Size { records: self.records.len(), bytes: self.bytes }
    }

    /// Whether it has records that came of a partition.
    pub(super) fn holds(&self, partition: &TopicPartition) -> bool {
        self.records.iter().any(|(origin, _)| origin.source.partition == *partition)
    }

    /// Takes out what came of a partition: its offsets are another's to commit.
    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.records.retain(|(origin, _)| origin.source.partition != *partition);
        self.bytes = self.records.iter().map(|(_, chosen)| chosen.record.size()).sum();
    }

    /// The records, and with each what is to be counted of it, and its origin.
    pub(super) fn into_parts(self) -> (Vec<Origin>, Vec<Option<Pending>>, Vec<NewRecord>) {
        let parts = |(origin, Chosen { record, pending })| (origin, pending, record);
        self.records.into_iter().map(parts).collect()
    }
}

/// Why a source record cannot be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: String,
    /// Whether its dead letter was refused, too, so that nothing of it can be written.
    pub(super) is_letter: bool,
}

/// The source records of which a transaction was refused. Each stays until a transaction is committed in which it is done
/// with otherwise, so there are no more of them than records may be handled and not be committed.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<Place, Refused>);

impl Refusals {
    /// Notes what was refused of a batch whose records had these origins, and says whether any of it is new.
    pub(super) fn note(&mut self, origins: &[Origin], refused: &[Refusal]) -> bool {
        let mut is_new = false;
        for Refusal { record, error } in refused {
            let Some(Origin { source, is_letter }) = origins.get(*record) else { continue };
            let what = if *is_letter { "dead letter" } else { "output" };
            let reason = format!("its {what} was refused: {error}");
            let refused = Refused { reason, is_letter: *is_letter };
            match self.0.get(source) {
                Some(known) if known.is_letter || !is_letter => {}
                _ => {
                    self.0.insert(source.clone(), refused);
                    is_new = true;
                }
            }
        }
        is_new
    }

    /// Why a source record cannot be committed; `None`: nothing is known against it.
    pub(super) fn get(&self, source: &Place) -> Option<&Refused> {
        self.0.get(source)
    }

    /// Whether nothing is known against any.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets those that are done with.
    pub(super) fn settle(&mut self, sources: &[Place]) {
        sources.iter().for_each(|source| drop(self.0.remove(source)));
    }

    /// Forgets those of a partition.
    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.retain(|other| other != partition);
    }

    /// Forgets those of all partitions but these.
    pub(super) fn retain(&mut self, stays: impl Fn(&TopicPartition) -> bool) {
        self.0.retain(|source, _| stays(&source.partition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::ProduceError;

    fn origin(partition: u32, offset: u64) -> Origin {
        let source = Place { partition: TopicPartition::new("t", partition), offset };
        Origin { source, is_letter: false }
    }

    fn record(value: &'static str) -> Chosen {
        NewRecord::new("out", value).into()
    }

    fn refusal(record: usize, reason: &str) -> Refusal {
        Refusal { record, error: ProduceError::Refused { reason: reason.into() } }
    }

    fn values(batch: Batch) -> Vec<NewRecord> {
        batch.into_parts().2
    }

    #[test]
    fn records_come_out_in_order_each_with_its_origin() {
        let mut batch = Batch::default();
        batch.push(&origin(0, 7), vec![record("a"), record("b")]);
        batch.push(&origin(1, 3), Vec::new());
        batch.push(&origin(0, 8), vec![record("c")]);
        let (origins, _, records) = batch.into_parts();
        assert_eq!(origins, [origin(0, 7), origin(0, 7), origin(0, 8)]);
        assert_eq!(records, ["a", "b", "c"].map(|value| NewRecord::new("out", value)));
    }

    #[test]
    fn a_batch_is_full_by_records_or_by_bytes_and_has_room_again_without_a_partition() {
        let mut many = Batch::default();
        many.push(&origin(0, 0), vec![record(""); RECORDS - 1]);
        assert!(!many.is_full(&Room::default()));
        many.push(&origin(1, 0), vec![record("")]);
        assert!(many.is_full(&Room::default()));
        many.forget(&origin(1, 0).source.partition);
        assert!(!many.is_full(&Room::default()));

        let mut large = Batch::default();
        large.push(&origin(0, 0), vec![NewRecord::new("out", vec![0; BYTES]).into()]);
        assert!(large.is_full(&Room::default()));
        large.forget(&origin(0, 0).source.partition);
        assert!(!large.is_full(&Room::default()));
    }

    #[test]
    fn room_halves_with_what_took_too_long_and_grows_back_with_what_did_not() {
        let size = |records, bytes| Size { records, bytes };
        let mut room = Room::default();
        room.shrink(size(0, 0));
        assert_eq!(room.0, size(RECORDS, BYTES), "an offset alone has no size");
        assert_eq!(room.most_in_flight(), usize::MAX);
        room.shrink(size(600, 4000));
        assert_eq!(room.0, size(300, 2000));
        assert_eq!(room.most_in_flight(), 300);
        room.grow(size(10, 100));
        assert_eq!(room.0, size(300, 2000), "that was far from what there is");
        room.grow(size(200, 100));
        assert_eq!(room.0, size(338, 3274));
        for _ in 0..100 {
            room.shrink(size(300, 300));
        }
        assert_eq!(room.0, size(1, 1));
        let mut batch = Batch::default();
        assert!(!batch.is_full(&room), "one record is always taken");
        batch.push(&origin(0, 0), vec![record("a")]);
        assert!(batch.is_full(&room));
        for _ in 0..100 {
            room.grow(size(RECORDS, BYTES));
        }
        assert_eq!(room.0, size(RECORDS, BYTES));
    }

    #[test]
    fn a_partition_that_is_forgotten_takes_its_records_along_and_no_others() {
        let mut batch = Batch::default();
        batch.push(&origin(0, 0), vec![record("a")]);
        batch.push(&origin(1, 0), vec![record("b")]);
        batch.push(&origin(0, 1), vec![record("c")]);
        let partition = origin(0, 0).source.partition;
        assert!(batch.holds(&partition));
        batch.forget(&partition);
        assert!(!batch.holds(&partition));
        assert_eq!(values(batch), [NewRecord::new("out", "b")]);
    }

    #[test]
    fn a_refusal_is_known_of_its_source_record_until_that_is_settled() {
        let mut refusals = Refusals::default();
        refusals.note(&[origin(0, 4), origin(0, 5)], &[refusal(1, "no"), refusal(9, "of nobody")]);
        assert_eq!(refusals.get(&origin(0, 4).source), None);
        let refused = refusals.get(&origin(0, 5).source).unwrap();
        assert!(refused.reason.contains("output was refused") && refused.reason.contains("no"));
        assert!(!refused.is_letter);
        refusals.settle(&[origin(0, 5).source]);
        assert!(refusals.is_empty());
    }

    #[test]
    fn a_dead_letter_that_is_refused_outweighs_the_output_that_was() {
        let letter = Origin { is_letter: true, ..origin(0, 5) };
        let mut refusals = Refusals::default();
        refusals.note(&[origin(0, 5)], &[refusal(0, "first")]);
        assert!(refusals.note(&[letter], &[refusal(0, "second")]));
        assert!(!refusals.note(&[origin(0, 5)], &[refusal(0, "third")]));
        let refused = refusals.get(&origin(0, 5).source).unwrap();
        assert!(refused.is_letter && refused.reason.contains("second"), "{refused:?}");
    }

    #[test]
    fn refusals_of_a_partition_are_forgotten_with_it() {
        let mut refusals = Refusals::default();
        refusals.note(&[origin(0, 1), origin(1, 1)], &[refusal(0, "no"), refusal(1, "no")]);
        refusals.forget(&origin(0, 1).source.partition);
        assert!(refusals.get(&origin(0, 1).source).is_none());
        assert!(refusals.get(&origin(1, 1).source).is_some());
    }
}
