//! What becomes of each record after the handler.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{COMMIT_INTERVAL, Done, Engine, runs::Over};
use crate::{
    broker::ProduceError,
    config::{self, OnReject},
    dispatch::{
        batch::Origin,
        lanes::{Lane, Slot},
        output::DeadLetter,
        retry::{self, Verdict},
    },
    handler::{Beginning, Delivery, RunReport},
    record::{NewRecord, Place},
};

impl Engine {
    pub(super) async fn handled(&mut self, Over { lane, report, chosen }: Over) {
        let RunReport { generation, on_trial, mut deliveries, outcomes } = report;
        self.land(lane.slot, deliveries.len());
        self.changed.insert(lane.slot);
        let is_exactly_once = self.is_exactly_once();
        let open = self.partitions.get_mut(&lane.slot).filter(|partition| !partition.abandoned);
        let Some(partition) = open else { return };
        if let Some(first) = deliveries.first().filter(|_| !on_trial && !outcomes.is_empty()) {
            let offset = first.record.offset;
            if partition.handled_by(&generation, offset) {
                let group = Some(self.shared.group.id.clone());
                let partition = partition.name.clone();
                let at = SystemTime::now();
                let beginning =
                    Beginning { group, partition, offset, generation: generation.clone(), at };
                self.shared.beginnings.add(beginning);
            }
        }
        let rest = deliveries.split_off(outcomes.len());
        let mut failed = None;
        let mut chosen = chosen.into_iter();
        for (delivery, outcome) in deliveries.into_iter().zip(outcomes) {
            match retry::judge(
                &self.shared.group.retry,
                delivery.attempt,
                &outcome,
                fastrand::f64(),
            ) {
                None => {
                    partition.offsets.finish(delivery.record.offset);
                    self.shared.counters.handled.add(1);
                    if is_exactly_once {
                        let source = delivery.record.place();
                        let records = chosen.next().unwrap_or_default();
                        self.transacting.add(&Origin { source, is_letter: false }, records);
                    }
                }
                Some(verdict) => failed = Some((delivery, verdict)),
            }
        }
        self.commit_due.get_or_insert_with(|| Instant::now() + COMMIT_INTERVAL);
        self.lanes.put_back(&lane, rest);
        match failed {
            None => self.lanes.give_back(&lane),
            Some((delivery, Verdict::Again { after, reason })) => {
                self.defer(lane, delivery, after, &reason)
            }
            Some((delivery, Verdict::GiveUp { reason })) => {
                let Delivery { record, attempt: attempts } = delivery;
                let letter = DeadLetter { record, attempts, handler: generation, reason };
                self.give_up_on(lane, letter).await;
            }
        }
    }

    /// Notes that records are no longer in flight.
    pub(super) fn land(&mut self, slot: Slot, count: usize) {
        self.in_flight -= count;
        if let Some(partition) = self.partitions.get_mut(&slot) {
            partition.in_flight -= count;
        }
    }

    /// Has a letter written with the next transaction.
    pub(super) fn add_letter(&mut self, lane: &Lane, offset: u64, letter: NewRecord) {
        let open = self.partitions.get(&lane.slot).filter(|partition| !partition.abandoned);
        let Some(partition) = open else { return };
        let source = Place { partition: partition.name.clone(), offset };
        self.transacting.add(&Origin { source, is_letter: true }, vec![letter.into()]);
    }

    pub(super) fn finish(&mut self, lane: &Lane, offset: u64) {
        if let Some(partition) = self.partitions.get_mut(&lane.slot) {
            partition.offsets.finish(offset);
            self.changed.insert(lane.slot);
            self.commit_due.get_or_insert_with(|| Instant::now() + COMMIT_INTERVAL);
        }
    }

    /// Lets a lane wait for its record's next attempt. It stays taken, so nothing overtakes.
    fn defer(&mut self, lane: Lane, mut delivery: Delivery, after: Duration, reason: &str) {
        tracing::debug!(
            group = %self.shared.group.id, record = %delivery.record.place(), attempt = delivery.attempt,
            after = ?after, reason, "An attempt failed; the record will be tried again."
        );
        self.shared.counters.retried.add(1);
        delivery.attempt += 1;
        self.lanes.put_back(&lane, vec![delivery]);
        self.deferred.insert((Instant::now() + after, self.next_deferred), lane);
        self.next_deferred += 1;
    }

    /// Does with a record what the group's `on-reject` says.
    async fn give_up_on(&mut self, lane: Lane, letter: DeadLetter) {
        let group = &self.shared.group.id;
        let record = letter.record.place();
        let (attempts, offset) = (letter.attempts, letter.record.offset);
        let on_reject = match self.transacting.refusals.get(&record) {
            Some(refused) if refused.is_letter => OnReject::Stop,
            _ => self.shared.group.on_reject,
        };
        match on_reject {
            OnReject::DeadLetter => {
                tracing::warn!(%group, %record, attempts, reason = letter.reason, "A record was given up on and goes to the dead letters.");
                self.write_dead_letter(lane, letter);
            }
            OnReject::Park => {
                tracing::warn!(%group, %record, attempts, reason = letter.reason, "A record was given up on and is parked, with all that come behind it in its lane.");
                self.park(lane, vec![letter]);
            }
            OnReject::Drop => {
                tracing::warn!(%group, %record, attempts, reason = letter.reason, "A record was given up on and dropped.");
                self.shared.counters.dropped.add(1);
                self.transacting.add(&Origin { source: record, is_letter: false }, Vec::new());
                self.finish(&lane, offset);
                self.lanes.give_back(&lane);
            }
            OnReject::Stop => {
                tracing::error!(%group, %record, attempts, reason = letter.reason, "A record was given up on: its partition stands still until the group is resumed.");
                self.stop(
                    lane.slot,
                    format!(
                        "stands still at offset {offset} after {attempts} attempts: {}",
                        letter.reason
                    ),
                )
                .await;
            }
        }
    }

    fn write_dead_letter(&mut self, lane: Lane, letter: DeadLetter) {
        let shared = self.shared.clone();
        self.begin(lane.slot, 1, async move {
            let result = match shared.group.delivery {
                config::Delivery::ExactlyOnce => {
                    Ok(Some(shared.output.dead_letter_record(&letter).await))
                }
                config::Delivery::AtLeastOnce => {
                    shared.output.dead_letter(&letter).await.map(|()| None)
                }
            };
            Done::DeadLettered { lane, offset: letter.record.offset, result }
        });
    }

    /// Stands still at a record that was given up on, and whose letter the broker does not take: nothing else would keep it.
    pub(super) async fn stop_at_letter(&mut self, slot: Slot, offset: u64, why: &ProduceError) {
        let Some(partition) = self.partitions.get(&slot) else { return };
        tracing::error!(
            group = %self.shared.group.id, partition = %partition.name, offset, reason = %why,
            "A record was given up on and its letter is refused: its partition stands still until the group is resumed."
        );
        self.stop(slot, format!("stands still at offset {offset}: its letter was refused: {why}"))
            .await;
    }

    pub(super) async fn stop(&mut self, slot: Slot, why: String) {
        self.forget_waiting(slot);
        if let Some(partition) = self.partitions.get_mut(&slot) {
            partition.stopped = Some(why);
            self.commands.pause(vec![partition.name.clone()]).await;
        }
    }
}
