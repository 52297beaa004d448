//! Lanes that an operator gives back: looked for in the topic of parked records, read from there, and handed to the
//! handler.

use tokio::time::{Duration, Instant};

use super::{
    super::{COMMIT_INTERVAL, Engine, RUN},
    LOOK, Lot, ParkingDone,
};
use crate::{
    broker::BrokerError,
    dispatch::{
        batch::Origin,
        give_back::{self, GivenBack},
        lanes::{Lane, Slot},
        parked::Taken,
    },
    letter::{self, Entry, Letter, Mark, MarkKind},
    record::Record,
};

impl Engine {
    /// Reads the topics of parked records where it is time to: for lanes to give back, and for their letters.
    pub(in super::super) fn give_parked_back(&mut self) {
        if self.transacting.is_full() {
            return;
        }
        let now = Instant::now();
        let most = self.shared.group.max_in_flight.min(self.transacting.most_in_flight());
        // A member that is busy all the time must get on with this, too: a quarter more than its bound, at the most.
        let share = (most - self.in_flight.min(most)).max(most / 4).clamp(1, RUN);
        let mut due = Vec::new();
        for (slot, lot) in self.parking.0.iter_mut().filter(|(_, lot)| !lot.is_reading) {
            let Some(parked) = lot.parked.as_ref().filter(|parked| !parked.is_empty()) else {
                continue;
            };
            let letters = parked.next().filter(|_| lot.handling == 0 && lot.look_at > now);
            if !self.partitions[slot].gives_back() || (letters.is_none() && lot.look_at > now) {
                continue;
            }
            lot.is_reading = true;
            due.push((*slot, letters, lot.next));
        }
        for (slot, letters, next) in due {
            match letters {
                Some(from) => self.read_letters(slot, from, share),
                None => self.look(slot, next),
            }
        }
    }

    fn look(&mut self, slot: Slot, next: u64) {
        let (shared, source) = (self.shared.clone(), self.partitions[&slot].name.clone());
        self.begin(slot, 0, async move {
            let result = shared.output.parked_records(&source, next, RUN).await;
            ParkingDone::Looked { slot, result }
        });
    }

    /// What was read from the topic; where that did not work, it is tried again.
    fn arrived(
        &mut self,
        slot: Slot,
        result: Result<Vec<Record>, BrokerError>,
    ) -> Option<(&mut Lot, Vec<Record>)> {
        let lot = self.parking.0.get_mut(&slot)?;
        lot.is_reading = false;
        match result {
            Ok(records) => Some((lot, records)),
            Err(error) => {
                tracing::warn!(group = %self.shared.group.id, reason = %error, "The parked records could not be read; trying again.");
                lot.look_at = Instant::now() + LOOK;
                None
            }
        }
    }

    pub(super) fn looked(&mut self, slot: Slot, result: Result<Vec<Record>, BrokerError>) {
        let Some(name) = self.partitions.get(&slot).map(|it| it.name.clone()) else { return };
        let group = self.shared.group.id.clone();
        let Some((lot, records)) = self.arrived(slot, result) else { return };
        let Some(parked) = &mut lot.parked else { return };
        // Where there was something there may be more.
        lot.look_at = Instant::now() + if records.len() < RUN { LOOK } else { Duration::ZERO };
        for record in records {
            lot.next = record.offset + 1;
            match letter::read(&record) {
                Some(Entry::Letter(Letter { source, .. })) if source.partition == name => {
                    let kind = parked.kind(&record, source.offset);
                    parked.found(&kind, source.offset, record.offset);
                }
                Some(Entry::Mark(Mark { kind: MarkKind::Released, source, .. }))
                    if source.partition == name =>
                {
                    let kind = parked.kind(&record, source.offset);
                    if parked.release(&kind, record.offset) {
                        tracing::info!(%group, %source, "A parked lane is given back.");
                    }
                }
                _ => {}
            }
        }
    }

    fn read_letters(&mut self, slot: Slot, from: u64, most: usize) {
        let (shared, source) = (self.shared.clone(), self.partitions[&slot].name.clone());
        self.begin(slot, most, async move {
            let result = shared.output.parked_records(&source, from, most).await;
            ParkingDone::Read { slot, from, reserved: most, result }
        });
    }

    pub(super) fn read(&mut self, slot: Slot, from: u64, result: Result<Vec<Record>, BrokerError>) {
        let Some((lot, records)) = self.arrived(slot, result) else { return };
        let Some(parked) = &mut lot.parked else { return };
        let (taken, lost) = parked.take(from, records);
        if !lost.is_empty() {
            tracing::error!(
                group = %self.shared.group.id, partition = %self.partitions[&slot].name, offsets = ?lost,
                "Parked records are gone from their topic: somebody has deleted them."
            );
            self.wake_waiting(slot, None);
        }
        taken.into_iter().for_each(|taken| self.give_back(slot, taken));
    }

    /// Hands the letters of a lane to the handler, in front of whatever of the lane waits.
    fn give_back(&mut self, slot: Slot, Taken { kind, mut letters }: Taken) {
        let Some(lot) = self.parking.0.get_mut(&slot) else { return };
        let refusals = &self.transacting.refusals;
        let refused = letters.iter().position(|(letter, _)| refusals.get(&letter.source).is_some());
        // One whose output was refused comes first, and then it is known what to do with it.
        letters.truncate(refused.map_or(letters.len(), |index| index.max(1)));
        let reason = refused.filter(|index| *index == 0);
        let reason = reason.and_then(|index| refusals.get(&letters[index].0.source));
        let reason = reason.map(|refused| refused.reason.clone());
        lot.handling += 1;
        let (shared, stop, count) = (self.shared.clone(), lot.stop.clone(), letters.len());
        let lane = Lane { slot, kind };
        self.begin(slot, count, async move {
            let given_back = give_back::handle(&shared, letters, reason, &stop).await;
            ParkingDone::GivenBack { lane, count, given_back }
        });
    }

    pub(super) fn given_back(&mut self, lane: &Lane, given_back: GivenBack) {
        let GivenBack { done, is_held, unwritten } = given_back;
        let Some(lot) = self.parking.0.get_mut(&lane.slot) else { return };
        lot.handling -= 1;
        let partition = self.partitions.get_mut(&lane.slot);
        let Some(partition) = partition.filter(|partition| !partition.abandoned) else { return };
        partition.fences |= !unwritten.is_empty();
        for (source, records) in unwritten {
            self.transacting.add(&Origin { source, is_letter: false }, records);
        }
        if let Some(parked) = &mut lot.parked {
            done.iter().for_each(|(source, letter)| parked.done(&lane.kind, *source, *letter));
            if is_held {
                parked.hold(&lane.kind);
            }
            parked.free(&lane.kind);
        }
        self.commit_due.get_or_insert_with(|| Instant::now() + COMMIT_INTERVAL);
        self.wake_waiting(lane.slot, Some(lane));
    }
}
