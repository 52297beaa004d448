//! Runs on their way to the handler, and what becomes of each record after it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{COMMIT_INTERVAL, Done, Engine, RUN, RUN_BYTES, Shared, UNACKNOWLEDGED};
use crate::{
    broker::ProduceError,
    config::{self, OnReject},
    dispatch::{
        batch::Origin,
        flow::Call,
        lanes::{Lane, Run, Slot},
        output::DeadLetter,
        retry::{self, Verdict},
    },
    flaw::{self, Flaw},
    handler::{Beginning, Delivery, Outcome, RunReport},
    record::{NewRecord, Place},
};

impl Engine {
    /// Hands waiting records to the handler, up to the bounds of calls and of records in flight.
    pub(super) fn start_runs(&mut self) {
        if self.transacting.is_full() {
            return;
        }
        let most = self.shared.group.max_in_flight + UNACKNOWLEDGED;
        let most = most.min(self.transacting.most_in_flight());
        while self.in_flight < most && self.lanes.ready() > 0 {
            let Some(call) = self.flow.call() else { return };
            let limit = ((most - self.in_flight) / self.lanes.ready()).clamp(1, RUN);
            let Some(run) = self.lanes.take(limit, RUN_BYTES) else { return };
            if flaw::is(Flaw::LaneTwice) {
                self.lanes.give_back(&run.lane);
            }
            self.start(run, call);
            self.show();
        }
    }

    fn start(&mut self, run: Run, call: Call) {
        let Some(run) = self.unless_parked(run) else { return };
        let (run, refused) = self.unless_refused(run);
        let partition =
            self.partitions.get_mut(&run.lane.slot).expect("lanes go with their partition");
        tracing::debug!(
            group = %self.shared.group.id, member = self.member_id.as_deref(), partition = %partition.name,
            first = run.deliveries.first().map(|first| first.record.offset), count = run.deliveries.len(),
            "Records go to the handler."
        );
        partition.in_flight += run.deliveries.len();
        self.in_flight += run.deliveries.len();
        let cancel = partition.cancel.clone();
        let shared = self.shared.clone();
        let (slot, count) = (run.lane.slot, run.deliveries.len());
        self.work.push(Box::pin(async move {
            let Run { lane, deliveries } = run;
            let handle = async {
                match refused {
                    None => handle(&shared, deliveries, call).await,
                    Some(reason) => {
                        let generation = shared.handler.generation();
                        let outcomes = vec![Outcome::Reject { reason }];
                        RunReport { generation, on_trial: false, deliveries, outcomes }
                    }
                }
            };
            tokio::select! {
                report = handle => Done::Handled { lane, report },
                () = cancel.cancelled() => Done::Cancelled { slot, count },
            }
        }));
    }

    pub(super) async fn handled(&mut self, lane: Lane, report: RunReport) {
        let RunReport { generation, on_trial, mut deliveries, outcomes } = report;
        self.land(lane.slot, deliveries.len());
        let is_exactly_once = self.is_exactly_once();
        let open = self.partitions.get_mut(&lane.slot).filter(|partition| !partition.abandoned);
        let Some(partition) = open else { return };
        if let Some(first) = deliveries.first().filter(|_| !on_trial) {
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
                    if let (Outcome::Handled(records), true) = (outcome, is_exactly_once) {
                        let source = delivery.record.place();
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

    /// Lets a run begin with a record that could not be committed with what was emitted for it, or end before one; says
    /// what is wrong with the first.
    fn unless_refused(&mut self, mut run: Run) -> (Run, Option<String>) {
        let refusals = &self.transacting.refusals;
        if refusals.is_empty() {
            return (run, None);
        }
        let refused = |delivery: &Delivery| refusals.get(&delivery.record.place());
        let Some(index) = run.deliveries.iter().position(|it| refused(it).is_some()) else {
            return (run, None);
        };
        let reason = refused(&run.deliveries[index]).filter(|_| index == 0);
        let reason = reason.map(|refused| refused.reason.clone());
        let rest = run.deliveries.split_off(index.max(1));
        self.lanes.put_back(&run.lane, rest);
        (run, reason)
    }

    /// Has a letter written with the next transaction.
    pub(super) fn add_letter(&mut self, lane: &Lane, offset: u64, letter: NewRecord) {
        let open = self.partitions.get(&lane.slot).filter(|partition| !partition.abandoned);
        let Some(partition) = open else { return };
        let source = Place { partition: partition.name.clone(), offset };
        self.transacting.add(&Origin { source, is_letter: true }, vec![letter]);
    }

    pub(super) fn finish(&mut self, lane: &Lane, offset: u64) {
        if let Some(partition) = self.partitions.get_mut(&lane.slot) {
            partition.offsets.finish(offset);
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
        let Some(partition) = self.partitions.get_mut(&lane.slot) else { return };
        partition.in_flight += 1;
        self.in_flight += 1;
        let cancel = partition.cancel.clone();
        let shared = self.shared.clone();
        self.work.push(Box::pin(async move {
            let write = async {
                match shared.group.delivery {
                    config::Delivery::ExactlyOnce => {
                        Ok(Some(shared.output.dead_letter_record(&letter).await))
                    }
                    config::Delivery::AtLeastOnce => {
                        shared.output.dead_letter(&letter).await.map(|()| None)
                    }
                }
            };
            tokio::select! {
                result = write => {
                    Done::DeadLettered { lane, offset: letter.record.offset, result }
                }
                () = cancel.cancelled() => Done::Cancelled { slot: lane.slot, count: 1 },
            }
        }));
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

/// Has a run handled, and what comes of it written, or chosen where it goes with the next transaction.
async fn handle(shared: &Arc<Shared>, deliveries: Vec<Delivery>, call: Call) -> RunReport {
    let report = shared.handler.handle(deliveries).await;
    match shared.group.delivery {
        config::Delivery::AtLeastOnce if flaw::is(Flaw::AcknowledgeEarly) => {
            write_later(shared.clone(), report)
        }
        config::Delivery::AtLeastOnce => {
            let _room = call.end(&report).await;
            shared.output.write(report).await
        }
        config::Delivery::ExactlyOnce => shared.output.choose(report).await,
    }
}

/// What [`Flaw::AcknowledgeEarly`] makes of a run.
fn write_later(shared: Arc<Shared>, report: RunReport) -> RunReport {
    let later = report.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        shared.output.write(later).await;
    });
    report
}
