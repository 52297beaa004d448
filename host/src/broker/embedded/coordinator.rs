//! The groups of this process: who is in them, and the way to tell each member what it is told.
//!
//! One lock over all groups, never held across a wait. A commit is checked and put into the writer's queue under it,
//! so that nothing of a former owner comes after what the next owner commits.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    assignment::MemberNumber,
    catalog::Catalog,
    commits,
    group::{Group, Notice, Notices},
    queue::{Queue, Refused, Request},
    transactions::{Transaction, place_all},
};
use crate::{
    broker::{
        BrokerError, CommitError, GroupMember, GroupState, MemberSpec, OffsetCommit, Produced,
        TransactError, process_name,
    },
    record::{NewRecord, TopicPartition},
};

/// Characters of metadata that a commit takes, as on Kafka.
const METADATA: usize = 4096;

/// All groups.
#[derive(Debug)]
pub(super) struct Coordinator {
    catalog: Arc<Catalog>,
    queue: Arc<Queue>,
    groups: Mutex<HashMap<Arc<str>, Live>>,
}

#[derive(Debug, Default)]
struct Live {
    group: Group,
    seats: BTreeMap<MemberNumber, Seat>,
}

#[derive(Debug)]
struct Seat {
    id: Arc<str>,
    instance: Option<String>,
    told: mpsc::UnboundedSender<Told>,
}

/// What a member's driver is told.
#[derive(Debug)]
pub(super) enum Told {
    /// What the group decided.
    Notice(Notice),
    /// Another member has joined with the same instance id, and this one is out.
    Replaced,
}

/// A place in a group.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) group: Arc<str>,
    pub(super) number: MemberNumber,
    pub(super) id: Arc<str>,
    /// Not bounded by itself, and needs not be: a partition is in no more than two notices that were not acted on.
    pub(super) told: mpsc::UnboundedReceiver<Told>,
}

impl Coordinator {
    pub(super) fn new(catalog: Arc<Catalog>, queue: Arc<Queue>) -> Self {
        Self { catalog, queue, groups: Mutex::default() }
    }

    /// Adds a member, in the place of the one with the same instance id where there is one.
    pub(super) fn join(&self, spec: &MemberSpec) -> Ticket {
        let name = spec.instance_id.as_deref().unwrap_or("keyway");
        let id: Arc<str> = match &spec.instance_id {
            Some(_) => format!("{name}-{:08x}", fastrand::u32(..)),
            None => format!("{name}-{:08x}-{}", fastrand::u32(..), spec.index),
        }
        .into();
        let (sender, told) = mpsc::unbounded_channel();
        let mut groups = self.groups();
        let live = groups.entry(spec.group.clone()).or_default();
        live.replace(spec.instance_id.as_ref());
        let number = live.group.join(spec.topics.iter().cloned());
        let seat = Seat { id: id.clone(), instance: spec.instance_id.clone(), told: sender };
        live.seats.insert(number, seat);
        live.rebalance(&self.catalog);
        Ticket { group: spec.group.clone(), number, id, told }
    }

    /// Removes a member.
    pub(super) fn leave(&self, group: &str, member: MemberNumber) {
        let mut groups = self.groups();
        let Some(live) = groups.get_mut(group) else { return };
        if live.seats.remove(&member).is_some() {
            live.group.leave(member);
            live.rebalance(&self.catalog);
        }
        if live.group.is_empty() {
            groups.remove(group);
        }
    }

    /// Frees partitions that were revoked, and tells which.
    pub(super) fn release(
        &self,
        group: &str,
        member: MemberNumber,
        partitions: &[TopicPartition],
    ) -> Vec<TopicPartition> {
        let mut groups = self.groups();
        let Some(live) = groups.get_mut(group) else { return Vec::new() };
        let freed = live.group.release(member, partitions);
        live.rebalance(&self.catalog);
        freed
    }

    /// Has offsets committed, if all of them are the member's to commit.
    pub(super) fn commit(
        &self,
        ticket: &Ticket,
        offsets: Vec<OffsetCommit>,
        done: oneshot::Sender<Result<(), CommitError>>,
    ) {
        let groups = self.groups(); // until it is in the queue
        match self.check(&groups, ticket, offsets) {
            Ok(offsets) => {
                self.push(Request::Commit { group: ticket.group.clone(), offsets, done });
            }
            Err(refusal) => drop(done.send(Err(refusal))), // nobody waits: nobody to tell
        }
    }

    /// Has records written and offsets committed together, if all offsets are the member's to commit.
    pub(super) fn transact(
        &self,
        ticket: &Ticket,
        records: Vec<NewRecord>,
        offsets: Vec<OffsetCommit>,
        done: oneshot::Sender<Result<Vec<Produced>, TransactError>>,
    ) {
        let placed = place_all(&self.catalog, records);
        let groups = self.groups(); // until it is in the queue
        let checked = self.check(&groups, ticket, offsets).map_err(TransactError::from);
        match checked.and_then(|offsets| Ok((placed?, offsets))) {
            Ok((records, offsets)) => {
                let commit = Some((ticket.group.clone(), offsets));
                self.push(Request::Transact(Transaction { records, commit, done }));
            }
            Err(refusal) => drop(done.send(Err(refusal))), // nobody waits: nobody to tell
        }
    }

    /// The partitions of offsets, if all of them are the member's to commit.
    fn check(
        &self,
        groups: &HashMap<Arc<str>, Live>,
        ticket: &Ticket,
        offsets: Vec<OffsetCommit>,
    ) -> Result<commits::Offsets, CommitError> {
        let group = groups.get(&ticket.group).map(|live| &live.group);
        let mut found = Vec::with_capacity(offsets.len());
        let mut foreign = Vec::new();
        for OffsetCommit { partition, committed } in offsets {
            let is_owned = group.is_some_and(|group| group.owns(ticket.number, &partition));
            match self.catalog.partition(&partition).filter(|_| is_owned) {
                Some(known) => found.push((known, committed)),
                None => foreign.push(partition.to_string()),
            }
        }
        let longest = found.iter().map(|(_, committed)| committed.metadata.chars().count()).max();
        if !foreign.is_empty() {
            return Err(CommitError::NotOwned(foreign.join(", ")));
        }
        match longest {
            Some(longest) if longest > METADATA => Err(CommitError::MetadataTooLong(format!(
                "{longest} characters, the broker takes {METADATA}"
            ))),
            _ => Ok(found),
        }
    }

    fn push(&self, request: Request) {
        if let Err(Refused(request, error)) = self.queue.push(request) {
            request.fail(&error);
        }
    }

    /// Has offsets committed for a group that has no members. Under the lock, so that none joins before them.
    pub(super) fn commit_without_members(
        &self,
        group: &str,
        offsets: Vec<OffsetCommit>,
        done: oneshot::Sender<Result<(), CommitError>>,
    ) -> Result<(), BrokerError> {
        let groups = self.groups();
        if groups.contains_key(group) {
            return Err(BrokerError::GroupHasMembers(group.into()));
        }
        let known = |OffsetCommit { partition, committed }: OffsetCommit| {
            let topic = self.catalog.topic(&partition.topic);
            let topic =
                topic.ok_or_else(|| BrokerError::UnknownTopic(partition.topic.to_string()))?;
            let found = topic.partitions.get(partition.partition as usize).cloned();
            Ok((found.ok_or(BrokerError::UnknownPartition(partition))?, committed))
        };
        let offsets = offsets.into_iter().map(known).collect::<Result<_, BrokerError>>()?;
        let request = Request::Commit { group: group.into(), offsets, done };
        if let Err(Refused(request, error)) = self.queue.push(request) {
            request.fail(&error);
        }
        Ok(())
    }

    /// Shares out anew what a topic that is new, or may be, brings.
    pub(super) fn topic_created(&self, topic: &str) {
        for live in self.groups().values_mut() {
            if live.group.topics().contains(topic) {
                live.rebalance(&self.catalog);
            }
        }
    }

    /// A group's state and members; `None`: it has no members.
    pub(super) fn describe(&self, group: &str) -> Option<(GroupState, Vec<GroupMember>)> {
        let groups = self.groups();
        let Live { group, seats } = groups.get(group)?;
        let state = if group.is_settled() { GroupState::Stable } else { GroupState::Rebalancing };
        let member = |(number, seat): (&MemberNumber, &Seat)| GroupMember {
            id: seat.id.to_string(),
            process: process_name(),
            partitions: group.partitions_of(*number),
        };
        Some((state, seats.iter().map(member).collect()))
    }

    /// The groups that have members.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.groups().keys().map(|group| group.to_string()).collect()
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<Arc<str>, Live>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn replace(&mut self, instance: Option<&String>) {
        let Some(instance) = instance else { return };
        let same = |seat: &Seat| seat.instance.as_ref() == Some(instance);
        let former = self.seats.iter().find(|(_, seat)| same(seat)).map(|(number, _)| *number);
        if let Some(seat) = former.and_then(|former| self.seats.remove(&former)) {
            self.group.leave(former.unwrap_or_default());
            seat.told.send(Told::Replaced).ok(); // it is leaving anyway
        }
    }

    fn rebalance(&mut self, catalog: &Catalog) {
        let topics = self.group.topics();
        let known = topics.iter().filter_map(|topic| catalog.topic(topic));
        let partitions = known
            .flat_map(|topic| topic.partitions.iter().map(|it| it.name.clone()).collect::<Vec<_>>())
            .collect();
        let notices: Notices = self.group.rebalance(&partitions);
        for (member, notice) in notices {
            if let Some(seat) = self.seats.get(&member) {
                seat.told.send(Told::Notice(notice)).ok(); // a driver that is gone is about to leave
            }
        }
    }
}
