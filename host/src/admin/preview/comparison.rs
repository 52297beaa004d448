//! What becomes of records under one key selector and under another, side by side. Pure.
//!
//! Invariant: `moved`, `rekeyed` and the counts by partition say what the records say, refused ones left out.

use bytes::Bytes;

use crate::{
    admin::snapshot::{KeyPreview, Payload, Place, PreviewedPartition, PreviewedRecord},
    record::{NewRecord, partition_for_key},
};

/// Where a record goes, or why nowhere.
pub(super) type Decision = Result<Decided, String>;

/// Where a record goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decided {
    pub(super) key: Option<Bytes>,
    /// `None`: it is spread.
    pub(super) partition: Option<u32>,
}

impl Decided {
    /// Where a record goes that has its key and its partition as they are to be written, in a topic of so many.
    pub(super) fn of(record: NewRecord, partitions: u32) -> Self {
        let by_key = || record.key.as_ref().map(|key| partition_for_key(key, partitions));
        let partition = record.partition.or_else(by_key);
        Self { key: record.key, partition }
    }

    fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len)
    }
}

/// A comparison under way.
pub(super) struct Comparison {
    found: KeyPreview,
    bytes: usize,
}

impl Comparison {
    /// One of no record yet, in a topic of so many partitions, of `serving` with `other`.
    pub(super) fn new(topic: &str, partitions: u32, serving: String, other: String) -> Self {
        let empty = |partition| PreviewedPartition { partition, ..PreviewedPartition::default() };
        let found = KeyPreview {
            topic: topic.to_owned(),
            serving,
            other,
            reconfigured: false,
            previewed: 0,
            moved: 0,
            rekeyed: 0,
            refused: 0,
            partitions: (0..partitions).map(empty).collect(),
            serving_spread: 0,
            other_spread: 0,
            ended_early: None,
            records: Vec::new(),
        };
        Self { found, bytes: 0 }
    }

    /// Adds a record with this key of the caller's.
    pub(super) fn add(
        &mut self,
        place: Option<String>,
        key: Option<&Bytes>,
        serving: Decision,
        other: Decision,
    ) {
        let found = &mut self.found;
        found.previewed += 1;
        let mut moves = None;
        if let (Ok(now), Ok(then)) = (&serving, &other) {
            let is_other = now.partition != then.partition;
            moves = Some(is_other);
            found.moved += usize::from(is_other);
            found.rekeyed += usize::from(now.key != then.key);
        } else {
            found.refused += 1;
        }
        for (decision, is_serving) in [(&serving, true), (&other, false)] {
            let Ok(decided) = decision else { continue };
            self.bytes += decided.bytes();
            let spread =
                if is_serving { &mut found.serving_spread } else { &mut found.other_spread };
            let counts = decided.partition.and_then(|at| found.partitions.get_mut(at as usize));
            *match counts {
                Some(counts) if is_serving => &mut counts.serving,
                Some(counts) => &mut counts.other,
                None => spread,
            } += 1;
        }
        let key = key.map(Payload::from);
        let (serving, other) = (shown(serving), shown(other));
        found.records.push(PreviewedRecord { place, key, serving, other, moves });
    }

    /// Bytes of the keys that were decided.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was found.
    pub(super) fn end(self, early: Option<String>) -> KeyPreview {
        KeyPreview { ended_early: early, ..self.found }
    }
}

fn shown(decision: Decision) -> Place {
    match decision {
        Ok(Decided { key, partition }) => {
            Place { key: key.as_ref().map(Payload::from), partition, error: None }
        }
        Err(error) => Place { key: None, partition: None, error: Some(error) },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(key: &'static str, partition: u32) -> Decision {
        Ok(Decided { key: Some(key.into()), partition: Some(partition) })
    }

    fn spread() -> Decision {
        Ok(Decided { key: None, partition: None })
    }

    fn compared(pairs: impl IntoIterator<Item = (Decision, Decision)>) -> KeyPreview {
        let mut comparison = Comparison::new("t", 3, "a".into(), "b".into());
        pairs.into_iter().for_each(|(now, then)| comparison.add(None, None, now, then));
        comparison.end(None)
    }

    #[test]
    fn a_record_moves_where_its_partition_is_another_or_only_one_side_gives_it_one() {
        let found = compared([
            (at("k", 0), at("k", 0)),
            (at("k", 0), at("l", 0)),
            (at("k", 0), at("k", 1)),
            (at("k", 0), spread()),
            (spread(), spread()),
            (Err("no".into()), at("k", 0)),
        ]);
        let moves: Vec<_> = found.records.iter().map(|record| record.moves).collect();
        let expected = [Some(false), Some(false), Some(true), Some(true), Some(false), None];
        assert_eq!(moves, expected);
        assert_eq!((found.previewed, found.moved, found.rekeyed, found.refused), (6, 2, 2, 1));
        assert_eq!((found.serving_spread, found.other_spread), (1, 2));
        assert_eq!((found.partitions[0].serving, found.partitions[0].other), (4, 3));
        assert_eq!(found.records[5].serving.error.as_deref(), Some("no"));
    }

    #[test]
    fn a_key_decides_where_no_partition_is_given_as_java_has_it() {
        let mut record = NewRecord::new("t", "v");
        assert_eq!(Decided::of(record.clone(), 3).partition, None);
        record.key = Some("21".into());
        assert_eq!(Decided::of(record.clone(), 3).partition, Some(partition_for_key(b"21", 3)));
        record.partition = Some(2);
        assert_eq!(Decided::of(record, 3).partition, Some(2));
    }

    fn decision() -> impl Strategy<Value = Decision> {
        let decided = (0..4_u8, proptest::option::of(0..3_u32))
            .prop_map(|(key, partition)| Ok(Decided { key: Some(vec![key].into()), partition }));
        prop_oneof![1 => Just(Err("no".to_owned())), 5 => decided]
    }

    proptest! {
        #[test]
        fn the_sums_are_those_of_the_records(
            pairs in proptest::collection::vec((decision(), decision()), 0..50)
        ) {
            let found = compared(pairs.clone());
            let count = |which: &dyn Fn(&PreviewedRecord) -> bool| {
                found.records.iter().filter(|record| which(record)).count()
            };
            prop_assert_eq!(found.previewed, pairs.len());
            prop_assert_eq!(found.moved, count(&|record| record.moves == Some(true)));
            prop_assert_eq!(found.refused, count(&|record| record.moves.is_none()));
            for counts in &found.partitions {
                let at = Some(counts.partition);
                prop_assert_eq!(counts.serving, count(&|record| record.serving.partition == at));
                prop_assert_eq!(counts.other, count(&|record| record.other.partition == at));
            }
            let errors = count(&|record| record.serving.error.is_some());
            let placed: usize = found.partitions.iter().map(|counts| counts.serving).sum();
            prop_assert_eq!(placed + found.serving_spread + errors, pairs.len());
        }
    }
}
