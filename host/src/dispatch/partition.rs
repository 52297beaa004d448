//! One assigned partition: how far it is, whether it may be read on, and what is shown of it.

use std::time::Duration;

use tokio::time::Instant;

use tokio_util::sync::CancellationToken;

use super::{
    figures,
    lanes::Load,
    offsets::{Offsets, Unread},
    status::PartitionStatus,
    timeline::Timeline,
};
use crate::{
    broker::{Assigned, Committed, OffsetCommit},
    flaw::{self, Flaw},
    handler::Generation,
    record::{Record, TopicPartition},
};

/// How long a full partition is merely not read before it is paused. Pausing a Kafka partition throws away what was
/// fetched ahead, so a handler that keeps up with short bursts should not cause it.
const PATIENCE: Duration = Duration::from_millis(500);

/// A partition in a member's hands.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) name: TopicPartition,
    pub(super) offsets: Offsets,
    timeline: Timeline,
    /// Records taken by runs and dead letters being written.
    pub(super) in_flight: usize,
    /// Stops what is in flight, when there is no more time for it.
    pub(super) cancel: CancellationToken,
    /// Why it stands still by the policy `stop`.
    pub(super) stopped: Option<String>,
    /// Its records come from an old position until the driver says otherwise.
    pub(super) seeking: bool,
    /// It is being given up: nothing more is taken in.
    pub(super) leaving: bool,
    /// Its last commit and its release are under way.
    pub(super) released: bool,
    /// Paused at the driver because too much waits.
    pub(super) held: bool,
    /// An operator holds it back: it is paused at the driver, and nothing that waits is handled.
    pub(super) paused: bool,
    /// An operator moves it: nothing that waits is handled, and nothing of the old position is committed.
    pub(super) moving: bool,
    /// The transaction failed that it was handled for: nothing of it is committed any more. It begins again, or goes.
    pub(super) abandoned: bool,
    /// Its offset goes with the next transaction whether it is new or not: something of it is in there that a member which
    /// does not own the partition any more must not write.
    pub(super) fences: bool,
    full_since: Option<Instant>,
    committed: Option<Committed>,
    /// Which generation handled a record of it last, and the lowest offset that it has handled since the one before.
    generation: Option<(Generation, u64)>,
}

/// What a partition's load asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pressure {
    /// Read on.
    Open,
    /// Do not read on before this moment, and look again then.
    Full(Instant),
    /// It has been full for long: pause it.
    Hold,
}

impl Partition {
    /// Goes on from what was committed last, and says why its metadata was left unread where it was.
    pub(super) fn assigned(assigned: Assigned) -> (Self, Option<Unread>) {
        let Assigned { partition, committed } = assigned;
        let Some(Committed { offset, mut metadata }) = committed else {
            return (Self::new(partition, Offsets::new(0)), None);
        };
        if flaw::is(Flaw::SkipMap) {
            metadata.clear();
        }
        let (mut offsets, unread) = match Offsets::restore(offset, &metadata) {
            Ok(offsets) => (offsets, None),
            Err(unread) => (Offsets::new(offset), Some(unread)),
        };
        // What was committed says the same in other words, or nothing: that is no reason to commit anew.
        let metadata = offsets.metadata().to_owned();
        let mut it = Self::new(partition, offsets);
        it.committed = Some(Committed { offset, metadata });
        (it, unread)
    }

    fn new(name: TopicPartition, offsets: Offsets) -> Self {
        Self {
            name,
            offsets,
            timeline: Timeline::default(),
            in_flight: 0,
            cancel: CancellationToken::new(),
            stopped: None,
            seeking: false,
            leaving: false,
            released: false,
            held: false,
            paused: false,
            moving: false,
            abandoned: false,
            fences: false,
            full_since: None,
            committed: None,
            generation: None,
        }
    }

    /// The same partition from another position on; what is in flight of the old one no longer counts.
    pub(super) fn moved(self, offset: u64) -> Self {
        self.cancel.cancel();
        let mut moved = Self::new(self.name, Offsets::new(offset));
        moved.committed = self.committed;
        moved.generation = self.generation;
        moved.held = self.held;
        moved.paused = self.paused;
        moved
    }

    /// The same partition read again from an offset on. Only what is not finished is handled again.
    pub(super) fn read_again(self, offset: u64) -> Self {
        let offsets = self.offsets.again_from(offset);
        let mut moved = self.moved(offset);
        moved.offsets = offsets;
        moved
    }

    /// The same partition at the offset that an operator had committed for it. Its records come from the old position
    /// until the driver says otherwise.
    pub(super) fn sought(self, offset: u64) -> Self {
        let mut sought = self.moved(offset);
        sought.committed = Some(Committed { offset, metadata: String::new() });
        sought.seeking = true;
        sought
    }

    /// The same partition while it goes back to what is committed. Its records are from the old position until the driver
    /// says otherwise.
    pub(super) fn rewinding(self) -> Self {
        let offset = self.committed.as_ref().map_or(0, |committed| committed.offset);
        let mut rewinding = self.moved(offset);
        rewinding.seeking = true;
        rewinding.abandoned = true;
        rewinding
    }

    /// The same partition from what is committed on.
    pub(super) fn rewound(self, assigned: Assigned) -> Self {
        let (mut rewound, _unread) = Self::assigned(assigned); // said when it was assigned
        rewound.generation = self.generation;
        // The driver's pauses outlast a rewinding.
        rewound.held = self.held;
        rewound.paused = self.paused;
        rewound
    }

    /// Begins at an offset below the committed one, because the log does not reach that far any more.
    pub(super) fn begin_again(&mut self, offset: u64) {
        self.offsets = Offsets::new(offset);
        self.timeline = Timeline::default();
        self.committed = None;
    }

    /// Notes a record that was read, and says whether it is to be handled.
    pub(super) fn receive(&mut self, record: &Record) -> bool {
        let is_new = self.offsets.receive(record.offset);
        if is_new {
            let oldest = || self.offsets.oldest();
            self.timeline.note(record.offset, record.timestamp, oldest);
        }
        is_new
    }

    /// Whether records that come now are to be taken in.
    pub(super) fn takes_in(&self) -> bool {
        !self.leaving && !self.seeking && self.stopped.is_none()
    }

    /// Whether what is parked of it may be given back.
    pub(super) fn gives_back(&self) -> bool {
        !self.leaving && !self.paused && !self.moving && !self.abandoned
    }

    /// Whether its driver is to hand its records over.
    pub(super) fn flows(&self) -> bool {
        !self.held && !self.paused && self.stopped.is_none()
    }

    /// What there is to commit; `None`: nothing new. New may be the map of what is finished above the offset alone.
    pub(super) fn commit(&mut self) -> Option<OffsetCommit> {
        if self.abandoned {
            return None;
        }
        let too_far = flaw::is(Flaw::CommitTooFar) && self.offsets.oldest().is_some();
        let offset = self.offsets.committable() + u64::from(too_far);
        let metadata = self.offsets.metadata();
        let is_new = match &self.committed {
            None => offset > 0 || !metadata.is_empty(),
            Some(last) => {
                offset > last.offset
                    || offset == last.offset && (self.fences || metadata != last.metadata)
            }
        };
        is_new.then(|| OffsetCommit {
            partition: self.name.clone(),
            committed: Committed { offset, metadata: metadata.to_owned() },
        })
    }

    /// Notes a commit that is durable.
    pub(super) fn committed(&mut self, committed: Committed) {
        if self.committed.as_ref().is_none_or(|last| committed.offset >= last.offset) {
            self.committed = Some(committed);
        }
    }

    /// Notes which generation handled a record. Says whether it came before all others that the generation has handled
    /// since the one before.
    pub(super) fn handled_by(&mut self, generation: &Generation, offset: u64) -> bool {
        match &mut self.generation {
            Some((last, lowest)) if last == generation => {
                let is_lower = offset < *lowest;
                *lowest = offset.min(*lowest);
                is_lower
            }
            _ => {
                self.generation = Some((generation.clone(), offset));
                true
            }
        }
    }

    /// What its load asks for; `share` is the most that may wait of it.
    pub(super) fn pressure(&mut self, load: Load, share: Load, now: Instant) -> Pressure {
        let full =
            load.records >= share.records || load.bytes >= share.bytes || self.offsets.is_crowded();
        if !full {
            self.full_since = None;
            return Pressure::Open;
        }
        let until = *self.full_since.get_or_insert(now) + PATIENCE;
        if now < until { Pressure::Full(until) } else { Pressure::Hold }
    }

    /// Whether a partition that is held may go on: half of its share is free again, and half of its commit's metadata.
    pub(super) fn may_resume(&mut self, load: Load, share: Load) -> bool {
        load.records <= share.records / 2
            && load.bytes <= share.bytes / 2
            && self.offsets.is_roomy()
    }

    /// What is shown of it; `parked` is how many of its lanes are parked, and how many records in them.
    pub(super) fn status(
        &mut self,
        load: Load,
        lanes: figures::Lanes,
        parked: (usize, usize),
    ) -> PartitionStatus {
        let oldest = self.offsets.oldest();
        if let Some(oldest) = oldest {
            self.timeline.forget_below(oldest);
        }
        PartitionStatus {
            partition: self.name.clone(),
            in_flight: self.in_flight,
            waiting: load.records,
            lanes: lanes.busy,
            deferred: lanes.deferred,
            oldest: oldest.and_then(|offset| self.timeline.at(offset)),
            committed: self.committed.as_ref().map(|committed| committed.offset),
            generation: self.generation.as_ref().map(|(generation, _)| generation.clone()),
            stopped: self.stopped.clone(),
            parked_lanes: parked.0,
            parked_records: parked.1,
        }
    }
}
