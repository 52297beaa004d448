//! What operators ask of a running member: to hold partitions back, to try again where one stands still, and to go on
//! at another offset.
//!
//! A seek is one thing for all its partitions: nothing more of them is given to the handler, what is in flight ends (or
//! is cut off when its time is up), the new offsets are committed, and only then are the partitions moved. Until that
//! commit everything is as it was and can go on so.
//!
//! Invariant: from the moment a seek's commit is given to the driver, nothing of the old position is committed after it.

use std::{collections::BTreeMap, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{Done, Engine};
use crate::{
    broker::{CommitError, Committed, OffsetCommit},
    dispatch::{Scope, lanes::Slot, partition::Partition},
    record::TopicPartition,
};

/// How long what is in flight may take when its partition is moved; a call of a handler is bounded by its limit
/// anyway.
const QUIET: Duration = Duration::from_secs(10);

/// What a group asks of one member, once.
#[derive(Debug)]
pub(in crate::dispatch) enum Order {
    /// Let partitions go on that stand still by the policy `stop`.
    Restart(Scope),
    /// Go on at these offsets, with those of the partitions that are the member's. Void once nobody waits for the
    /// answer: the partitions that were moved.
    Seek {
        offsets: BTreeMap<TopicPartition, u64>,
        done: oneshot::Sender<Result<Vec<TopicPartition>, String>>,
    },
}

/// A seek that waits for its partitions to be quiet, or for its commit.
pub(super) struct Seek {
    targets: Vec<(Slot, TopicPartition, u64)>,
    deadline: Instant,
    done: oneshot::Sender<Result<Vec<TopicPartition>, String>>,
}

impl Seek {
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.targets.iter().map(|(slot, ..)| *slot)
    }

    fn answer(self, result: Result<(), String>) {
        let names = self.targets.into_iter().map(|(_, name, _)| name).collect();
        self.done.send(result.map(|()| names)).ok(); // nobody waits any more
    }
}

impl Engine {
    pub(super) async fn obey(&mut self, order: Order) {
        match order {
            Order::Restart(scope) => self.restart_stopped(&scope).await,
            Order::Seek { offsets, done } => self.begin_seek(&offsets, done),
        }
        self.show();
    }

    /// Holds back what is paused now, and lets go on what is no longer.
    pub(super) async fn apply_pauses(&mut self) {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for (slot, partition) in &mut self.partitions {
            let paused = self.wish.pauses.of(&partition.name).is_some();
            if paused == partition.paused {
                continue;
            }
            partition.paused = paused;
            if paused {
                self.lanes.suspend(*slot);
                pause.push(partition.name.clone());
                continue;
            }
            if !partition.moving {
                self.lanes.resume(*slot);
            }
            if partition.flows() {
                resume.push(partition.name.clone());
            }
        }
        if !pause.is_empty() {
            self.commands.pause(pause).await;
        }
        if !resume.is_empty() {
            self.commands.resume(resume).await;
        }
    }

    /// Lets partitions go on, from the record at which they stand still.
    async fn restart_stopped(&mut self, scope: &Scope) {
        for partition in self.partitions.values_mut() {
            if partition.stopped.is_none() || partition.moving || !scope.covers(&partition.name) {
                continue;
            }
            partition.stopped = None;
            self.transacting.refusals.forget(&partition.name); // what was refused may pass now
            partition.seeking = true;
            partition.held = false;
            self.commands.seek(partition.name.clone(), partition.offsets.committable()).await;
            if partition.flows() {
                self.commands.resume(vec![partition.name.clone()]).await;
            }
        }
    }

    fn begin_seek(
        &mut self,
        offsets: &BTreeMap<TopicPartition, u64>,
        done: oneshot::Sender<Result<Vec<TopicPartition>, String>>,
    ) {
        if done.is_closed() {
            return;
        }
        let known = |(name, offset): (&TopicPartition, &u64)| {
            Some((*self.slots.get(name)?, name.clone(), *offset))
        };
        let targets: Vec<_> = offsets.iter().filter_map(known).collect();
        let busy = targets.iter().find(|(slot, ..)| {
            let partition = &self.partitions[slot];
            partition.leaving || partition.moving || partition.seeking
        });
        if let Some((_, name, _)) = busy {
            let reason = format!("{name} is changing hands, or being moved already; try again");
            done.send(Err(reason)).ok(); // nobody waits any more
            return;
        }
        for (slot, ..) in &targets {
            self.lanes.suspend(*slot);
            self.partitions.get_mut(slot).expect("a slot in use has its partition").moving = true;
        }
        self.seeks.push(Seek { targets, deadline: Instant::now() + QUIET, done });
    }

    /// Goes on with those seeks whose partitions are quiet, or are gone, or whose time is up.
    pub(super) async fn go_on_seeking(&mut self) {
        let mut index = 0;
        while index < self.seeks.len() {
            let seek = &self.seeks[index];
            let gone = seek.targets.iter().find(|(slot, ..)| {
                self.partitions.get(slot).is_none_or(|partition| partition.leaving)
            });
            if let Some((_, name, _)) = gone {
                let reason = format!(
                    "{name} was given to another member, or had to begin again, meanwhile; nothing was moved"
                );
                let seek = self.seeks.swap_remove(index);
                self.stay(&seek).await;
                seek.answer(Err(reason));
                continue;
            }
            let partitions = seek.targets.iter().map(|(slot, ..)| &self.partitions[slot]);
            let busy: Vec<_> = partitions.filter(|partition| partition.in_flight > 0).collect();
            let (is_quiet, slots) = (busy.is_empty(), seek.slots().collect::<Vec<_>>());
            if Instant::now() >= seek.deadline {
                busy.into_iter().for_each(|partition| self.cut_off(partition));
            }
            // A commit under way may be made once more, without its map: that must not come after the seek's.
            if is_quiet && !self.committing && self.is_settled(&slots) {
                let seek = self.seeks.swap_remove(index);
                self.commit_seek(seek);
                continue;
            }
            index += 1;
        }
    }

    fn cut_off(&self, partition: &Partition) {
        if !partition.cancel.is_cancelled() {
            tracing::warn!(
                group = %self.shared.group.id, partition = %partition.name, records = partition.in_flight,
                "Records in flight were cut off, because an operator moves their partition."
            );
            partition.cancel.cancel();
        }
    }

    /// When the next seek has waited long enough.
    pub(super) fn seek_deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        self.seeks.iter().map(|seek| seek.deadline).filter(|deadline| *deadline > now).min()
    }

    fn commit_seek(&mut self, seek: Seek) {
        let commit = |(_, name, offset): &(Slot, TopicPartition, u64)| OffsetCommit {
            partition: name.clone(),
            committed: Committed { offset: *offset, metadata: String::new() },
        };
        let commits = seek.targets.iter().map(commit).collect();
        let (commands, shared) = (self.commands.clone(), self.shared.clone());
        self.work.push(Box::pin(async move {
            let result = commands.commit(commits).await;
            if result.is_ok() {
                let moved = seek.targets.iter().map(|(_, name, offset)| (name.clone(), *offset));
                shared.output.note_seek(&moved.collect::<Vec<_>>()).await;
            }
            Done::SeekCommitted { seek, result }
        }));
    }

    pub(super) async fn seek_committed(&mut self, seek: Seek, result: Result<(), CommitError>) {
        if let Err(error) = result {
            self.stay(&seek).await;
            return seek.answer(Err(format!("the new offsets could not be committed: {error}")));
        }
        for (slot, name, offset) in &seek.targets {
            // One that is being given up keeps `moving`, so that its last commit does not undo this one.
            let open = self.partitions.get(slot).is_some_and(|partition| !partition.leaving);
            if !open {
                continue;
            }
            let Some(old) = self.partitions.remove(slot) else { continue };
            tracing::info!(
                group = %self.shared.group.id, partition = %name, from = old.offsets.committable(), to = offset,
                "An operator has moved the group."
            );
            let new = old.sought(*offset);
            let flows = new.flows();
            self.insert(new);
            self.commands.seek(name.clone(), *offset).await;
            if flows {
                self.commands.resume(vec![name.clone()]).await; // it may have stood still
            }
        }
        seek.answer(Ok(()));
    }

    /// Leaves partitions where they are: what was held back for a seek goes on.
    async fn stay(&mut self, seek: &Seek) {
        for (slot, ..) in &seek.targets {
            let Some(partition) = self.partitions.get_mut(slot) else { continue };
            partition.moving = false;
            if partition.leaving {
                continue;
            }
            if partition.cancel.is_cancelled() {
                // What was cut off is read again, from where the group is.
                partition.seeking = true;
                let (name, offset) = (partition.name.clone(), partition.offsets.committable());
                self.commands.seek(name, offset).await;
            } else if !partition.paused {
                self.lanes.resume(*slot);
            }
        }
    }
}
