//! Where generations began on partitions, until somebody takes note of it. Plain data.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Beginning;

/// What waits at the most; the oldest go first.
const MOST: usize = 4096;

/// What was seen of generations.
#[derive(Debug, Default)]
pub(crate) struct Beginnings(Mutex<VecDeque<Beginning>>);

impl Beginnings {
    /// Adds one.
    pub(crate) fn add(&self, beginning: Beginning) {
        let mut waiting = self.lock();
        if waiting.len() == MOST {
            waiting.pop_front();
        }
        waiting.push_back(beginning);
    }

    /// All that have come since this was asked last.
    pub(crate) fn take(&self) -> Vec<Beginning> {
        std::mem::take(&mut *self.lock()).into()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Beginning>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
