//! The keys that come most often, in a fixed space: Metwally's Space-Saving. Pure.
//!
//! Invariants, with `n` the sum of all weights and `c` the capacity: a count is never too low, and too high by its error at
//! the most; a key with more than `n / c` is there.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use bytes::Bytes;

/// Bytes of a key that tell it apart from others.
const KEY: usize = 256;

/// Counts of the keys that came most often.
#[derive(Debug)]
pub(super) struct Sketch {
    hasher: RandomState,
    capacity: usize,
    /// The same index has the same key in all three: a key is found, and the least looked for, by a walk through numbers
    /// that lie side by side.
    hashes: Vec<u64>,
    counts: Vec<u64>,
    keys: Vec<(Box<[u8]>, u64)>,
}

/// A key that comes often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hot {
    /// Its first 256 bytes.
    pub key: Bytes,
    /// How often it came, at the most.
    pub most: u64,
    /// How often it came, at the least.
    pub least: u64,
}

impl Sketch {
    /// An empty one that counts so many keys.
    pub(super) fn new(capacity: usize) -> Self {
        let hasher = RandomState::new();
        Self { hasher, capacity, hashes: Vec::new(), counts: Vec::new(), keys: Vec::new() }
    }

    /// Counts a key as if it came `weight` times.
    pub(super) fn add(&mut self, key: &[u8], weight: u64) {
        let key = &key[..key.len().min(KEY)];
        let hash = self.hasher.hash_one(key);
        let is_it = |index: &usize| self.hashes[*index] == hash && *self.keys[*index].0 == *key;
        if let Some(index) = (0..self.hashes.len()).find(is_it) {
            self.counts[index] += weight;
        } else if self.keys.len() < self.capacity {
            self.hashes.push(hash);
            self.counts.push(weight);
            self.keys.push((key.into(), 0));
        } else if let Some((index, least)) = self.least() {
            self.hashes[index] = hash;
            self.counts[index] += weight;
            self.keys[index] = (key.into(), least);
        }
    }

    fn least(&self) -> Option<(usize, u64)> {
        self.counts.iter().copied().enumerate().min_by_key(|(_, count)| *count)
    }

    /// How often a key came, at the most, that is not counted.
    fn of_others(&self) -> u64 {
        if self.keys.len() < self.capacity { 0 } else { self.least().map_or(0, |(_, least)| least) }
    }
}

/// The `most` hottest keys of two sketches together, the hottest first.
pub(super) fn hottest(sketches: [&Sketch; 2], most: usize) -> Vec<Hot> {
    let mut found: HashMap<&[u8], (u64, u64)> = HashMap::new();
    for (sketch, other) in [(sketches[0], sketches[1]), (sketches[1], sketches[0])] {
        for ((key, error), count) in sketch.keys.iter().zip(&sketch.counts) {
            let elsewhere = other.of_others();
            let (upper, lower) = found.entry(key).or_insert((elsewhere, 0));
            // What was taken for the other's bound is its count, where it has one.
            if *lower > 0 {
                *upper -= sketch.of_others();
            }
            *upper += count;
            *lower += count - error;
        }
    }
    let mut hottest: Vec<_> = found
        .into_iter()
        .map(|(key, (most, least))| Hot { key: Bytes::copy_from_slice(key), most, least })
        .collect();
    hottest.sort_by(|a, b| (b.most, &a.key).cmp(&(a.most, &b.key)));
    hottest.truncate(most);
    hottest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys that come unevenly, each with a weight.
    fn stream() -> impl Strategy<Value = Vec<(u8, u64)>> {
        let key = prop_oneof![3 => 0..4_u8, 2 => any::<u8>()];
        proptest::collection::vec((key, 1..4_u64), 0..300)
    }

    fn sketch(stream: &[(u8, u64)], capacity: usize) -> Sketch {
        let mut sketch = Sketch::new(capacity);
        stream.iter().for_each(|(key, weight)| sketch.add(&[*key], *weight));
        sketch
    }

    fn counted(stream: &[(u8, u64)]) -> HashMap<u8, u64> {
        let mut counted = HashMap::new();
        stream.iter().for_each(|(key, weight)| *counted.entry(*key).or_default() += weight);
        counted
    }

    proptest! {
        #[test]
        fn what_is_counted_is_within_its_bounds_and_no_hot_key_is_missing(
            streams in [stream(), stream()], capacity in 1..20_usize
        ) {
            let sketches = streams.each_ref().map(|stream| sketch(stream, capacity));
            let found = hottest([&sketches[0], &sketches[1]], usize::MAX);
            let naive = counted(&streams.concat());
            for hot in &found {
                let truth = naive.get(&hot.key[0]).copied().unwrap_or_default();
                prop_assert!(hot.least <= truth && truth <= hot.most, "{hot:?} is {truth}");
            }
            for stream in &streams {
                let all: u64 = stream.iter().map(|(_, weight)| weight).sum();
                for (key, count) in counted(stream) {
                    let is_there = found.iter().any(|hot| hot.key[0] == key);
                    prop_assert!(is_there || count <= all / capacity as u64, "{key}: {count} of {all}");
                }
            }
            prop_assert!(found.is_sorted_by_key(|hot| std::cmp::Reverse(hot.most)));
        }

        #[test]
        fn with_room_for_all_keys_it_counts_exactly(streams in [stream(), stream()]) {
            let sketches = streams.each_ref().map(|stream| sketch(stream, 256));
            let found = hottest([&sketches[0], &sketches[1]], usize::MAX);
            prop_assert!(found.iter().all(|hot| hot.most == hot.least));
            let found: HashMap<_, _> = found.iter().map(|hot| (hot.key[0], hot.most)).collect();
            prop_assert_eq!(found, counted(&streams.concat()));
        }
    }

    #[test]
    fn a_long_key_is_known_by_its_beginning() {
        let mut sketch = Sketch::new(2);
        sketch.add(&[7; 1000], 1);
        sketch.add(&[7; 300], 1);
        let found = hottest([&sketch, &Sketch::new(2)], 9);
        assert_eq!((found.len(), found[0].key.len(), found[0].most), (1, 256, 2));
    }
}
