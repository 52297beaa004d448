//! Runs of records on a handler's instances, on the host's own threads.
//!
//! A run goes to those threads in one hop, and its records are called one after another on one instance. It ends early
//! after a while, so that what is done can be committed while the rest is still to do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio_util::task::AbortOnDropHandle;

use super::{
    host::Threads,
    instance::Instance,
    usage::{Turn, Usage},
};
use crate::handler::{Delivery, Failure, Generation, Handler, Outcome, RunReport};

/// A run that took this long gives its results back before the next record.
const SLICE: Duration = Duration::from_millis(10);

/// A plugin as a handler.
pub(super) struct PluginHandler {
    usage: Arc<Usage>,
    threads: Arc<Threads>,
}

impl PluginHandler {
    /// The handler of `usage`, which runs on `threads`.
    pub(super) fn new(usage: Arc<Usage>, threads: Arc<Threads>) -> Self {
        Self { usage, threads }
    }
}

impl Handler for PluginHandler {
    /// Dropping the future ends the run where it is.
    fn handle(&self, run: Vec<Delivery>) -> BoxFuture<'static, RunReport> {
        let usage = self.usage.clone();
        let run = Arc::new(run);
        let work = handle(usage.clone(), run.clone());
        let work = AbortOnDropHandle::new(self.threads.handle().spawn(work));
        Box::pin(async move {
            // The task shares the records instead of owning them: whatever happens to it, they come back.
            let (generation, outcomes) = work.await.unwrap_or_else(|error| {
                tracing::error!(plugin = %usage.plugin.name, %error, "Handling a run broke down.");
                let failure =
                    Failure::Instance(format!("handling broke down in the gateway: {error}"));
                (usage.generation(), vec![Outcome::Failed(failure)])
            });
            let deliveries = Arc::try_unwrap(run).unwrap_or_else(|run| Vec::clone(&run));
            RunReport { generation, deliveries, outcomes }
        })
    }

    fn generation(&self) -> Generation {
        self.usage.generation()
    }
}

async fn handle(usage: Arc<Usage>, run: Arc<Vec<Delivery>>) -> (Generation, Vec<Outcome>) {
    let turn = usage.turn().await;
    let began = Instant::now();
    let mut outcomes = Vec::with_capacity(run.len());
    let mut instance = None;
    for delivery in run.iter() {
        let outcome = match ready(&turn, &mut instance).await {
            Ok(instance) => instance.handle(delivery).await,
            Err(failure) => Outcome::Failed(failure),
        };
        if !turn.reuses() || matches!(outcome, Outcome::Failed(_)) {
            instance = None;
        }
        let goes_on = matches!(outcome, Outcome::Handled(_)) && began.elapsed() < SLICE;
        outcomes.push(outcome);
        if !goes_on {
            break;
        }
    }
    if let Some(instance) = instance {
        turn.give_back(instance);
    }
    (turn.generation(), outcomes)
}

/// The instance in hand, or one to go on with.
async fn ready<'a>(
    turn: &Turn<'_>,
    instance: &'a mut Option<Instance>,
) -> Result<&'a mut Instance, Failure> {
    if instance.is_none() {
        *instance = Some(turn.instance().await?);
    }
    Ok(instance.as_mut().expect("it was just put there"))
}
