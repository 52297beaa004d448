//! A plugin as a handler: runs of records go to its workers, and come back as reports. While there is a canary, the first
//! records of a run go to one side or the other, and the rest comes back as it was. What the generation that serves has
//! handled is offered to the shadow, where there is one.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::{
    batch::{Returned, Run},
    host::Threads,
    usage::Usage,
    workers::Workers,
};
use crate::handler::{Delivery, Generation, Handler, RunReport, RunReports, one_of};

/// A plugin as a handler.
pub(super) struct PluginHandler {
    usage: Arc<Usage>,
    workers: Arc<Workers>,
}

impl PluginHandler {
    /// The handler of `usage`, which runs on `threads`.
    pub(super) fn new(usage: Arc<Usage>, threads: Arc<Threads>) -> Self {
        Self { workers: Workers::new(usage.clone(), threads), usage }
    }
}

impl Handler for PluginHandler {
    /// Dropping the future ends the run where it is.
    fn handle(&self, mut run: Vec<Delivery>) -> BoxFuture<'static, RunReport> {
        let usage = self.usage.clone();
        let Some(canary) = usage.canary() else {
            let returned = self.workers.push(vec![run]);
            return Box::pin(async move { report(&usage, answer(returned).await, false) });
        };
        let serving = self.workers.clone();
        let (workers, length) = canary.first(&run);
        let on_trial = workers.is_some();
        let rest = run.split_off(length);
        let returned = workers.unwrap_or(&self.workers).push(vec![run]);
        Box::pin(async move {
            let returned = answer(returned).await;
            let took = returned.took;
            let mut report = report(&usage, returned, on_trial);
            let worse = canary.count(on_trial, &report.outcomes, took);
            // While it waits for its breaker, the sample that it is judged by hardly grows.
            let is_broken = || canary.trouble().filter(|_| on_trial && serving.trouble().is_none());
            if let Some(reason) = worse.or_else(is_broken) {
                usage.plugin.abort(canary.generation(), &reason);
            }
            report.deliveries.extend(rest);
            report
        })
    }

    fn handle_runs(&self, runs: Vec<Vec<Delivery>>) -> BoxFuture<'static, RunReports> {
        let usage = self.usage.clone();
        if usage.canary().is_some() {
            return one_of(self, runs); // each goes to a side of its own
        }
        let returned = self.workers.push(runs);
        Box::pin(async move {
            let Returned { runs, waiting, quick, generation, .. } = answer(returned).await;
            let waiting = waiting.map(|(place, returned)| {
                let usage = usage.clone();
                let waiting = async move { report(&usage, answer(returned).await, false) };
                (place, Box::pin(waiting) as BoxFuture<'static, _>)
            });
            let over = reports(&usage, runs, generation, false);
            RunReports { over, waiting, quick }
        })
    }

    fn generation(&self) -> Generation {
        self.usage.generation()
    }

    fn trouble(&self) -> Option<String> {
        let of_canary = || self.usage.canary()?.trouble();
        self.workers.trouble().or_else(of_canary)
    }
}

async fn answer(returned: oneshot::Receiver<Returned>) -> Returned {
    returned.await.expect("a run is answered whatever becomes of it")
}

/// What came of one run.
fn report(usage: &Usage, returned: Returned, on_trial: bool) -> RunReport {
    let Returned { runs, generation, .. } = returned;
    reports(usage, runs, generation, on_trial).pop().expect("a run that is alone is not split")
}

fn reports(
    usage: &Usage,
    runs: Vec<Run>,
    generation: Option<Generation>,
    on_trial: bool,
) -> Vec<RunReport> {
    if let Some(shadow) = usage.shadow().filter(|_| !on_trial) {
        shadow.offer(runs.iter().flat_map(|run| run.deliveries.iter().zip(&run.outcomes)));
    }
    let generation = generation.unwrap_or_else(|| usage.generation());
    let report = |Run { deliveries, outcomes }| {
        let generation = generation.clone();
        RunReport { generation, on_trial, deliveries, outcomes }
    };
    runs.into_iter().map(report).collect()
}
