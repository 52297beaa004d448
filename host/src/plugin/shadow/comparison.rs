//! Whether a shadow would have done with a record what the serving generation did, and what is kept of those where it
//! would not. Pure.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    handler::{Delivery, Failure, Outcome},
    record::{Header, NewRecord, Place},
};

/// Differing records that are kept, the first ones.
const KEPT: usize = 16;
/// Emitted records, and headers of one, that are kept of each.
const PARTS: usize = 4;
/// Bytes of a key, a value or a header's value that are kept.
const BYTES: usize = 4 << 10;

/// How many records were compared since the shadow began, and with what result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comparisons {
    /// Attempts that ended in the same way, with the same output.
    pub equal: u64,
    /// Those that ended in another, or with other output.
    pub different: u64,
    /// Those at which the shadow trapped, ran out of time or broke another bound, and the serving generation did not in
    /// the same way.
    pub failed: u64,
}

/// A record of which the shadow would have made something else.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Where the record is.
    pub place: Place,
    /// Its key, cut to 4 KiB as everything here is.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// The first thing that differs.
    pub what: String,
    /// What the serving generation made of it; of what is emitted, four records from the first that differs on.
    pub serving: Outcome,
    /// What the shadow made of it.
    pub shadow: Outcome,
}

/// What is counted and kept of one shadow.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) counts: Comparisons,
    pub(super) differences: Vec<Arc<Difference>>,
}

impl Tally {
    /// Takes account of one record.
    pub(super) fn add(&mut self, delivery: &Delivery, serving: &Outcome, shadow: &Outcome) {
        let Some((what, from)) = difference(serving, shadow) else {
            self.counts.equal += 1;
            return;
        };
        match shadow {
            Outcome::Failed(_) => self.counts.failed += 1,
            _ => self.counts.different += 1,
        }
        if self.differences.len() < KEPT {
            let record = &delivery.record;
            self.differences.push(Arc::new(Difference {
                place: record.place(),
                key: record.key.as_ref().map(cut),
                value: record.value.as_ref().map(cut),
                attempt: delivery.attempt,
                what,
                serving: kept(serving, from),
                shadow: kept(shadow, from),
            }));
        }
    }
}

/// What differs first, and the index of the emitted record where that is. `None`: nothing does.
fn difference(serving: &Outcome, shadow: &Outcome) -> Option<(String, usize)> {
    let whole = match (serving, shadow) {
        (Outcome::Handled(serving), Outcome::Handled(shadow)) => return emitted(serving, shadow),
        // A shadow has more time, and so says another limit.
        (Outcome::Failed(Failure::Timeout(_)), Outcome::Failed(Failure::Timeout(_))) => None,
        (serving, shadow) if serving == shadow => None,
        (Outcome::Retry { reason: serving, .. }, Outcome::Retry { reason: shadow, .. }) => {
            Some(if serving == shadow { "wait" } else { "reason" }.to_owned())
        }
        (Outcome::Reject { .. }, Outcome::Reject { .. })
        | (Outcome::Failed(_), Outcome::Failed(_)) => Some("reason".to_owned()),
        (serving, shadow) => Some(format!("{}, {}", name(serving), name(shadow))),
    };
    whole.map(|what| (what, 0))
}

fn emitted(serving: &[NewRecord], shadow: &[NewRecord]) -> Option<(String, usize)> {
    let pairs = serving.iter().zip(shadow);
    let differing = pairs.enumerate().find_map(|(index, (a, b))| Some((part(a, b)?, index)));
    let of = |index: usize| format!("emitted record {}", index + 1);
    match (differing, serving.len(), shadow.len()) {
        (Some((part, index)), ..) => Some((format!("{}: {part}", of(index)), index)),
        (None, serving, shadow) if serving != shadow => {
            Some((format!("{serving} emitted, {shadow} emitted"), serving.min(shadow)))
        }
        _ => None,
    }
}

/// The first part of a record that differs.
fn part(a: &NewRecord, b: &NewRecord) -> Option<&'static str> {
    let parts = [
        ("topic", a.topic == b.topic),
        ("partition", a.partition == b.partition),
        ("key", a.key == b.key),
        ("value", a.value == b.value),
        ("headers", a.headers == b.headers),
        ("timestamp", a.timestamp == b.timestamp),
    ];
    parts.into_iter().find(|(_, equal)| !equal).map(|(part, _)| part)
}

/// How an attempt ended, in one word.
fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Handled(_) => "handled",
        Outcome::Retry { .. } => "retry",
        Outcome::Reject { .. } => "rejected",
        Outcome::Failed(_) => "failed",
    }
}

/// An outcome, cut to what is kept.
fn kept(outcome: &Outcome, from: usize) -> Outcome {
    let Outcome::Handled(records) = outcome else { return outcome.clone() };
    let record = |record: &NewRecord| NewRecord {
        topic: record.topic.clone(),
        partition: record.partition,
        timestamp: record.timestamp,
        key: record.key.as_ref().map(cut),
        value: record.value.as_ref().map(cut),
        headers: record.headers.iter().take(PARTS).map(header).collect(),
    };
    Outcome::Handled(records.iter().skip(from).take(PARTS).map(record).collect())
}

fn header(header: &Header) -> Header {
    let key = header.key[..header.key.floor_char_boundary(BYTES)].to_owned();
    Header { key, value: header.value.as_ref().map(cut) }
}

/// A copy of the beginning: the rest, and what it is part of, is not held.
fn cut(bytes: &Bytes) -> Bytes {
    let mut kept = &bytes[..bytes.len().min(BYTES)];
    if kept.len() < bytes.len()
        && let Err(error) = std::str::from_utf8(kept)
        && error.error_len().is_none()
    {
        kept = &kept[..error.valid_up_to()]; // the cut went through a character
    }
    Bytes::copy_from_slice(kept)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::record::Record;

    fn delivery(offset: u64) -> Delivery {
        let record = Record {
            topic: "t".into(),
            partition: 2,
            offset,
            timestamp: None,
            key: Some(Bytes::from_static(b"k")),
            value: Some(vec![b'v'; 3 * BYTES].into()),
            headers: Vec::new(),
        };
        Delivery { record, attempt: 3 }
    }

    fn handled(values: &[&str]) -> Outcome {
        let record = |value: &&str| NewRecord::new("out", (*value).to_owned());
        Outcome::Handled(values.iter().map(record).collect())
    }

    fn reject(reason: &str) -> Outcome {
        Outcome::Reject { reason: reason.into() }
    }

    fn retry(reason: &str, after: u64) -> Outcome {
        Outcome::Retry { reason: reason.into(), after: Some(Duration::from_secs(after)) }
    }

    fn trap() -> Outcome {
        Outcome::Failed(Failure::Trap("unreachable".into()))
    }

    fn what(serving: &Outcome, shadow: &Outcome) -> Option<String> {
        difference(serving, shadow).map(|(what, _)| what)
    }

    #[test]
    fn the_first_thing_that_differs_is_named() {
        let timeout = |seconds| Outcome::Failed(Failure::Timeout(Duration::from_secs(seconds)));
        for (serving, shadow, says) in [
            (handled(&["a"]), handled(&["a"]), None),
            (reject("no"), reject("no"), None),
            (trap(), trap(), None),
            (timeout(3), timeout(30), None),
            (handled(&["a", "b"]), handled(&["a", "c"]), Some("emitted record 2: value")),
            (handled(&["a", "b"]), handled(&["a"]), Some("2 emitted, 1 emitted")),
            (handled(&["a", "b"]), handled(&["c"]), Some("emitted record 1: value")),
            (reject("no"), reject("never"), Some("reason")),
            (retry("busy", 1), retry("busy", 2), Some("wait")),
            (retry("busy", 1), retry("ill", 1), Some("reason")),
            (handled(&[]), reject("no"), Some("handled, rejected")),
            (handled(&[]), trap(), Some("handled, failed")),
        ] {
            assert_eq!(what(&serving, &shadow).as_deref(), says, "{serving:?} {shadow:?}");
        }
    }

    #[test]
    fn no_part_of_an_emitted_record_is_overlooked() {
        let record = NewRecord::new("out", "v");
        let header = Header { key: "h".into(), value: None };
        let changes = [
            ("topic", NewRecord { topic: "other".into(), ..record.clone() }),
            ("partition", NewRecord { partition: Some(0), ..record.clone() }),
            ("key", NewRecord { key: Some(Bytes::new()), ..record.clone() }),
            ("value", NewRecord { value: None, ..record.clone() }),
            ("headers", NewRecord { headers: vec![header], ..record.clone() }),
            ("timestamp", NewRecord { timestamp: Some(1), ..record.clone() }),
        ];
        for (part, changed) in changes {
            let [serving, shadow] =
                [&record, &changed].map(|it| Outcome::Handled(vec![it.clone()]));
            assert_eq!(what(&serving, &shadow), Some(format!("emitted record 1: {part}")));
        }
    }

    #[test]
    fn the_first_differing_records_are_kept_cut_and_all_are_counted() {
        let mut tally = Tally::default();
        let long = "x".repeat(2 * BYTES);
        let serving = handled(&["a", "b", &long, "d", "e", "f", "g"]);
        let shadow = handled(&["a", "b", "c", "d", "e", "f", "g"]);
        for offset in 0..100 {
            tally.add(&delivery(offset), &serving, &serving);
            tally.add(&delivery(offset), &serving, &shadow);
            tally.add(&delivery(offset), &serving, &trap());
            tally.add(&delivery(offset), &trap(), &serving);
        }
        assert_eq!(tally.counts, Comparisons { equal: 100, different: 200, failed: 100 });
        assert_eq!(tally.differences.len(), KEPT);
        let Difference { place, key, value, attempt, what, serving, shadow } =
            &*tally.differences[0];
        assert_eq!((place.to_string().as_str(), *attempt), ("t/2@0", 3));
        assert_eq!(
            (key.as_deref(), value.as_ref().map(Bytes::len)),
            (Some(&b"k"[..]), Some(BYTES))
        );
        assert_eq!(what, "emitted record 3: value");
        assert_eq!(*shadow, handled(&["c", "d", "e", "f"]));
        assert_eq!(*serving, handled(&[&long[..BYTES], "d", "e", "f"]));
    }

    proptest! {
        #[test]
        fn nothing_differs_exactly_where_the_outcomes_are_equal(
            serving in outcome(), shadow in outcome(),
        ) {
            prop_assert_eq!(what(&serving, &shadow).is_none(), serving == shadow);
            prop_assert_eq!(what(&serving, &serving), None);
        }
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        let record =
            (0..2u8, 0..2u8, prop::option::of(0..2u32)).prop_map(|(topic, value, partition)| {
                NewRecord { partition, ..NewRecord::new(topic.to_string(), vec![value]) }
            });
        prop_oneof![
            prop::collection::vec(record, 0..3).prop_map(Outcome::Handled),
            (0..2u8).prop_map(|reason| reject(&reason.to_string())),
            (0..2u64).prop_map(|after| retry("", after)),
            (0..2u8).prop_map(|cause| Outcome::Failed(Failure::Trap(cause.to_string()))),
        ]
    }
}
