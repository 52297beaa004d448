//! Which offsets of a partition are finished, how far its commit may go, and the map that goes with the commit.
//!
//! The committed offset is the lowest one that was received and is not finished; when all are, one past the last. What
//! is finished above it goes into the commit's metadata as a [`OffsetMap`], so that whoever goes on from that commit handles
//! it no second time. Only received offsets count, so gaps in the log (compaction, transaction markers) are no special
//! case: an offset that was not received is as good as finished. Plain data.
//!
//! Kept are the unfinished offsets, of which there are never more than may wait, and not the finished ones, of which
//! there may be millions.

mod bits;
mod map;
mod runs;
#[cfg(test)]
mod tests;
mod text;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

pub use map::OffsetMap;
pub use text::Unread;

/// Characters of a map that is near what a commit takes, as Parallel Consumer sees it: three quarters.
const NEAR: usize = text::MOST_CHARACTERS / 4 * 3;
/// Characters of a map that is well below it.
const FAR: usize = text::MOST_CHARACTERS / 2;
/// Characters that a change adds to a map, and hardly ever more.
const CHANGE: usize = 4;

/// The offsets of one partition from its commit on.
#[derive(Debug)]
pub(super) struct Offsets {
    /// Received and not finished: start and end of ranges that do not overlap.
    unfinished: BTreeMap<u64, u64>,
    /// Not finished by the map that it began with, and not received yet: ascending, none below `next`.
    expected: VecDeque<Range<u64>>,
    /// One past the last received offset, or where it began.
    next: u64,
    /// One past the highest finished offset, or where it began.
    finished_end: u64,
    /// Whether nothing was received yet.
    fresh: bool,
    /// Raised by whatever changes the map or the offset to commit.
    changes: u64,
    encoded: Option<Encoded>,
}

/// The map as it was after so many changes, and whether all of it fitted.
#[derive(Debug)]
struct Encoded {
    changes: u64,
    text: String,
    is_whole: bool,
}

impl Offsets {
    /// Begins at the offset of the next record to come.
    pub(super) fn new(next: u64) -> Self {
        Self {
            unfinished: BTreeMap::new(),
            expected: VecDeque::new(),
            next,
            finished_end: next,
            fresh: true,
            changes: 0,
            encoded: None,
        }
    }

    /// Begins at a committed offset, with what its metadata says is finished above it.
    ///
    /// # Errors
    /// When the metadata is not a map: it has to be left unread.
    pub(super) fn restore(committed: u64, metadata: &str) -> Result<Self, Unread> {
        OffsetMap::decode(committed, metadata).map(|map| Self::with(&map))
    }

    /// Begins again at an offset of these; what is finished from there on stays so.
    pub(super) fn again_from(&self, offset: u64) -> Self {
        let unfinished = self.all_unfinished().filter(|range| range.end > offset);
        let unfinished = unfinished.map(|range| range.start.max(offset)..range.end);
        Self::with(&OffsetMap::new(offset, self.finished_end.max(offset), unfinished))
    }

    fn with(map: &OffsetMap) -> Self {
        let mut offsets = Self::new(map.base());
        offsets.expected.extend(map.unfinished());
        offsets.finished_end = map.end();
        // What is unfinished at the end is as good as not in the map.
        if let Some(last) = offsets.expected.pop_back_if(|last| last.end == map.end()) {
            offsets.finished_end = last.start;
        }
        offsets
    }

    /// Notes a record that was read. Says whether it is to be handled: a broker may hand a record over again, and what
    /// was received once is not handled twice, nor what was finished before.
    pub(super) fn receive(&mut self, offset: u64) -> bool {
        self.fresh = false;
        if offset < self.next {
            return false;
        }
        self.next = offset + 1;
        let is_expected = self.expect(offset);
        if offset < self.finished_end && !is_expected {
            return false;
        }
        match self.unfinished.last_entry() {
            Some(mut last) if *last.get() == offset => *last.get_mut() = offset + 1,
            _ => {
                self.unfinished.insert(offset, offset + 1);
            }
        }
        true
    }

    /// Strikes out what was expected up to an offset: the log has nothing of it below. Says whether the offset was
    /// expected itself.
    fn expect(&mut self, offset: u64) -> bool {
        while let Some(front) = self.expected.front_mut() {
            if front.start > offset {
                return false;
            }
            self.changes += u64::from(front.start < offset);
            let is_expected = offset < front.end;
            front.start = offset + 1;
            if front.start >= front.end {
                self.expected.pop_front();
            }
            if is_expected {
                return true;
            }
        }
        false
    }

    /// Whether a record that is the first to be received shows that the log does not reach the offset it was to begin
    /// at: the topic was made anew, or has lost its end.
    pub(super) fn begins_below(&self, offset: u64) -> bool {
        self.fresh && offset < self.next
    }

    /// Notes that a received record is finished.
    pub(super) fn finish(&mut self, offset: u64) {
        let Some((&start, end)) = self.unfinished.range_mut(..=offset).next_back() else { return };
        let until = *end;
        if offset >= until {
            return;
        }
        if start == offset {
            self.unfinished.remove(&start);
        } else {
            *end = offset;
        }
        if offset + 1 < until {
            self.unfinished.insert(offset + 1, until);
        }
        self.finished_end = self.finished_end.max(offset + 1);
        self.changes += 1;
    }

    /// The lowest offset that was received and is not finished.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.unfinished.first_key_value().map(|(start, _)| *start)
    }

    /// The offset that may be committed: every received record below it is finished.
    pub(super) fn committable(&self) -> u64 {
        match self.all_unfinished().next() {
            Some(lowest) => lowest.start,
            None => self.next.max(self.finished_end),
        }
    }

    /// The metadata to commit with [`Offsets::committable`]: the map of what is finished above it, or of such a map that
    /// does not fit, as much as does. Empty when nothing is.
    pub(super) fn metadata(&mut self) -> &str {
        &self.encode(|_| 0).text
    }

    /// Whether the map is so near what a commit takes that nothing more may be received. Below an offset that is
    /// finished already, what is received can only make it shorter.
    pub(super) fn is_crowded(&mut self) -> bool {
        self.expected.is_empty() && self.is_longer(NEAR)
    }

    /// Whether there is room again after [`Offsets::is_crowded`].
    pub(super) fn is_roomy(&mut self) -> bool {
        !self.expected.is_empty() || !self.is_longer(FAR)
    }

    /// Whether the map has more characters than these. One that may have is written to know, and again only after so
    /// many changes as it has room for: writing it is dear.
    fn is_longer(&mut self, characters: usize) -> bool {
        let offsets = self.finished_end.saturating_sub(self.committable());
        let runs = 2 * (self.unfinished.len() + self.expected.len());
        if text::bound(offsets, runs) <= characters {
            return false;
        }
        let encoded = self.encode(|text| (text::MOST_CHARACTERS - text.len()) / CHANGE);
        !encoded.is_whole || encoded.text.len() > characters
    }

    /// The map as text, at most so many changes old as `age` says of it.
    fn encode(&mut self, age: impl Fn(&str) -> usize) -> &Encoded {
        let changes = self.changes;
        let is_fresh = |it: &Encoded| it.changes + age(&it.text) as u64 >= changes;
        let encoded = self.encoded.take().filter(is_fresh).unwrap_or_else(|| {
            let (text, is_whole) = self.map().encode();
            Encoded { changes, text, is_whole }
        });
        self.encoded.insert(encoded)
    }

    fn map(&self) -> OffsetMap {
        OffsetMap::new(self.committable(), self.finished_end, self.all_unfinished())
    }

    fn all_unfinished(&self) -> impl Iterator<Item = Range<u64>> {
        let received = self.unfinished.iter().map(|(start, end)| *start..*end);
        received.chain(self.expected.iter().cloned())
    }
}
