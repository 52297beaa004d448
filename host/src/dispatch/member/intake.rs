//! Records on their way in, and the bound on how many may wait.

use tokio::time::Instant;

use super::{COMMIT_INTERVAL, Engine, WAITING_BYTES, WAITING_RECORDS};
use crate::{
    dispatch::{
        lanes::{Load, Slot},
        partition::Pressure,
    },
    record::{Record, TopicPartition},
};

impl Engine {
    pub(super) fn take_in(&mut self, records: Vec<Record>) {
        let mut current: Option<(TopicPartition, Slot)> = None;
        for record in records {
            let known = current.as_ref().filter(|(name, _)| {
                name.partition == record.partition && name.topic == record.topic
            });
            let slot = match known {
                Some((_, slot)) => *slot,
                None => {
                    let name = record.topic_partition();
                    let Some(slot) = self.slots.get(&name).copied() else { continue };
                    current = Some((name, slot));
                    self.changed.insert(slot);
                    slot
                }
            };
            let partition =
                self.partitions.get_mut(&slot).expect("a slot in use has its partition");
            if !partition.takes_in() {
                continue;
            }
            if partition.offsets.begins_below(record.offset) {
                tracing::warn!(
                    group = %self.shared.group.id, partition = %partition.name,
                    committed = partition.offsets.committable(), from = record.offset,
                    "The log does not reach the committed offset; its records are handled from where it begins."
                );
                partition.begin_again(record.offset);
            }
            if partition.receive(&record) {
                self.lanes.push(slot, record);
            } else {
                // It was finished before; what that map expected below it may be gone from the log.
                self.commit_due.get_or_insert_with(|| Instant::now() + COMMIT_INTERVAL);
            }
        }
        self.show();
    }

    /// Holds partitions back of which too much waits, and lets them go on when half of that is gone.
    pub(super) async fn regulate(&mut self) {
        let now = Instant::now();
        let share = self.share();
        self.full_until = None;
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        self.changed.retain(|slot| {
            let Some(partition) = self.partitions.get_mut(slot) else { return false };
            let load = self.lanes.load(*slot);
            if partition.held {
                if partition.may_resume(load, share) {
                    partition.held = false;
                    resume.extend(partition.flows().then(|| partition.name.clone()));
                }
                return partition.held;
            }
            if partition.paused {
                return false; // it is not read already
            }
            match partition.pressure(load, share, now) {
                Pressure::Open => return false,
                Pressure::Full(until) => self.full_until = self.full_until.max(Some(until)),
                Pressure::Hold => {
                    partition.held = true;
                    pause.push(partition.name.clone());
                }
            }
            true
        });
        if !pause.is_empty() {
            self.commands.pause(pause).await;
        }
        if !resume.is_empty() {
            self.commands.resume(resume).await;
        }
    }

    /// How much of one partition may wait.
    fn share(&self) -> Load {
        let partitions = self.partitions.len().max(1);
        let records = WAITING_RECORDS + self.shared.group.max_in_flight;
        Load { records: (records / partitions).max(1), bytes: (WAITING_BYTES / partitions).max(1) }
    }
}
