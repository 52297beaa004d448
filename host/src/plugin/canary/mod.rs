//! A canary: another generation that handles a share of a use's records, and is judged by what becomes of them.
//!
//! `split` says which records are its, `figures` how it does beside the generation that serves; this joins them with the
//! instances of the two. It belongs to one use of the plugin as a handler, with that use's settings and limits.
//!
//! Invariant: a key is on one side for as long as a canary lasts, and a run is handled by one side alone, so that lanes
//! keep their order.

mod figures;
mod split;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use self::{
    figures::Comparison,
    split::{Side, Split},
};
use super::{
    host::Threads, rollout::Candidate, status::CanaryStatus, usage::Usage, workers::Workers,
};
use crate::{
    config,
    handler::{Delivery, Generation, Outcome},
};

pub(super) use self::figures::Bounds;
pub use self::figures::Figures;

/// A generation that is tried.
pub(super) struct Canary {
    pub(super) candidate: Candidate,
    since: SystemTime,
    split: Split,
    bounds: Bounds,
    workers: Arc<Workers>,
    comparison: Mutex<Comparison>,
}

impl Canary {
    /// A canary with instances of its own, which `usage` has; it tries `usage`'s generation.
    pub(super) fn new(
        candidate: Candidate,
        usage: Arc<Usage>,
        threads: Arc<Threads>,
        terms: &config::Terms,
    ) -> Self {
        Self {
            split: Split::new(&candidate.component.generation.digest, terms.percent),
            bounds: Bounds {
                minimum: terms.minimum_sample,
                more_failures: terms.more_failures,
                slower: terms.slower,
            },
            since: SystemTime::now(),
            workers: Workers::new(usage, threads),
            comparison: Mutex::default(),
            candidate,
        }
    }

    /// The generation that is tried.
    pub(super) fn generation(&self) -> &Generation {
        &self.candidate.component.generation
    }

    /// What is wrong with it, while it fails every call.
    pub(super) fn trouble(&self) -> Option<String> {
        self.workers.trouble()
    }

    /// How many of 100 keys are its.
    pub(super) fn percent(&self) -> u8 {
        self.split.percent()
    }

    /// The workers for the first records of a run, `None` for those of the generation that serves, and how many records
    /// are for them.
    pub(super) fn first(&self, run: &[Delivery]) -> (Option<&Arc<Workers>>, usize) {
        let (side, length) = self.split.first(run);
        ((side == Side::Canary).then_some(&self.workers), length)
    }

    /// Counts what became of records. Says what is wrong with the canary, when it is worse than allowed.
    pub(super) fn count(
        &self,
        is_canary: bool,
        outcomes: &[Outcome],
        took: Duration,
    ) -> Option<String> {
        let mut comparison = self.comparison.lock().unwrap_or_else(PoisonError::into_inner);
        if is_canary {
            return comparison.canary(outcomes, took, self.bounds);
        }
        comparison.serving(outcomes, took);
        None
    }

    /// What is to be seen of it.
    pub(super) fn status(&self) -> CanaryStatus {
        let comparison = self.comparison.lock().unwrap_or_else(PoisonError::into_inner);
        CanaryStatus {
            generation: self.generation().clone(),
            since: self.since,
            percent: self.percent(),
            serving: comparison.serving,
            canary: comparison.canary,
        }
    }
}
