//! Calls of a key selector.
//!
//! A hop to another thread costs more than most calls, so a call begins on its caller's thread. One that is not done
//! when it first yields, which is within a tick of the engine's clock, goes on on the host's threads: a busy selector
//! holds no thread of an HTTP server for longer than that.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use futures_util::future::BoxFuture;
use tokio_util::task::AbortOnDropHandle;

use super::{host::Threads, usage::Usage};
use crate::{
    handler::{Failure, Generation, SelectError, Selection, Selector, Target},
    record::NewRecord,
};

/// Calls at once; more wait.
pub(super) const MAX_INSTANCES: usize = 64;
/// Calls at once and waiting; more are refused.
const MAX_CALLS: usize = 1024;

/// A plugin as a key selector.
pub(super) struct PluginSelector {
    usage: Arc<Usage>,
    threads: Arc<Threads>,
    calls: Arc<AtomicUsize>,
}

/// Counts a call for as long as it lives.
struct Call(Arc<AtomicUsize>);

impl PluginSelector {
    /// The selector of `usage`, whose longer calls run on `threads`.
    pub(super) fn new(usage: Arc<Usage>, threads: Arc<Threads>) -> Self {
        Self { usage, threads, calls: Arc::default() }
    }

    fn admit(&self) -> Result<Call, SelectError> {
        let call = Call(self.calls.clone());
        if self.calls.fetch_add(1, Ordering::AcqRel) >= MAX_CALLS {
            return Err(SelectError::Busy);
        }
        Ok(call)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Selector for PluginSelector {
    /// Needs a Tokio runtime with a clock around it.
    fn select<'a>(
        &'a self,
        candidate: &'a NewRecord,
        partitions: u32,
    ) -> BoxFuture<'a, Result<Selection, SelectError>> {
        Box::pin(async move {
            let call = self.admit()?;
            let mut work =
                Box::pin(select(self.usage.clone(), candidate.clone(), partitions, call));
            if let Poll::Ready(result) =
                poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await
            {
                return result;
            }
            AbortOnDropHandle::new(self.threads.handle().spawn(work)).await.unwrap_or_else(|error| {
                tracing::error!(plugin = %self.usage.plugin.name, %error, "A key selector's call broke down.");
                let failure = Failure::Instance(format!("the call broke down in the gateway: {error}"));
                Err(SelectError::Failed { generation: self.usage.generation(), failure })
            })
        })
    }

    fn generation(&self) -> Generation {
        self.usage.generation()
    }
}

async fn select(
    usage: Arc<Usage>,
    candidate: NewRecord,
    partitions: u32,
    _call: Call,
) -> Result<Selection, SelectError> {
    let turn = usage.turn().await;
    let generation = turn.generation();
    let failed = |failure| SelectError::Failed { generation: generation.clone(), failure };
    let answer = async {
        let mut instance = turn.instance().await?;
        let answer = instance.select(&candidate, partitions).await?;
        turn.give_back(instance);
        Ok(answer)
    };
    let answer = answer.await;
    turn.count(1, answer.is_err());
    judge(answer.map_err(failed)?, &generation, partitions)
        .map(|target| Selection { target, generation })
}

/// What a selector of this generation answered, held to the partitions that there are.
pub(super) fn judge(
    answer: Result<Target, String>,
    generation: &Generation,
    partitions: u32,
) -> Result<Target, SelectError> {
    let generation = || generation.clone();
    match answer {
        Err(reason) => Err(SelectError::Refused { generation: generation(), reason }),
        Ok(Target::Partition(given)) if given >= partitions => {
            Err(SelectError::ImpossiblePartition { generation: generation(), given, partitions })
        }
        Ok(target) => Ok(target),
    }
}
