//! What happened in an episode, as it was seen from outside: what clients were told, what the topics keep, what was seen
//! committed, and what each process said. Plain data; `check` judges it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use keyway::{
    config::{Delivery, OnReject, Ordering},
    dispatch::OffsetMap,
};

/// A moment: since the Unix epoch, to the microsecond. All processes are on one machine and share its clock.
pub(crate) type At = Duration;

/// A record of the source topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
}

impl Spot {
    pub(crate) fn new(partition: u32, offset: u64) -> Self {
        Self { partition, offset }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

/// What the group under test promises.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promises {
    pub(crate) ordering: Ordering,
    pub(crate) delivery: Delivery,
    pub(crate) on_reject: OnReject,
}

/// A record that a client has an answer for.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) spot: Spot,
    pub(crate) id: String,
}

/// A record as the source topic keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) key: Option<String>,
    pub(crate) id: String,
}

/// A record that was given up on, as its topic keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    /// Whose it is.
    pub(crate) source: Spot,
    /// Its own offset, in the partition of the same number.
    pub(crate) offset: u64,
    /// When it was given up on, to the millisecond.
    pub(crate) at: At,
}

/// What was seen committed, at the latest when.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) at: At,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) map: OffsetMap,
}

impl Commit {
    /// Whether it says that an offset is finished.
    pub(crate) fn covers(&self, offset: u64) -> bool {
        offset < self.offset
            || offset < self.map.end()
                && !self.map.unfinished().any(|range| range.contains(&offset))
    }
}

/// How a handling ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Handled,
    Failed,
}

/// What a process said.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A partition became a member's.
    Assigned { member: String, partition: u32 },
    /// A member is about to acknowledge that a partition is revoked.
    Released { member: String, partition: u32 },
    /// A member has a partition no more, for whatever reason.
    Gone { member: String, partition: u32 },
    /// A member gives records to its handler, from this one on.
    HandedOver { member: String, first: Spot },
    /// The handler begins with a record.
    Began { spot: Spot },
    /// The handler is done with it.
    Ended { spot: Spot, ending: Ending },
    /// A record was given up on.
    GaveUp { spot: Spot },
    /// Lines of the handler were left out of the log: nothing can be judged.
    Blinded,
}

/// A line of a process.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) at: At,
    pub(crate) event: Event,
}

/// A process, with its lines in the order in which it wrote them.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) lines: Vec<Line>,
}

/// An episode.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) promises: Promises,
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) source: BTreeMap<Spot, Kept>,
    /// The ids in the output topic, as a reader of what is committed sees them.
    pub(crate) output: Vec<String>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) commits: Vec<Commit>,
    pub(crate) processes: Vec<Process>,
}

/// What has to be handled in order: a partition, and the key in it.
pub(crate) type Lane = (u32, Option<String>);

impl History {
    /// All lines, with the process that wrote each.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&Process, &Line)> {
        self.processes
            .iter()
            .flat_map(|process| process.lines.iter().map(move |line| (process, line)))
    }

    /// The lane of a record; `None`: it waits for nobody.
    pub(crate) fn lane(&self, spot: Spot) -> Option<Lane> {
        match self.promises.ordering {
            Ordering::Partition => Some((spot.partition, None)),
            Ordering::Key => {
                let key = self.source.get(&spot)?.key.clone()?;
                Some((spot.partition, Some(key)))
            }
            Ordering::None => None,
        }
    }

    /// When each record was handled with success for the first time.
    pub(crate) fn handled(&self) -> BTreeMap<Spot, At> {
        let handled = self.lines().filter_map(|(_, line)| match line.event {
            Event::Ended { spot, ending: Ending::Handled } => Some((spot, line.at)),
            _ => None,
        });
        first(handled)
    }

    /// When each record was finished for the first time: handled with success, or given up on.
    pub(crate) fn finished(&self) -> BTreeMap<Spot, At> {
        let given_up = self.lines().filter_map(|(_, line)| match line.event {
            Event::GaveUp { spot } => Some((spot, line.at)),
            _ => None,
        });
        let letters = self.letters.iter().map(|letter| (letter.source, letter.at));
        first(self.handled().into_iter().chain(given_up).chain(letters))
    }

    /// The records that were given up on.
    pub(crate) fn lettered(&self) -> BTreeSet<Spot> {
        self.letters.iter().map(|letter| letter.source).collect()
    }
}

/// The earliest moment of each.
pub(crate) fn first(moments: impl Iterator<Item = (Spot, At)>) -> BTreeMap<Spot, At> {
    let mut earliest = BTreeMap::new();
    for (spot, at) in moments {
        earliest.entry(spot).and_modify(|first: &mut At| *first = at.min(*first)).or_insert(at);
    }
    earliest
}
