//! Going back to what is committed, after a transaction that failed.

use super::Engine;
use crate::{broker::Assigned, dispatch::partition::Partition};

impl Engine {
    /// Begins a partition anew: whatever was handled of it since its last commit did not happen.
    pub(super) fn rewound(&mut self, assigned: Assigned) {
        let Some(slot) = self.slots.get(&assigned.partition).copied() else { return };
        let is_held = self.partitions.get(&slot).is_some_and(|partition| partition.held);
        self.forget(slot);
        let (mut partition, _unread) = Partition::assigned(assigned);
        partition.held = is_held; // the driver's pauses outlast a rewinding
        self.insert(partition);
    }
}
