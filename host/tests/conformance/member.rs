//! A member that is watched: its events are taken as they come, and a case waits for what it wants to have seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use keyway::{
    broker::{
        Assigned, Broker, Commands, CommitError, Committed, Member, MemberEvent, MemberSpec,
        OffsetCommit, Produced, TransactError,
    },
    config::Start,
    record::{NewRecord, Record, TopicPartition},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::fixture::{Fixture, PATIENCE, fill};

/// What became of a member so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Its id, once it has been assigned something or nothing.
    pub(crate) id: Option<Arc<str>>,
    /// What it has, with what was committed when it came.
    pub(crate) owned: BTreeMap<TopicPartition, Option<Committed>>,
    /// Every record, in the order of arrival.
    pub(crate) records: Vec<Record>,
    /// Which of it is being revoked.
    pub(crate) revoking: BTreeSet<TopicPartition>,
    /// Records of partitions that it did not have, or that were being revoked: none, ever.
    pub(crate) stray: Vec<Record>,
    /// What was ever in a `Revoking`.
    pub(crate) revoked: Vec<TopicPartition>,
    /// What was ever in a `Lost`.
    pub(crate) lost: Vec<TopicPartition>,
    /// Seeks that took effect, each with the number of records that came before it.
    pub(crate) sought: Vec<(TopicPartition, u64, usize)>,
    /// Rewindings that took effect, each with the number of records that came before it.
    pub(crate) rewound: Vec<(Assigned, usize)>,
    /// How often it was assigned something or nothing.
    pub(crate) assignments: usize,
    /// Why it failed.
    pub(crate) failed: Option<String>,
    /// Whether its events have ended.
    pub(crate) closed: bool,
}

/// What to do when partitions are revoked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnRevoke {
    /// Give them up at once.
    Release,
    /// Nothing: the case gives them up.
    Hold,
}

/// A member that takes all its events.
pub(crate) struct Watched {
    pub(crate) commands: Commands,
    seen: Arc<watch::Sender<Seen>>,
    task: JoinHandle<()>,
}

/// A member of `group` that reads `topic` from the earliest record on and releases what is revoked.
pub(crate) fn join(
    broker: &Arc<dyn Broker>,
    group: &Arc<str>,
    topic: &Arc<str>,
    index: u32,
) -> Watched {
    join_with(broker, spec(group, topic, index), OnRevoke::Release)
}

/// How [`join`] joins.
pub(crate) fn spec(group: &Arc<str>, topic: &Arc<str>, index: u32) -> MemberSpec {
    MemberSpec {
        group: group.clone(),
        topics: vec![topic.clone()],
        start: Start::Earliest,
        index,
        instance_id: None,
    }
}

/// A member that joins in a way of its own.
pub(crate) fn join_with(
    broker: &Arc<dyn Broker>,
    spec: MemberSpec,
    on_revoke: OnRevoke,
) -> Watched {
    let member = broker.join(spec).unwrap();
    let commands = member.commands.clone();
    let seen = Arc::new(watch::Sender::new(Seen::default()));
    let task = tokio::spawn(take_events(member, seen.clone(), on_revoke));
    Watched { commands, seen, task }
}

/// A member of a fresh group that began at the end of a partition with five records, and has what was written to it since:
/// one record at the least. Also that partition, and where it ends now.
pub(crate) async fn begin_at_the_end(fixture: &dyn Fixture) -> (Watched, TopicPartition, u64) {
    let (broker, topic, group) = (fixture.broker(), fixture.topic(1).await, fixture.group());
    let partition = TopicPartition::new(topic.clone(), 0);
    let mut end = fill(&broker, &partition, 5).await;
    let spec = MemberSpec { start: Start::Latest, ..spec(&group, &topic, 0) };
    let member = join_with(&broker, spec, OnRevoke::Release);
    settled(&[&member], 1).await;
    // On Kafka the end is looked up only after the assignment, so a first record may come before it.
    while member.seen().records.is_empty() {
        assert!(end < 5_000, "nothing arrives");
        end = fill(&broker, &partition, 1).await;
        sleep(Duration::from_millis(10)).await;
    }
    let is_last = |offsets: &[u64]| offsets.last() == Some(&(end - 1));
    member.until("the last arrives", |seen| is_last(&seen.offsets(&partition))).await;
    (member, partition, end)
}

async fn take_events(mut member: Member, seen: Arc<watch::Sender<Seen>>, on_revoke: OnRevoke) {
    while let Some(event) = member.events.recv().await {
        let revoking = match &event {
            MemberEvent::Revoking(partitions) if on_revoke == OnRevoke::Release => {
                partitions.clone()
            }
            _ => Vec::new(),
        };
        seen.send_modify(|seen| seen.take(event));
        if !revoking.is_empty() {
            seen.send_modify(|seen| seen.give_up(&revoking));
            member.commands.release(revoking).await;
        }
    }
    seen.send_modify(|seen| seen.closed = true);
}

impl Seen {
    fn take(&mut self, event: MemberEvent) {
        match event {
            MemberEvent::Assigned { member_id, partitions } => {
                self.id = Some(member_id);
                self.assignments += 1;
                self.owned.extend(partitions.into_iter().map(|new| (new.partition, new.committed)));
            }
            MemberEvent::Revoking(partitions) => {
                self.revoking.extend(partitions.iter().cloned());
                self.revoked.extend(partitions);
            }
            MemberEvent::Lost(partitions) => {
                self.give_up(&partitions);
                self.lost.extend(partitions);
            }
            MemberEvent::Records(records) => {
                for record in records {
                    let partition = record.topic_partition();
                    let is_open =
                        self.owned.contains_key(&partition) && !self.revoking.contains(&partition);
                    if is_open { &mut self.records } else { &mut self.stray }.push(record);
                }
            }
            MemberEvent::Sought { partition, offset } => {
                self.sought.push((partition, offset, self.records.len()));
            }
            MemberEvent::Rewound(assigned) => self.rewound.push((assigned, self.records.len())),
            MemberEvent::Troubled(_) => {}
            MemberEvent::Failed(reason) => self.failed = Some(reason),
        }
    }

    fn give_up(&mut self, partitions: &[TopicPartition]) {
        self.owned.retain(|partition, _| !partitions.contains(partition));
        self.revoking.retain(|partition| !partitions.contains(partition));
    }

    /// The offsets that came of one partition, in order of arrival.
    pub(crate) fn offsets(&self, partition: &TopicPartition) -> Vec<u64> {
        self.of(partition).map(|record| record.offset).collect()
    }

    /// The records that came of one partition.
    pub(crate) fn of<'a>(
        &'a self,
        partition: &'a TopicPartition,
    ) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| {
            record.topic == partition.topic && record.partition == partition.partition
        })
    }
}

impl Watched {
    /// Waits until `condition` holds of what was seen.
    pub(crate) async fn until(&self, what: &str, condition: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        let met = timeout(PATIENCE, seen.wait_for(condition)).await.is_ok_and(|met| met.is_ok());
        assert!(met, "never: {what}\n{:#?}", &*self.seen.borrow());
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> watch::Ref<'_, Seen> {
        self.seen.borrow()
    }

    /// Gives up what is being revoked.
    pub(crate) async fn release(&self) {
        let revoking: Vec<_> = self.seen().revoking.iter().cloned().collect();
        self.seen.send_modify(|seen| seen.give_up(&revoking));
        self.commands.release(revoking).await;
    }

    /// Commits one offset with metadata; again where that is what is to be done, as while a group shares out anew.
    pub(crate) async fn commit(
        &self,
        partition: &TopicPartition,
        offset: u64,
        metadata: &str,
    ) -> Result<(), CommitError> {
        let committed = Committed { offset, metadata: metadata.into() };
        let offsets = vec![OffsetCommit { partition: partition.clone(), committed }];
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.commands.commit(offsets.clone()).await {
                Err(CommitError::Unavailable(_)) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(20)).await;
                }
                told => return told,
            }
        }
    }

    /// Writes records and commits one offset with metadata, in one transaction.
    pub(crate) async fn transact(
        &self,
        records: Vec<NewRecord>,
        partition: &TopicPartition,
        offset: u64,
        metadata: &str,
    ) -> Result<Vec<Produced>, TransactError> {
        let committed = Committed { offset, metadata: metadata.into() };
        let offsets = vec![OffsetCommit { partition: partition.clone(), committed }];
        self.commands.transact(records, offsets).await
    }

    /// Leaves the group and waits until that is done.
    pub(crate) async fn leave(self) {
        self.commands.leave().await;
        self.until("the member's events end after it left", |seen| seen.closed).await;
        let seen = self.seen();
        assert!(seen.stray.is_empty() && seen.failed.is_none(), "{seen:#?}");
    }

    /// Goes away without a word, as far as that is possible within one process.
    pub(crate) async fn kill(self) {
        self.task.abort();
        self.task.await.ok();
    }
}

/// Waits until `members` have `total` partitions between them, evenly, and each knows what it has.
pub(crate) async fn settled(members: &[&Watched], total: usize) {
    let deadline = Instant::now() + PATIENCE;
    while !is_settled(members, total) {
        let owned = members.iter().map(|member| member.seen().owned.keys().cloned().collect());
        let owned: Vec<Vec<TopicPartition>> = owned.collect();
        assert!(Instant::now() < deadline, "the members never shared out {total}: {owned:#?}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn is_settled(members: &[&Watched], total: usize) -> bool {
    let is_told = |member: &&Watched| {
        let seen = member.seen();
        seen.assignments > 0 && seen.revoking.is_empty()
    };
    let loads: Vec<_> = members.iter().map(|member| member.seen().owned.len()).collect();
    let (least, most) = (loads.iter().min().copied(), loads.iter().max().copied());
    members.iter().all(is_told)
        && loads.iter().sum::<usize>() == total
        && most.unwrap_or_default() - least.unwrap_or_default() <= 1
}
