//! A plugin as a handler: runs of records go to its workers, and come back as reports. While there is a canary, the first
//! records of a run go to one side or the other, and the rest comes back as it was. What the generation that serves has
//! handled is offered to the shadow, where there is one.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::{
    host::Threads,
    usage::Usage,
    workers::{Returned, Workers},
};
use crate::handler::{Delivery, Generation, Handler, RunReport};

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
            let returned = self.workers.push(run);
            return Box::pin(async move { report(&usage, answer(returned).await, false) });
        };
        let serving = self.workers.clone();
        let (workers, length) = canary.first(&run);
        let on_trial = workers.is_some();
        let rest = run.split_off(length);
        let returned = workers.unwrap_or(&self.workers).push(run);
        Box::pin(async move {
            let mut returned = answer(returned).await;
            let worse = canary.count(on_trial, &returned.outcomes, returned.took);
            // While it waits for its breaker, the sample that it is judged by hardly grows.
            let is_broken = || canary.trouble().filter(|_| on_trial && serving.trouble().is_none());
            if let Some(reason) = worse.or_else(is_broken) {
                usage.plugin.abort(canary.generation(), &reason);
            }
            returned.deliveries.extend(rest);
            report(&usage, returned, on_trial)
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

fn report(usage: &Usage, returned: Returned, on_trial: bool) -> RunReport {
    let Returned { deliveries, outcomes, generation, .. } = returned;
    if let Some(shadow) = usage.shadow().filter(|_| !on_trial) {
        shadow.offer(&deliveries, &outcomes);
    }
    let generation = generation.unwrap_or_else(|| usage.generation());
    RunReport { generation, on_trial, deliveries, outcomes }
}
