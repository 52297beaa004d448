//! Parked lanes: what is parked of a partition is read before its first record is handled, records of parked lanes are
//! parked behind, and lanes that an operator gives back are handled from the topic of parked records.
//!
//! What is decided is in [`Parked`]; here is who waits for it. A lane whose records have to wait stays taken in
//! [`crate::dispatch::lanes`], so nothing of it overtakes, and is given back there when they may go on.
//!
//! Under exactly-once letters and marks are written with the next transaction. When that fails, the partition begins again
//! from what is committed, and so does what is known of its parked lanes.

mod giving_back;

use std::collections::{HashMap, HashSet};

use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::{Done, Engine};
use crate::{
    broker::{BrokerError, ProduceError},
    config::OnReject,
    dispatch::{
        give_back::GivenBack,
        lanes::{Lane, Run, Slot},
        output::DeadLetter,
        parked::{Parked, Way},
    },
    handler::Delivery,
    record::{NewRecord, Record},
};

/// How often the topic is looked at for lanes to give back, while there are any.
const LOOK: Duration = Duration::from_secs(1);

/// What is parked of one assignment of a partition.
struct Lot {
    /// `None` while it is being read from the topic.
    parked: Option<Parked>,
    /// Lanes, taken, whose records wait for that, or for the letters of their lane.
    waiting: HashSet<Lane>,
    /// The next offset of the topic to look at.
    next: u64,
    look_at: Instant,
    /// The topic is being read.
    is_reading: bool,
    /// Lanes whose letters are being handled.
    handling: usize,
    /// Ends the wait for another attempt at a letter.
    stop: CancellationToken,
}

/// The lots of one member; none where the group parks nothing.
#[derive(Default)]
pub(super) struct Parking(HashMap<Slot, Lot>);

/// Something of this that was begun and has ended.
pub(super) enum ParkingDone {
    Learned {
        slot: Slot,
        parked: Box<Parked>,
        next: u64,
    },
    Parked {
        lane: Lane,
        letters: Vec<(u64, Result<u64, ProduceError>)>,
    },
    /// They are to be parked with the next transaction.
    Pending {
        lane: Lane,
        letters: Vec<(u64, NewRecord)>,
    },
    /// The letter of the lane's first record is refused.
    Refused {
        lane: Lane,
        offset: u64,
        reason: String,
    },
    Looked {
        slot: Slot,
        result: Result<Vec<Record>, BrokerError>,
    },
    Read {
        slot: Slot,
        from: u64,
        reserved: usize,
        result: Result<Vec<Record>, BrokerError>,
    },
    GivenBack {
        lane: Lane,
        count: usize,
        given_back: GivenBack,
    },
}

impl From<ParkingDone> for Done {
    fn from(done: ParkingDone) -> Self {
        Self::Parking(done)
    }
}

impl Parking {
    /// When the engine must look again though nothing happens, for those that `gives_back` names.
    pub(super) fn wake(&self, gives_back: impl Fn(Slot) -> bool) -> Option<Instant> {
        let open = self.0.iter().filter(|(slot, _)| gives_back(**slot)).map(|(_, lot)| lot);
        let looks = open.filter(|lot| !lot.is_reading && !lot.is_empty());
        looks.map(|lot| lot.look_at).min()
    }

    /// Has the topic looked at soon: something of this partition was written there.
    pub(super) fn look_soon(&mut self, slot: Slot) {
        if let Some(lot) = self.0.get_mut(&slot) {
            lot.look_at = Instant::now();
        }
    }

    /// How many lanes of a partition are parked, and how many records in them.
    pub(super) fn size(&self, slot: Slot) -> (usize, usize) {
        let parked = self.0.get(&slot).and_then(|lot| lot.parked.as_ref());
        parked.map(Parked::size).unwrap_or_default()
    }

    /// Begins no more attempts at letters of a partition that goes.
    pub(super) fn stop(&self, slot: Slot) {
        if let Some(lot) = self.0.get(&slot) {
            lot.stop.cancel();
        }
    }

    pub(super) fn forget(&mut self, slot: Slot) {
        self.0.remove(&slot);
    }
}

impl Lot {
    fn is_empty(&self) -> bool {
        self.parked.as_ref().is_none_or(Parked::is_empty)
    }

    /// Notes own writes, which need not be looked at.
    fn wrote(&mut self, letters: &[(u64, u64)]) {
        for (_, letter) in letters {
            self.next += u64::from(self.next == *letter);
        }
    }
}

impl Engine {
    /// Has a partition that became this member's wait until it is known what is parked of it.
    pub(super) fn learn_what_is_parked(&mut self, slot: Slot) {
        if self.shared.group.on_reject != OnReject::Park {
            return;
        }
        let lot = Lot {
            parked: None,
            waiting: HashSet::new(),
            next: 0,
            look_at: Instant::now() + LOOK,
            is_reading: true,
            handling: 0,
            stop: CancellationToken::new(),
        };
        self.parking.0.insert(slot, lot);
        let partition = &self.partitions[&slot];
        let (source, committed) = (partition.name.clone(), partition.offsets.committable());
        let shared = self.shared.clone();
        self.begin(slot, 0, async move {
            let (parked, next) = shared.output.what_is_parked(&source, committed).await;
            ParkingDone::Learned { slot, parked: Box::new(parked), next }
        });
    }

    /// Lets a run pass whose lane is not parked; one whose lane is, is parked behind it or waits.
    pub(super) fn unless_parked(&mut self, run: Run) -> Option<Run> {
        let Some(lot) = self.parking.0.get_mut(&run.lane.slot) else { return Some(run) };
        let Run { lane, mut deliveries } = run;
        let Some(parked) = &mut lot.parked else {
            self.lanes.put_back(&lane, deliveries);
            lot.waiting.insert(lane);
            return None;
        };
        let known: Vec<_> =
            deliveries.extract_if(.., |delivery| parked.knows(&delivery.record)).collect();
        let way = parked.way(&lane.kind);
        match way {
            _ if deliveries.is_empty() => self.lanes.give_back(&lane),
            Way::Free => {
                self.finish_all(&lane, known);
                return Some(Run { lane, deliveries });
            }
            Way::Wait => {
                self.lanes.put_back(&lane, deliveries);
                lot.waiting.insert(lane.clone());
            }
            Way::Behind(first) => self.park_behind(lane.clone(), deliveries, first),
        }
        self.finish_all(&lane, known);
        None
    }

    fn finish_all(&mut self, lane: &Lane, deliveries: Vec<Delivery>) {
        deliveries.iter().for_each(|delivery| self.finish(lane, delivery.record.offset));
    }

    fn park_behind(&mut self, lane: Lane, mut deliveries: Vec<Delivery>, first: u64) {
        let refused = |delivery: &Delivery| {
            let refused = self.transacting.refusals.get(&delivery.record.place())?;
            refused.is_letter.then(|| refused.reason.clone())
        };
        // Those before one that cannot be parked are.
        if let Some(index) = deliveries.iter().position(|delivery| refused(delivery).is_some()) {
            let (offset, reason) = (deliveries[index].record.offset, refused(&deliveries[index]));
            self.lanes.put_back(&lane, deliveries.split_off(index));
            if deliveries.is_empty() {
                let (slot, reason) = (lane.slot, reason.unwrap_or_default());
                return self
                    .begin(slot, 0, async move { ParkingDone::Refused { lane, offset, reason } });
            }
        }
        let handler = self.shared.handler.generation();
        let reason = format!("parked behind {}@{first}", self.partitions[&lane.slot].name);
        let letter = |Delivery { record, .. }| DeadLetter {
            record,
            attempts: 0,
            handler: handler.clone(),
            reason: reason.clone(),
        };
        self.park(lane, deliveries.into_iter().map(letter).collect());
    }

    /// Parks records of a taken lane, in order.
    pub(super) fn park(&mut self, lane: Lane, letters: Vec<DeadLetter>) {
        if let Some(parked) = self.parking.0.get_mut(&lane.slot).and_then(|lot| lot.parked.as_mut())
        {
            parked.occupy(&lane.kind);
        }
        let (shared, is_exactly_once) = (self.shared.clone(), self.is_exactly_once());
        self.begin(lane.slot, letters.len(), async move {
            let sources = letters.iter().map(|letter| letter.record.offset);
            if is_exactly_once {
                let records = shared.output.parked_letters(&letters).await;
                return ParkingDone::Pending { lane, letters: sources.zip(records).collect() };
            }
            let offsets = shared.output.park(&letters).await;
            ParkingDone::Parked { lane, letters: sources.zip(offsets).collect() }
        });
    }

    pub(super) async fn parking_done(&mut self, done: ParkingDone) {
        match done {
            ParkingDone::Learned { slot, parked, next } => self.learned(slot, *parked, next),
            ParkingDone::Parked { lane, letters } => self.parked(lane, letters).await,
            ParkingDone::Pending { lane, letters } => self.pending(lane, letters),
            ParkingDone::Refused { lane, offset, reason } => {
                let why = format!("stands still at offset {offset}: {reason}");
                tracing::error!(group = %self.shared.group.id, reason = why, "A partition stands still until the group is resumed.");
                self.stop(lane.slot, why).await;
            }
            ParkingDone::Looked { slot, result } => self.looked(slot, result),
            ParkingDone::Read { slot, from, reserved, result } => {
                self.land(slot, reserved);
                self.read(slot, from, result);
            }
            ParkingDone::GivenBack { lane, count, given_back } => {
                self.land(lane.slot, count);
                self.given_back(&lane, given_back);
            }
        }
    }

    fn learned(&mut self, slot: Slot, parked: Parked, next: u64) {
        let Some(lot) = self.parking.0.get_mut(&slot) else { return };
        let (lanes, records) = parked.size();
        if lanes > 0 {
            let partition = &self.partitions[&slot].name;
            tracing::info!(group = %self.shared.group.id, %partition, lanes, records, "Lanes of a partition are parked.");
        }
        lot.parked = Some(parked);
        lot.next = next;
        lot.is_reading = false;
        lot.look_at = Instant::now() + LOOK;
        self.wake_waiting(slot, None);
    }

    /// Lets the lanes of a partition go on that wait, or one of them.
    fn wake_waiting(&mut self, slot: Slot, lane: Option<&Lane>) {
        let Some(lot) = self.parking.0.get_mut(&slot) else { return };
        let woken = lot.waiting.extract_if(|waiting| lane.is_none_or(|lane| lane == waiting));
        woken.for_each(|lane| self.lanes.give_back(&lane));
    }

    async fn parked(&mut self, lane: Lane, letters: Vec<(u64, Result<u64, ProduceError>)>) {
        self.land(lane.slot, letters.len());
        let Some(lot) = self.parking.0.get_mut(&lane.slot) else { return };
        let written = letters
            .iter()
            .filter_map(|(source, letter)| letter.as_ref().ok().map(|letter| (*source, *letter)));
        let written: Vec<_> = written.collect();
        if let Some(parked) = &mut lot.parked {
            for (source, letter) in &written {
                parked.parked(&lane.kind, *source, *letter);
            }
            parked.free(&lane.kind);
        }
        lot.wrote(&written);
        self.shared.counters.parked.add(written.len() as u64);
        written.iter().for_each(|(source, _)| self.finish(&lane, *source));
        let refused =
            letters.into_iter().find_map(|(source, letter)| Some((source, letter.err()?)));
        match refused {
            Some((source, error)) => self.stop_at_letter(lane.slot, source, &error).await,
            None => self.lanes.give_back(&lane),
        }
    }

    /// Parks records of a taken lane with the next transaction.
    fn pending(&mut self, lane: Lane, letters: Vec<(u64, NewRecord)>) {
        self.land(lane.slot, letters.len());
        let Some(lot) = self.parking.0.get_mut(&lane.slot) else { return };
        if let Some(parked) = &mut lot.parked {
            letters.iter().for_each(|(source, _)| parked.pend(&lane.kind, *source));
            parked.free(&lane.kind);
        }
        for (source, letter) in letters {
            self.add_letter(&lane, source, letter);
            self.finish(&lane, source);
        }
        self.lanes.give_back(&lane);
    }
}
