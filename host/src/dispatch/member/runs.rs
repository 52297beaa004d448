//! Runs on their way to the handler and back: which go together, what they are held to, and who waits for what.
//!
//! Runs that go together are of one partition, since with it they are cut off. Going together saves hops between threads,
//! and nothing else comes of it: a lane whose call waits, or whose output does, holds no other up.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt, MaybeDone, maybe_done};
use tokio::time::timeout;

use super::{Done, Engine, RUN, RUN_BYTES, Shared, UNACKNOWLEDGED};
use crate::{
    config,
    dispatch::{
        flow::{self, Call},
        lanes::{Lane, Load, Run, Slot},
        output::Chosen,
    },
    flaw::{self, Flaw},
    handler::{Delivery, Outcome, RunReport, RunReports},
};

/// Lanes whose output is written together wait so long for each other.
const TOGETHER: Duration = Duration::from_millis(100);

/// A run that is handled.
pub(super) struct Over {
    pub(super) lane: Lane,
    pub(super) report: RunReport,
    /// Under exactly-once, what is to be written of it, by record; where there is less, nothing came of the rest.
    pub(super) chosen: Vec<Vec<Chosen>>,
}

impl Over {
    fn new((lane, report): (Lane, RunReport)) -> Self {
        Self { lane, report, chosen: Vec::new() }
    }

    fn is_to_be_written(&self) -> bool {
        flow::size(&self.report) > 0
    }
}

/// Runs that are handled, and whose output is written.
#[derive(Default)]
pub(super) struct Handled {
    pub(super) over: Vec<Over>,
    /// How many runs did not have to wait, where that is not known already.
    pub(super) quick: Option<usize>,
    pub(super) later: Vec<Later>,
}

/// What is still done with records in flight, after others that were handed over with them came back.
pub(super) struct Later {
    slot: Slot,
    /// How many records.
    count: usize,
    work: BoxFuture<'static, Handled>,
}

impl From<Handled> for Done {
    fn from(handled: Handled) -> Self {
        Self::Handled(handled)
    }
}

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
            let runs = self.take_runs(most);
            if !runs.is_empty() {
                self.start(runs, call);
            }
            self.show();
        }
    }

    /// Takes the runs of lanes whose turn it is, of one partition, as many as go together.
    fn take_runs(&mut self, most: usize) -> Vec<Run> {
        let width = self.width.of(self.lanes.ready());
        let (mut runs, mut slot, mut load) = (Vec::new(), None, Load::default());
        while runs.len() < width
            && self.in_flight + load.records < most
            && load.records < RUN
            && load.bytes < RUN_BYTES
            && self.lanes.ready() > 0
        {
            let share = (most - self.in_flight - load.records) / self.lanes.ready();
            let limit = share.clamp(1, RUN - load.records);
            let Some(run) = self.lanes.take(slot, limit, RUN_BYTES - load.bytes) else { break };
            if flaw::is(Flaw::LaneTwice) {
                self.lanes.give_back(&run.lane);
            }
            let Some(run) = self.unless_parked(run).and_then(|run| self.unless_refused(run)) else {
                continue;
            };
            run.deliveries.iter().for_each(|delivery| load.add(&delivery.record));
            slot = Some(run.lane.slot);
            runs.push(run);
        }
        runs
    }

    fn start(&mut self, runs: Vec<Run>, call: Call) {
        let slot = runs[0].lane.slot;
        let partition = &self.partitions[&slot].name;
        let mut count = 0;
        for Run { deliveries, .. } in &runs {
            tracing::debug!(
                group = %self.shared.group.id, member = self.member_id.as_deref(), %partition,
                first = deliveries.first().map(|first| first.record.offset), count = deliveries.len(),
                "Records go to the handler."
            );
            count += deliveries.len();
        }
        self.begin(slot, count, handle(self.shared.clone(), runs, call));
    }

    /// Does something with so many records of a partition, until it is cut off.
    pub(super) fn begin(
        &mut self,
        slot: Slot,
        count: usize,
        work: impl Future<Output: Into<Done>> + Send + 'static,
    ) {
        let Some(partition) = self.partitions.get_mut(&slot) else { return };
        partition.in_flight += count;
        self.in_flight += count;
        let cancel = partition.cancel.clone();
        self.work.push(Box::pin(async move {
            tokio::select! {
                done = work => done.into(),
                () = cancel.cancelled() => Done::Cancelled { slot, count },
            }
        }));
    }

    /// Does more with records that are in flight.
    pub(super) fn go_on_with(&mut self, Later { slot, count, work }: Later) {
        self.land(slot, count);
        self.begin(slot, count, work);
    }

    /// Lets a run end before a record that could not be committed with what was emitted for it. One that begins with such a
    /// record comes back with what is wrong with it, without the handler.
    fn unless_refused(&mut self, mut run: Run) -> Option<Run> {
        let refusals = &self.transacting.refusals;
        if refusals.is_empty() {
            return Some(run);
        }
        let refused = |delivery: &Delivery| refusals.get(&delivery.record.place());
        let Some(index) = run.deliveries.iter().position(|it| refused(it).is_some()) else {
            return Some(run);
        };
        let reason = refused(&run.deliveries[index]).filter(|_| index == 0);
        let reason = reason.map(|refused| refused.reason.clone());
        let rest = run.deliveries.split_off(index.max(1));
        self.lanes.put_back(&run.lane, rest);
        let Some(reason) = reason else { return Some(run) };
        let Run { lane, deliveries } = run;
        let generation = self.shared.handler.generation();
        let outcomes = vec![Outcome::Reject { reason }];
        let report = RunReport { generation, on_trial: false, deliveries, outcomes };
        self.begin(lane.slot, 1, async move {
            Handled { over: vec![Over::new((lane, report))], ..Handled::default() }
        });
        None
    }
}

/// Has runs handled, and what comes of them written, or chosen where it goes with the next transaction.
async fn handle(shared: Arc<Shared>, runs: Vec<Run>, call: Call) -> Handled {
    let slot = runs[0].lane.slot;
    let run = |Run { lane, deliveries }| (lane, deliveries);
    let (mut lanes, runs): (Vec<_>, Vec<Vec<_>>) = runs.into_iter().map(run).unzip();
    let count: usize = runs.iter().map(Vec::len).sum();
    let RunReports { over, waiting, quick } = shared.handler.handle_runs(runs).await;
    let waiting = waiting.map(|(place, report)| (lanes.remove(place), report));
    let over = lanes.into_iter().zip(over).map(Over::new).collect();
    let Some((lane, report)) = waiting else {
        return Handled { quick: Some(quick), ..finish(shared, slot, over, call).await };
    };
    let count = count - records(&over);
    let mut handled = settle(shared.clone(), slot, over, call.over());
    let work =
        async move { finish(shared, slot, vec![Over::new((lane, report.await))], call).await }
            .boxed();
    handled.later.push(Later { slot, count, work });
    Handled { quick: Some(quick), ..handled }
}

/// What came of runs, at once; what is to be written of it comes later.
fn settle(shared: Arc<Shared>, slot: Slot, over: Vec<Over>, call: Call) -> Handled {
    let (written, over): (Vec<_>, _) = over.into_iter().partition(Over::is_to_be_written);
    let mut handled = Handled { over, ..Handled::default() };
    if !written.is_empty() {
        let count = records(&written);
        let work = write(shared, slot, written, call).boxed();
        handled.later.push(Later { slot, count, work });
    }
    handled
}

/// The same, but that nothing comes later where all is to be written: there is nobody who would wait for it.
async fn finish(shared: Arc<Shared>, slot: Slot, over: Vec<Over>, call: Call) -> Handled {
    match over.iter().all(Over::is_to_be_written) {
        true => write(shared, slot, over, call).await,
        false => settle(shared, slot, over, call),
    }
}

/// Writes the output of runs, each by itself. Those that are not done soon come later.
async fn write(shared: Arc<Shared>, slot: Slot, over: Vec<Over>, call: Call) -> Handled {
    if shared.group.delivery == config::Delivery::ExactlyOnce {
        drop(call);
        let mut handled = Handled::default();
        for Over { lane, report, .. } in over {
            let (report, chosen) = shared.output.choose(report).await;
            handled.over.push(Over { lane, report, chosen });
        }
        return handled;
    }
    let room = Arc::new(call.end(over.iter().map(|over| &over.report)).await);
    let early = flaw::is(Flaw::AcknowledgeEarly);
    let write = |Over { lane, report, .. }: Over| {
        let (shared, room, count) = (shared.clone(), room.clone(), report.deliveries.len());
        let write = async move {
            let report = match early {
                true => write_later(shared, report),
                false => shared.output.write(report).await,
            };
            drop(room);
            Over::new((lane, report))
        };
        (count, maybe_done(write.boxed()))
    };
    let mut writing: Vec<_> = over.into_iter().map(write).collect();
    // All are sent, in order; then the last is waited for first, since when that is acknowledged the others mostly are.
    for (_, write) in &mut writing {
        write.now_or_never();
    }
    let acknowledged = async {
        for (_, write) in writing.iter_mut().rev() {
            write.await;
        }
    };
    timeout(TOGETHER, acknowledged).await.ok();
    let mut handled = Handled::default();
    for (count, write) in writing {
        match write {
            MaybeDone::Done(over) => handled.over.push(over),
            MaybeDone::Future(write) => {
                let work = write.map(|over| Handled { over: vec![over], ..Handled::default() });
                handled.later.push(Later { slot, count, work: work.boxed() });
            }
            MaybeDone::Gone => {}
        }
    }
    handled
}

fn records(over: &[Over]) -> usize {
    over.iter().map(|over| over.report.deliveries.len()).sum()
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
