//! A plugin called record by record, for whoever wants to see what each call does and takes.
//!
//! Engine, limits, interfaces and capabilities are those that it has behind a gateway; there is no queue, no breaker and no
//! second attempt, and what it emits goes nowhere. What it does itself is done: its HTTP requests are made.
//!
//! Invariant: as behind a gateway, an instance whose call failed is not called again, and with `isolation = "record"` none is
//! called twice.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    host::Threads,
    instance::Instance,
    selector,
    usage::{Turn, Usage},
};
use crate::{
    handler::{Delivery, Failure, Generation, Outcome, SelectError, Target},
    record::NewRecord,
};

/// One plugin in one role, and the instance that is called next. Calls want a Tokio runtime with a clock around them.
pub struct Rehearsal {
    usage: Arc<Usage>,
    instance: Option<Instance>,
    /// The guest's network is there as long as this is.
    _threads: Arc<Threads>,
}

/// What came of one call, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Call<T> {
    /// What came of it.
    pub outcome: T,
    /// How long the call took.
    pub took: Duration,
    /// How long it took before that to make the instance, with its `init`, where the call was the first on a fresh one.
    pub start: Option<Duration>,
    /// Bytes of linear memory that the instance had after it; `None`: there was none.
    pub memory: Option<u64>,
}

impl Rehearsal {
    pub(super) fn new(usage: Arc<Usage>, threads: Arc<Threads>) -> Self {
        Self { usage, instance: None, _threads: threads }
    }

    /// The generation that is called.
    pub fn generation(&self) -> Generation {
        self.usage.generation()
    }

    /// Has a handler handle one record.
    pub async fn handle(&mut self, delivery: &Delivery) -> Call<Outcome> {
        let call =
            self.call(async |instance| match instance.handle(delivery, Instant::now()).await {
                Outcome::Failed(failure) => Err(failure),
                outcome => Ok(outcome),
            });
        call.await.map(|outcome| outcome.unwrap_or_else(Outcome::Failed))
    }

    /// Has a key selector decide where `candidate` goes, of a topic with so many partitions.
    pub async fn select(
        &mut self,
        candidate: &NewRecord,
        partitions: u32,
    ) -> Call<Result<Target, SelectError>> {
        let call = self.call(async |instance| instance.select(candidate, partitions).await).await;
        let generation = self.generation();
        call.map(|answer| match answer {
            Ok(answer) => selector::judge(answer, &generation, partitions),
            Err(failure) => Err(SelectError::Failed { generation, failure }),
        })
    }

    async fn call<T>(
        &mut self,
        call: impl AsyncFnOnce(&mut Instance) -> Result<T, Failure>,
    ) -> Call<Result<T, Failure>> {
        let turn = self.usage.turn().await;
        let (mut instance, start) = match self.instance.take() {
            Some(instance) => (instance, None),
            None => match started(&turn).await {
                (Ok(instance), start) => (instance, Some(start)),
                (Err(failure), start) => {
                    let (outcome, start) = (Err(failure), Some(start));
                    return Call { outcome, took: Duration::ZERO, start, memory: None };
                }
            },
        };
        let began = Instant::now();
        let outcome = call(&mut instance).await;
        let took = began.elapsed();
        let memory = Some(instance.memory());
        if outcome.is_ok() && turn.reuses() {
            self.instance = Some(instance);
        }
        Call { outcome, took, start, memory }
    }
}

/// A fresh instance, and how long that took.
async fn started(turn: &Turn<'_>) -> (Result<Instance, Failure>, Duration) {
    let began = Instant::now();
    let instance = turn.fresh().await;
    (instance, began.elapsed())
}

impl<T> Call<T> {
    /// The same call, with something else for what came of it.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Call<U> {
        let Self { outcome, took, start, memory } = self;
        Call { outcome: map(outcome), took, start, memory }
    }
}
