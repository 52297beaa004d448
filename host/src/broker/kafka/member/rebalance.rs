//! Partitions that the group gives to a member and takes from it, and those that go back to what is committed.

use std::time::{Duration, Instant};

use rdkafka::Offset;

use super::{
    Driver, context,
    errand::{Beginnings, Rewound},
};
use crate::{
    broker::{Assigned, MemberEvent},
    record::TopicPartition,
};

/// How long an errand that failed waits before the next try.
const AGAIN: Duration = Duration::from_millis(500);

/// Partitions that an errand is about.
pub(super) struct Asked {
    partitions: Vec<TopicPartition>,
    /// When to ask again; `None`: it is being asked.
    again: Option<Instant>,
}

impl Asked {
    fn new(partitions: Vec<TopicPartition>, taken: bool) -> Self {
        Self { partitions, again: if taken { None } else { Some(Instant::now() + AGAIN) } }
    }

    /// What to ask again now.
    pub(super) fn due(asked: &Option<Self>) -> Option<Vec<TopicPartition>> {
        let asked =
            asked.as_ref().filter(|asked| asked.again.is_some_and(|at| Instant::now() >= at))?;
        Some(asked.partitions.clone())
    }

    /// It was asked in vain: it is asked again in a while.
    pub(super) fn put_off(asked: &mut Option<Self>) {
        if let Some(asked) = asked {
            asked.again = Some(Instant::now() + AGAIN);
        }
    }

    fn forget(asked: &mut Option<Self>, partitions: &[TopicPartition]) {
        if let Some(asked) = asked {
            asked.partitions.retain(|partition| !partitions.contains(partition));
        }
    }
}

impl Driver {
    pub(super) fn begin(&mut self, partitions: Vec<TopicPartition>) {
        let taken = self.errands.begin(partitions.clone());
        self.assigning = Some(Asked::new(partitions, taken));
    }

    pub(super) fn assign(&mut self, Beginnings { member_id, partitions }: Beginnings) {
        if self.assigning.take().is_none() {
            return; // lost meanwhile
        }
        let begin: Vec<_> =
            partitions.iter().map(|(partition, _, offset)| (partition.clone(), *offset)).collect();
        if let Err(error) = self.holdings.add(&begin) {
            tracing::error!(%error, "Partitions that the group has given cannot be fetched.");
        }
        context::answer(&self.consumer, true);
        self.trouble = None;
        let assigned = partitions
            .into_iter()
            .map(|(partition, committed, _)| Assigned { partition, committed })
            .collect();
        self.outbox.push_back(MemberEvent::Assigned { member_id, partitions: assigned });
    }

    pub(super) fn revoke(&mut self, partitions: Vec<TopicPartition>) {
        for partition in &partitions {
            if let Some(holding) = self.holdings.get_mut(partition) {
                holding.revoking = true;
            }
        }
        self.open = true;
        if partitions.is_empty() {
            return self.give_up();
        }
        self.revoking.clone_from(&partitions);
        self.outbox.push_back(MemberEvent::Revoking(partitions));
    }

    pub(super) fn lose(&mut self, partitions: Vec<TopicPartition>) {
        self.drop_holdings(&partitions);
        self.revoking.clear();
        self.open = true;
        self.give_up();
        if !partitions.is_empty() {
            self.outbox.push_back(MemberEvent::Lost(partitions));
        }
    }

    /// Tells the group that the partitions of the open revocation are given up.
    pub(super) fn give_up(&mut self) {
        if std::mem::take(&mut self.open) {
            context::answer(&self.consumer, false);
        }
    }

    pub(super) fn drop_holdings(&mut self, partitions: &[TopicPartition]) {
        self.holdings.remove(partitions);
        Asked::forget(&mut self.rewinding, partitions);
    }

    pub(super) fn rewind(&mut self, mut partitions: Vec<TopicPartition>) {
        partitions.extend(self.rewinding.take().into_iter().flat_map(|asked| asked.partitions));
        partitions.retain(|partition| self.holdings.contains(partition));
        let taken = self.errands.rewind(partitions.clone());
        self.rewinding = Some(Asked::new(partitions, taken));
    }

    pub(super) fn rewound(&mut self, rewound: Rewound) {
        let Some(asked) = &mut self.rewinding else { return };
        for (partition, committed) in rewound {
            // One that was let go meanwhile, and perhaps taken again, is not rewound.
            let Some(index) = asked.partitions.iter().position(|asked| *asked == partition) else {
                continue;
            };
            asked.partitions.swap_remove(index);
            let holding = self.holdings.get_mut(&partition).filter(|holding| !holding.revoking);
            let Some(holding) = holding else { continue };
            let to = match &committed {
                Some(committed) => Offset::Offset(committed.offset as i64),
                None => holding.began,
            };
            let event = MemberEvent::Rewound(Assigned { partition, committed });
            holding.seeking = Some((to, event));
        }
        self.rewinding = self.rewinding.take().filter(|asked| !asked.partitions.is_empty());
    }
}
