//! Which lanes of one partition are parked, which records wait in them, and whether they are being given back.
//!
//! All of it is in the topic of parked records, as letters and marks, so that [`Parked::replay`] over that topic gives
//! what the last owner of the partition knew. Only offsets and lanes are kept here, never a value. Plain data.
//!
//! Invariants: a lane is parked as long as one of its letters is not done with; its letters are taken in the order of
//! their source, and one lane's by one taker at a time.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use super::lanes::Kind;
use crate::{
    config::Ordering,
    letter::{self, Entry, Letter, Mark, MarkKind},
    record::{Header, Record, TopicPartition},
};

/// While a lane is given back, new records of it are parked behind as long as more letters than this are left, so that
/// they fill nobody's memory; then they wait, so that it comes to an end however fast they come.
const FEW: usize = 256;

/// The parked lanes of one source partition.
#[derive(Debug)]
pub(super) struct Parked {
    source: TopicPartition,
    ordering: Ordering,
    lanes: HashMap<Kind, Lane>,
    /// Those of them that are being given back.
    released: HashSet<Kind>,
    /// Letters in all lanes, found or not.
    letters: usize,
    /// Records from the committed offset on that the topic holds already, parked or done with, by source offset: a
    /// member died between the write and the commit. With a fingerprint, for a source that was made anew gives its
    /// offsets to other records.
    known: HashMap<u64, u64>,
    committed: u64,
}

#[derive(Debug, Default)]
struct Lane {
    /// Letters that are not done with, by source offset, then by their own.
    letters: BTreeSet<(u64, u64)>,
    /// Source offsets of records that are parked behind those, in a transaction that is not known to be committed, or
    /// whose letters were not found since.
    pending: BTreeSet<u64>,
    /// Somebody parks records of it, or handles its letters.
    busy: bool,
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.letters.is_empty() && self.pending.is_empty()
    }
}

/// What is to be done with new records of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is not parked: they are handled.
    Free,
    /// They are parked behind the record of this source offset.
    Behind(u64),
    /// They wait until the lane's letters are done with.
    Wait,
}

/// Letters of one lane that are to be handled.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) kind: Kind,
    /// As they were read, in the order of their source.
    pub(super) letters: Vec<(Letter, Record)>,
}

impl Parked {
    /// Nothing parked, of a partition that is committed up to `committed`.
    pub(super) fn new(source: TopicPartition, ordering: Ordering, committed: u64) -> Self {
        Self {
            source,
            ordering,
            lanes: HashMap::new(),
            released: HashSet::new(),
            letters: 0,
            known: HashMap::new(),
            committed,
        }
    }

    /// Learns from the next record of the topic of parked records, of whatever source it is.
    pub(super) fn replay(&mut self, record: &Record) {
        match letter::read(record) {
            Some(Entry::Letter(Letter { source, .. })) if source.partition == self.source => {
                if source.offset >= self.committed {
                    let original = letter::original_headers(record);
                    self.known.insert(source.offset, fingerprint(record, original));
                }
                let kind = self.kind(record, source.offset);
                self.parked(&kind, source.offset, record.offset);
            }
            Some(Entry::Mark(mark)) if mark.source.partition == self.source => {
                self.marked(&mark, record);
            }
            Some(Entry::Sought(place)) if place.partition == self.source => {
                self.sought(place.offset);
            }
            _ => {}
        }
    }

    /// Forgets what was parked from an offset of the source on: it is handled again from there.
    fn sought(&mut self, offset: u64) {
        self.known.retain(|source, _| *source < offset);
        for lane in self.lanes.values_mut() {
            self.letters -= lane.letters.split_off(&(offset, 0)).len();
        }
        self.lanes.retain(|_, lane| !lane.is_empty());
        self.released.retain(|kind| self.lanes.contains_key(kind));
    }

    fn marked(&mut self, mark: &Mark, record: &Record) {
        let kind = self.kind(record, mark.source.offset);
        match mark.kind {
            MarkKind::Redriven => self.done(&kind, mark.source.offset, mark.letter.offset),
            MarkKind::Released => drop(self.release(&kind, record.offset)),
            MarkKind::Held => self.hold(&kind),
        }
    }

    /// The lane of a record, or of the mark that has its key.
    pub(super) fn kind(&self, record: &Record, source: u64) -> Kind {
        Kind::of(self.ordering, record.key.as_ref(), source)
    }

    /// Whether a record of the source is in the topic already, so that there is nothing more to do with it.
    pub(super) fn knows(&mut self, record: &Record) -> bool {
        let known = self.known.remove(&record.offset);
        known.is_some_and(|known| known == fingerprint(record, &record.headers))
    }

    /// What is to be done with new records of a lane.
    pub(super) fn way(&self, kind: &Kind) -> Way {
        let Some(lane) = self.lanes.get(kind) else { return Way::Free };
        let ends_soon = lane.busy || lane.letters.len() + lane.pending.len() <= FEW;
        let first = lane.letters.first().map(|(first, _)| first).or(lane.pending.first());
        match first {
            Some(_) if ends_soon && self.released.contains(kind) => Way::Wait,
            Some(first) => Way::Behind(*first),
            None => Way::Free,
        }
    }

    /// Notes that records of a lane are being parked: until [`Parked::free`] its letters are not taken.
    pub(super) fn occupy(&mut self, kind: &Kind) {
        if let Some(lane) = self.lanes.get_mut(kind) {
            lane.busy = true;
        }
    }

    /// The end of [`Parked::occupy`] and of [`Parked::take`].
    pub(super) fn free(&mut self, kind: &Kind) {
        if let Some(lane) = self.lanes.get_mut(kind) {
            lane.busy = false;
        }
    }

    /// Notes a record that is parked with the next transaction.
    pub(super) fn pend(&mut self, kind: &Kind, source: u64) {
        let lane = self.lanes.entry(kind.clone()).or_default();
        self.letters += usize::from(lane.pending.insert(source));
    }

    /// Notes the letter of a record that was parked so, and is in the topic now.
    pub(super) fn found(&mut self, kind: &Kind, source: u64, letter: u64) {
        let Some(lane) = self.lanes.get_mut(kind) else { return };
        if lane.pending.remove(&source) {
            self.letters -= 1;
            self.parked(kind, source, letter);
        }
    }

    /// Notes a letter that is durable.
    pub(super) fn parked(&mut self, kind: &Kind, source: u64, letter: u64) {
        let lane = self.lanes.entry(kind.clone()).or_default();
        self.letters += usize::from(lane.letters.insert((source, letter)));
    }

    /// Begins to give a lane back, as the mark at offset `at` says; one that was parked after that mark stays. Says
    /// whether anything changes.
    pub(super) fn release(&mut self, kind: &Kind, at: u64) -> bool {
        let Some(lane) = self.lanes.get(kind) else { return false };
        let is_meant = lane.letters.iter().any(|(_, letter)| *letter < at);
        is_meant && self.released.insert(kind.clone())
    }

    /// Parks a lane again that was being given back.
    pub(super) fn hold(&mut self, kind: &Kind) {
        self.released.remove(kind);
    }

    /// Notes that a letter is done with. The last one lifts the lane.
    pub(super) fn done(&mut self, kind: &Kind, source: u64, letter: u64) {
        let Some(lane) = self.lanes.get_mut(kind) else { return };
        self.letters -= usize::from(lane.letters.remove(&(source, letter)));
        if lane.is_empty() {
            self.lanes.remove(kind);
            self.released.remove(kind);
        }
    }

    /// Where the topic is to be read for letters that can be taken now.
    pub(super) fn next(&self) -> Option<u64> {
        let lanes = self.released.iter().filter_map(|kind| self.lanes.get(kind));
        lanes
            .filter(|lane| !lane.busy)
            .filter_map(|lane| lane.letters.first())
            .map(|(_, letter)| *letter)
            .min()
    }

    /// Takes letters out of what was read from offset `from` on: of each lane that is given back those that come next,
    /// until [`Parked::free`]. Letters that should have been there and are not are forgotten, and returned as offsets:
    /// somebody has deleted them.
    pub(super) fn take(&mut self, from: u64, records: Vec<Record>) -> (Vec<Taken>, Vec<u64>) {
        let end = records.last().map_or(u64::MAX, |record| record.offset);
        let mut read: HashMap<u64, Record> =
            records.into_iter().map(|record| (record.offset, record)).collect();
        let (mut taken, mut lost) = (Vec::new(), Vec::new());
        for kind in self.released.iter() {
            let Some(lane) = self.lanes.get_mut(kind).filter(|lane| !lane.busy) else { continue };
            let mut letters = Vec::new();
            let is_read = |(_, letter): &&(u64, u64)| (from..=end).contains(letter);
            let next: Vec<_> = lane.letters.iter().take_while(is_read).copied().collect();
            for (source, offset) in next {
                let record = read.remove(&offset);
                let letter = record.and_then(|record| match letter::read(&record)? {
                    Entry::Letter(letter) => Some((letter, record)),
                    Entry::Mark(_) | Entry::Sought(_) => None,
                });
                match letter {
                    Some(letter) => letters.push(letter),
                    None => lost.push((kind.clone(), source, offset)),
                }
            }
            if !letters.is_empty() {
                lane.busy = true;
                taken.push(Taken { kind: kind.clone(), letters });
            }
        }
        lost.iter().for_each(|(kind, source, letter)| self.done(kind, *source, *letter));
        (taken, lost.into_iter().map(|(_, _, letter)| letter).collect())
    }

    /// How many lanes are parked, and how many records in them.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.lanes.len(), self.letters)
    }

    /// Whether nothing is parked.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }
}

/// Tells records apart that had the same offset. Of meaning in this process only.
fn fingerprint(record: &Record, headers: &[Header]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&record.key, &record.value).hash(&mut hasher);
    for header in headers {
        (&header.key, &header.value).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests;
