//! Maps as text: what is written is read back, whatever is read does no harm.

use std::ops::Range;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;

use super::super::{
    Offsets,
    map::OffsetMap,
    text::{MOST_RUNS, Unread, bound},
};

fn of_runs(base: u64, runs: &[u64]) -> OffsetMap {
    OffsetMap::of_runs(base, runs.to_vec()).unwrap()
}

/// What a map says, whatever its runs look like: trailing unfinished offsets say nothing.
fn meaning(map: &OffsetMap) -> (u64, Vec<Range<u64>>) {
    let unfinished = OffsetMap::new(map.base(), map.end(), map.unfinished()).unfinished().collect();
    (map.end(), unfinished)
}

#[test]
fn metadata_of_others_is_left_unread() {
    for (metadata, unread) in [
        ("leader-1: 192.168.0.7", Unread::NotBase64),
        ("{\"owner\":\"billing\"}", Unread::NotBase64),
        ("NONE", Unread::UnknownFormat(0x34)),
        ("AQAAAAAAAAAA", Unread::KafkaStreams),
        ("AgAAAAAAAAAA", Unread::KafkaStreams),
        ("bGVhZGVyLTE=", Unread::Damaged("is not as long as it says")), // "leader-1"
        ("bo==", Unread::NotBase64),
        ("bv//AAE=", Unread::Damaged("has a negative length")),
        ("bgABAA==", Unread::Damaged("ends within a length")),
        ("cAAA", Unread::Damaged("cannot be decompressed, or is very long")),
    ] {
        assert_eq!(OffsetMap::decode(5, metadata), Err(unread), "{metadata:?}");
    }
}

#[test]
fn a_map_that_is_cut_off_anywhere_is_read_no_further_than_it_is_true() {
    let map = of_runs(7, &[1, 700, 3, 40_000, 9, 2]);
    let (text, _) = map.encode();
    for end in 1..text.len() {
        if let Ok(part) = OffsetMap::decode(7, &text[..end]) {
            let finished = |map: &OffsetMap, offset| {
                offset < map.end() && !map.unfinished().any(|range| range.contains(&offset))
            };
            let untrue = (7..part.end()).find(|at| finished(&part, *at) && !finished(&map, *at));
            assert_eq!(untrue, None, "of {end} characters");
        }
    }
}

#[test]
fn a_map_that_is_a_bomb_is_left_unread() {
    let zeroes = vec![0; 100 << 20];
    let body = zstd::bulk::compress(&zeroes, 3).unwrap();
    for magic in [b'a', b'J', b's', b'p', 0xee] {
        let text = STANDARD.encode([&[magic], &body[..]].concat());
        assert!(matches!(OffsetMap::decode(0, &text), Err(Unread::Damaged(_))), "{magic}");
    }
    let alternating = zstd::bulk::compress(&vec![0x55; 1 << 20], 3).unwrap();
    let body = zstd::bulk::compress(&[&[0, 0x7f, 0, 0], &[0x55; 1 << 19][..]].concat(), 3).unwrap();
    for body in [alternating, body] {
        let text = STANDARD.encode([b"s", &body[..]].concat());
        assert!(matches!(OffsetMap::decode(0, &text), Err(Unread::Damaged(_))));
    }
}

#[test]
fn lengths_that_add_up_to_more_than_there_are_offsets_are_left_unread() {
    let most = i64::MAX as u64;
    assert_eq!(
        OffsetMap::decode(most - 1, "bgABAAE="),
        Err(Unread::Damaged("goes past the last offset there can be"))
    );
    assert!(OffsetMap::decode(most - 2, "bgABAAE=").is_ok());
}

/// Runs of every kind: short and long, few and many, regular and not.
fn runs() -> impl Strategy<Value = Vec<u64>> {
    let length = prop_oneof![4 => 1..4u64, 2 => 1..300u64, 1 => 1..40_000u64];
    let long = prop_oneof![8 => 1..100u64, 1 => 1..(1u64 << 31)];
    prop_oneof![
        4 => prop::collection::vec(length, 1..64),
        2 => prop::collection::vec(1..3u64, 1..2000),
        2 => prop::collection::vec(long, 1..64),
        1 => (prop::collection::vec(1..5u64, 1..8), 1..1000usize)
            .prop_map(|(pattern, times)| pattern.repeat(times)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn a_map_that_is_written_is_read_back(base in 0..u64::from(u32::MAX), runs in runs()) {
        let map = OffsetMap::of_runs(base, runs).unwrap();
        let (text, is_whole) = map.encode();
        prop_assert!(text.len() <= 4096);
        let decoded = OffsetMap::decode(base, &text).unwrap();
        if is_whole && map.runs().len() > 1 {
            prop_assert_eq!(meaning(&decoded), meaning(&map));
        } else {
            // A beginning of it that ends with something finished.
            prop_assert!(decoded.end() <= map.end());
            let cut = map.unfinished().take_while(|range| range.end < decoded.end());
            prop_assert_eq!(decoded.unfinished().collect::<Vec<_>>(), cut.collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_bound_of_a_map_is_never_below_its_length(runs in runs()) {
        let map = OffsetMap::of_runs(0, runs).unwrap();
        let (text, is_whole) = map.encode();
        prop_assert!(!is_whole || text.len() <= bound(map.end(), map.runs().len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn reading_anything_does_no_harm(
        base in 0..=i64::MAX as u64,
        magic in prop::sample::select(&b"LlanJosep\xee\x01\x02x"[..]),
        body in prop::collection::vec(any::<u8>(), 0..64),
        is_compressed in any::<bool>(),
    ) {
        let body = if is_compressed { zstd::bulk::compress(&body, 1).unwrap() } else { body };
        let text = STANDARD.encode([&[magic], &body[..]].concat());
        if let Ok(map) = OffsetMap::decode(base, &text) {
            prop_assert!(map.runs().len() <= MOST_RUNS && map.end() <= i64::MAX as u64);
            // And what was read can be gone on from.
            let mut offsets = Offsets::with(&map);
            prop_assert!(offsets.committable() >= base);
            prop_assert!(offsets.metadata().len() <= 4096);
        }
    }

    #[test]
    fn reading_any_text_does_no_harm(text in "\\PC{0,64}") {
        drop(OffsetMap::decode(0, &text));
    }
}
