//! Figures of a member's lanes for its status: how many each partition has, and which are the longest.
//!
//! Made anew for each status from the lanes that exist, of which there are never more than records may wait or be in
//! flight; the path of a record does nothing for them. Plain data.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::lanes::{Kind, Slot};

/// Lanes that are shown as the longest.
const HOTTEST: usize = 5;

/// What the lanes of one member look like at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    lanes: BTreeMap<Slot, Lanes>,
    /// The lanes of a key in which the most records wait, longest first, with how many do.
    pub(super) hottest: Vec<(Slot, Bytes, usize)>,
}

/// The lanes of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lanes {
    /// With records that wait or are in flight.
    pub(super) busy: usize,
    /// Of them, those that wait for another attempt.
    pub(super) deferred: usize,
}

impl Figures {
    /// Counts lanes, given with what waits in each, and the partitions of those that wait for another attempt.
    pub(super) fn of<'a>(
        all: impl Iterator<Item = (Slot, &'a Kind, usize)>,
        deferred: impl Iterator<Item = Slot>,
    ) -> Self {
        let mut lanes: BTreeMap<Slot, Lanes> = BTreeMap::new();
        let mut hottest: Vec<(Slot, &Bytes, usize)> = Vec::with_capacity(HOTTEST + 1);
        for (slot, kind, waiting) in all {
            lanes.entry(slot).or_default().busy += 1;
            let Kind::Key(key) = kind else { continue };
            let shortest = hottest.get(HOTTEST - 1).map_or(0, |(_, _, shortest)| *shortest);
            if waiting > shortest {
                let place = hottest.partition_point(|(_, _, longer)| *longer >= waiting);
                hottest.insert(place, (slot, key, waiting));
                hottest.truncate(HOTTEST);
            }
        }
        deferred.for_each(|slot| lanes.entry(slot).or_default().deferred += 1);
        let hottest = hottest.into_iter().map(|(slot, key, waiting)| (slot, key.clone(), waiting));
        Self { lanes, hottest: hottest.collect() }
    }

    /// Those of one partition.
    pub(super) fn lanes(&self, slot: Slot) -> Lanes {
        self.lanes.get(&slot).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_longest_lanes_of_a_key_that_wait_are_found(
            lanes in prop::collection::vec((0..3u64, prop::option::of(0..50u8), 0..20usize), 0..60),
            deferred in prop::collection::vec(0..3u64, 0..5),
        ) {
            let kind = |key: &Option<u8>| match key {
                Some(key) => Kind::Key(Bytes::copy_from_slice(&[*key])),
                None => Kind::Partition,
            };
            let kinds: Vec<_> = lanes.iter().map(|(slot, key, waiting)| (Slot(*slot), kind(key), *waiting)).collect();
            let all = kinds.iter().map(|(slot, kind, waiting)| (*slot, kind, *waiting));
            let figures = Figures::of(all, deferred.iter().copied().map(Slot));

            let keyed = lanes.iter().filter(|(_, key, _)| key.is_some()).map(|(_, _, waiting)| *waiting);
            let mut longest: Vec<_> = keyed.filter(|waiting| *waiting > 0).collect();
            longest.sort_unstable_by(|a, b| b.cmp(a));
            longest.truncate(HOTTEST);
            prop_assert_eq!(figures.hottest.iter().map(|(_, _, waiting)| *waiting).collect::<Vec<_>>(), longest);
            for (slot, key, waiting) in &figures.hottest {
                prop_assert!(kinds.contains(&(*slot, Kind::Key(key.clone()), *waiting)));
            }
            for slot in 0..3 {
                let expected = Lanes {
                    busy: lanes.iter().filter(|(of, ..)| *of == slot).count(),
                    deferred: deferred.iter().filter(|of| **of == slot).count(),
                };
                prop_assert_eq!(figures.lanes(Slot(slot)), expected);
            }
        }
    }
}
