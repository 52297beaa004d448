//! Going back to what is committed, after a transaction that failed.

use super::Engine;
use crate::broker::Assigned;

impl Engine {
    /// Takes back all that was handled and is not committed: it did not happen. What stays begins again from what is
    /// committed; what is being given up goes as it is, and its next owner handles it.
    pub(super) async fn rewind(&mut self) {
        self.transacting.drop_batch();
        let (mut names, mut resume) = (Vec::new(), Vec::new());
        let slots: Vec<_> = self.partitions.keys().copied().collect();
        for slot in slots {
            self.forget_waiting(slot);
            let Some(partition) = self.partitions.get_mut(&slot) else { continue };
            partition.cancel.cancel();
            if partition.leaving {
                partition.abandoned = true;
                continue;
            }
            let Some(old) = self.partitions.remove(&slot) else { continue };
            let stood_still = old.stopped.is_some();
            let new = old.rewinding();
            names.push(new.name.clone());
            if stood_still && new.flows() {
                resume.push(new.name.clone());
            }
            self.insert(new);
        }
        if !resume.is_empty() {
            self.commands.resume(resume).await;
        }
        if !names.is_empty() {
            self.commands.rewind(names).await;
        }
    }

    /// Begins a partition anew.
    pub(super) fn rewound(&mut self, assigned: Assigned) {
        let Some(slot) = self.slots.get(&assigned.partition).copied() else { return };
        // One that is being given up is not read any more.
        let Some(old) = self.partitions.remove(&slot) else { return };
        if old.leaving {
            self.partitions.insert(slot, old);
            return;
        }
        old.cancel.cancel();
        self.insert(old.rewound(assigned));
    }
}
