//! Commits, and letting partitions go: to another member, or all of them on leaving.

use tokio::time::Instant;

use super::{COMMIT_INTERVAL, Done, Engine, Release};
use crate::{
    broker::{Commands, CommitError, Committed, OffsetCommit},
    dispatch::{DRAIN_IN_TROUBLE, lanes::Slot},
    flaw::{self, Flaw},
    record::TopicPartition,
};

impl Engine {
    pub(super) async fn revoke(&mut self, partitions: Vec<TopicPartition>) {
        let is_kept = |name: &_| self.slots.contains_key(name) && !flaw::is(Flaw::KeepRevoked);
        let (known, unknown): (Vec<_>, Vec<_>) = partitions.into_iter().partition(is_kept);
        self.hand_back(unknown).await;
        let slots = known.iter().map(|name| self.slots[name]).collect();
        self.give_up(slots, Instant::now() + self.shared.group.drain);
    }

    /// Begins to let partitions go: nothing more is taken in, what waits is the next owner's.
    pub(super) fn give_up(&mut self, slots: Vec<Slot>, deadline: Instant) {
        let deadline = match self.shared.handler.trouble() {
            None => deadline,
            Some(_) => deadline.min(Instant::now() + DRAIN_IN_TROUBLE),
        };
        for slot in &slots {
            self.forget_waiting(*slot);
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.leaving = true;
            }
            self.parking.stop(*slot);
        }
        self.releases.push(Release { slots, deadline });
    }

    /// Lets those partitions go that are finished, or whose time is up.
    pub(super) async fn let_go(&mut self) {
        let now = Instant::now();
        let mut index = 0;
        while index < self.releases.len() {
            let release = &self.releases[index];
            let busy = |slot: &&Slot| {
                self.partitions.get(slot).is_some_and(|partition| partition.in_flight > 0)
            };
            if release.slots.iter().any(|slot| busy(&slot)) {
                if now >= release.deadline {
                    release
                        .slots
                        .iter()
                        .filter(busy)
                        .for_each(|slot| self.partitions[slot].cancel.cancel());
                }
                index += 1;
                continue;
            }
            let (slots, deadline) = (release.slots.clone(), release.deadline);
            if !self.is_settled(&slots) {
                // What is under way is waited for: it ends, and whether it was committed is the next owner's to know.
                if self.committing || now < deadline {
                    index += 1;
                    continue;
                }
                self.abandon(&slots);
            }
            self.releases.swap_remove(index);
            self.release(slots);
        }
        if self.wish.leave.is_some() && !self.left && self.partitions.is_empty() {
            self.left = true;
            self.commands.leave().await;
        }
    }

    /// Commits what partitions have finished, for the last time, and gives them back.
    fn release(&mut self, mut slots: Vec<Slot>) {
        // One that was revoked before all are given up goes by itself.
        slots.retain(|slot| self.partitions.get(slot).is_some_and(|partition| !partition.released));
        let (mut names, mut commits) = (Vec::new(), Vec::new());
        for slot in &slots {
            let Some(partition) = self.partitions.get_mut(slot) else { continue };
            partition.released = true;
            names.push(partition.name.clone());
            if !partition.moving {
                commits.extend(partition.commit());
            }
        }
        let (commands, hand_back) = (self.commands.clone(), self.hand_back(names));
        let group = self.shared.group.id.clone();
        self.work.push(Box::pin(async move {
            if !commits.is_empty() && let Err(error) = commit(&commands, commits).await {
                tracing::warn!(%group, reason = %error, "A last commit failed: some records will be handled again by their next member.");
            }
            hand_back.await;
            Done::Released(slots)
        }));
    }

    /// Tells the broker that partitions are finished with: once it is told, they are another member's.
    fn hand_back(&self, names: Vec<TopicPartition>) -> impl Future<Output = ()> + use<> {
        let (commands, member) = (self.commands.clone(), self.member_id.clone());
        let group = self.shared.group.id.clone();
        async move {
            for partition in &names {
                tracing::debug!(%group, member = member.as_deref(), %partition, "A partition is released.");
            }
            if !names.is_empty() {
                commands.release(names).await;
            }
        }
    }

    /// Forgets what waits of a partition, for the handler or for another attempt.
    pub(super) fn forget_waiting(&mut self, slot: Slot) {
        self.lanes.forget(slot);
        self.deferred.retain(|_, lane| lane.slot != slot);
    }

    /// Forgets a partition, with all that waits and all that is in flight.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.forget_waiting(slot);
        self.parking.forget(slot);
        if let Some(partition) = self.partitions.remove(&slot) {
            partition.cancel.cancel();
            self.transacting.forget(&partition.name);
            if self.slots.get(&partition.name) == Some(&slot) {
                self.slots.remove(&partition.name);
            }
            tracing::info!(
                group = %self.shared.group.id, member = self.member_id.as_deref(), partition = %partition.name,
                "A partition was given up."
            );
        }
    }

    /// Commits what is finished, when it is time and no other commit is under way.
    pub(super) fn commit(&mut self) {
        if self.is_exactly_once()
            || self.committing
            || self.commit_due.is_none_or(|due| Instant::now() < due)
        {
            return;
        }
        self.commit_due = None;
        let open = self.partitions.iter_mut().filter(|(_, it)| !it.leaving && !it.moving);
        let (offsets, commits): (Vec<_>, Vec<OffsetCommit>) = open
            .filter_map(|(slot, partition)| partition.commit().map(|commit| (*slot, commit)))
            .map(|(slot, commit)| ((slot, commit.committed.clone()), commit))
            .unzip();
        if commits.is_empty() {
            return;
        }
        self.committing = true;
        let commands = self.commands.clone();
        self.work.push(Box::pin(async move {
            let result = commit(&commands, commits).await;
            Done::Committed { offsets, result }
        }));
    }

    pub(super) fn committed(
        &mut self,
        offsets: Vec<(Slot, Committed)>,
        result: Result<(), CommitError>,
    ) {
        self.committing = false;
        match result {
            Ok(()) => {
                for (slot, committed) in offsets {
                    if let Some(partition) = self.partitions.get_mut(&slot) {
                        partition.committed(committed);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(group = %self.shared.group.id, reason = %error, "A commit failed.");
                // What is not this member's any more is taken away by an event; what still is, is tried again.
                self.commit_due.get_or_insert(Instant::now() + COMMIT_INTERVAL * 5);
            }
        }
    }
}

/// Commits; where the broker takes no map of this length, the offsets alone.
async fn commit(commands: &Commands, commits: Vec<OffsetCommit>) -> Result<(), CommitError> {
    let mut bare = commits.clone();
    bare.iter_mut().for_each(|commit| commit.committed.metadata.clear());
    match commands.commit(commits).await {
        Err(CommitError::MetadataTooLong(reason)) => {
            tracing::warn!(%reason, "A commit is made without the map of what is finished above it, which may be handled again after a restart.");
            commands.commit(bare).await
        }
        result => result,
    }
}
