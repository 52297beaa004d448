//! A plugin as a handler: runs of records go to its workers, and come back as reports.

use std::sync::Arc;

use futures_util::future::BoxFuture;

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
    fn handle(&self, run: Vec<Delivery>) -> BoxFuture<'static, RunReport> {
        let usage = self.usage.clone();
        let returned = self.workers.push(run);
        Box::pin(async move {
            let Returned { deliveries, outcomes, generation } =
                returned.await.expect("a run is answered whatever becomes of it");
            let generation = generation.unwrap_or_else(|| usage.generation());
            RunReport { generation, deliveries, outcomes }
        })
    }

    fn generation(&self) -> Generation {
        self.usage.generation()
    }
}
