//! Which records go to a canary: a share of the keys, always the same. Pure.

use crate::{handler::Delivery, record::Record};

/// Who handles a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The generation that serves.
    Serving,
    /// The one that is tried.
    Canary,
}

/// A share of all keys. With a larger percentage it is the same keys and more of them; with another seed it is others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    seed: u64,
    percent: u8,
}

impl Split {
    /// `percent` of the keys, of 100; `seed` is as arbitrary as a digest.
    pub(super) fn new(digest: &[u8; 32], percent: u8) -> Self {
        let seed = digest.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        Self { seed, percent }
    }

    /// How much of all.
    pub(super) fn percent(self) -> u8 {
        self.percent
    }

    /// Where a record goes: by its key, and where it has none by its place, so that it is the same at each attempt.
    pub(super) fn side(self, record: &Record) -> Side {
        let hash = match &record.key {
            Some(key) => hash(self.seed, [&key[..]]),
            None => {
                let place = (record.partition.to_le_bytes(), record.offset.to_le_bytes());
                hash(self.seed, [record.topic.as_bytes(), &place.0, &place.1])
            }
        };
        if hash % 100 < u64::from(self.percent) { Side::Canary } else { Side::Serving }
    }

    /// Where the first record goes, and how many records go there before one goes elsewhere.
    pub(super) fn first(self, run: &[Delivery]) -> (Side, usize) {
        let mut sides = run.iter().map(|delivery| self.side(&delivery.record));
        let Some(first) = sides.next() else { return (Side::Serving, 0) };
        (first, 1 + sides.take_while(|side| *side == first).count())
    }
}

/// FNV-1a, and the last step of splitmix64, because the lower bits of the first alone follow the last byte too closely.
fn hash<const N: usize>(seed: u64, parts: [&[u8]; N]) -> u64 {
    let bytes = parts.into_iter().flatten();
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn record(key: Option<Vec<u8>>, offset: u64) -> Record {
        Record {
            topic: "t".into(),
            partition: 0,
            offset,
            timestamp: None,
            key: key.map(Bytes::from),
            value: None,
            headers: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn a_key_stays_on_its_side_whatever_its_place_and_stays_with_the_canary_when_that_gets_more(
            key in prop::collection::vec(any::<u8>(), 0..20),
            offsets in (any::<u64>(), any::<u64>()),
            seed in any::<u8>(),
            percents in (0..=100u8, 0..=100u8),
        ) {
            let (less, more) = (percents.0.min(percents.1), percents.0.max(percents.1));
            let [less, more] = [less, more].map(|percent| Split::new(&[seed; 32], percent));
            let [one, other] = [offsets.0, offsets.1].map(|offset| record(Some(key.clone()), offset));
            prop_assert_eq!(less.side(&one), less.side(&other));
            if less.side(&one) == Side::Canary {
                prop_assert_eq!(more.side(&one), Side::Canary);
            }
        }

        #[test]
        fn a_run_is_cut_where_a_record_goes_elsewhere(
            keys in prop::collection::vec(prop::option::of(0..4u8), 1..30),
            percent in 0..=100u8,
        ) {
            let split = Split::new(&[7; 32], percent);
            let run: Vec<_> = keys.iter().zip(0..).map(|(key, offset)| {
                Delivery { record: record(key.map(|key| vec![key]), offset), attempt: 1 }
            }).collect();
            let (side, length) = split.first(&run);
            prop_assert!(run[..length].iter().all(|it| split.side(&it.record) == side));
            prop_assert!(run.get(length).is_none_or(|it| split.side(&it.record) != side));
        }
    }

    #[test]
    fn about_as_many_keys_go_to_the_canary_as_were_asked_for() {
        for percent in [0, 1, 5, 50, 100] {
            for has_key in [true, false] {
                let split = Split::new(&[3; 32], percent);
                let key = |number: u64| has_key.then(|| format!("user-{number}").into_bytes());
                let of = (0..10_000).filter(|n| split.side(&record(key(*n), *n)) == Side::Canary);
                let share = of.count() as i64;
                let expected = i64::from(percent) * 100;
                assert!((share - expected).abs() <= 150, "{percent} %: {share} of 10,000");
            }
        }
        let [one, other] = [1, 2].map(|seed| Split::new(&[seed; 32], 50));
        let both = (0..1000).map(|n| record(None, n)).filter(|it| one.side(it) == other.side(it));
        assert!((400..600).contains(&both.count()), "another seed, other records");
    }
}
