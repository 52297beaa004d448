//! One member of a group: takes in what it is assigned, hands runs to the handler, commits what is finished.
//!
//! The loop never waits for a handler, a write or a commit: those are futures it collects, so that it always has an
//! ear for the broker. Giving partitions up (a rebalance, a shutdown) is one thing here: stop intake, finish what is
//! in flight, commit, let go, under one deadline.
//!
//! Invariants: a record is finished only when its output, or its dead letter, is durable; nothing of a partition is
//! committed after it was released or lost, because it is forgotten first.

mod handling;
mod intake;
mod letting_go;
mod parking;
mod rewinding;
mod runs;
mod steering;
#[cfg(test)]
mod tests;
mod transacting;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    num::NonZero,
    sync::Arc,
    thread,
    time::Duration,
};

use futures_util::{
    future::{BoxFuture, FutureExt},
    stream::{FuturesUnordered, StreamExt},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

pub(super) use self::steering::Order;
use self::{
    parking::{Parking, ParkingDone},
    runs::Handled,
    steering::Seek,
    transacting::{Transacting, Transaction},
};
use super::{
    Counters, Pauses,
    figures::Figures,
    flow::Flow,
    lanes::{Lane, Lanes, Slot},
    output::Output,
    partition::Partition,
    status::{HotKey, MemberState, MemberStatus},
    width::Width,
};
use crate::{
    broker::{
        Assigned, Commands, CommitError, Committed, Member, MemberEvent, ProduceError, Produced,
        TransactError,
    },
    config,
    handler::{Beginnings, Handler},
    record::{NewRecord, TopicPartition},
};

/// Records in one run at the most: enough to make the hop between threads cheap, few enough to stop soon.
const RUN: usize = 256;
/// Bytes of them, after which no other record is added.
const RUN_BYTES: usize = 1 << 20;
/// Finished offsets wait this long for others to be committed with.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
/// The status is published this often at the most.
const STATUS_INTERVAL: Duration = Duration::from_millis(50);
/// What may wait in one member, over all its partitions: bytes, and records beside `max-in-flight`.
const WAITING_BYTES: usize = 32 << 20;
const WAITING_RECORDS: usize = 2048;
/// Records beside `max-in-flight` that may be in flight in one member: handled, and their output not acknowledged yet.
const UNACKNOWLEDGED: usize = 4096;

/// What every member of a group works with.
pub(super) struct Shared {
    pub(super) group: Arc<config::Group>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) output: Output,
    pub(super) counters: Counters,
    pub(super) beginnings: Beginnings,
}

/// What the group asks of its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// Hand nothing of these to the handler, and take nothing new of them in.
    pub(super) pauses: Arc<Pauses>,
    /// Leave by then.
    pub(super) leave: Option<Instant>,
}

/// How a member ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As it was told.
    Left,
    /// It could not go on.
    Failed(String),
}

/// Something that was begun and has ended.
enum Done {
    Handled(Handled),
    DeadLettered { lane: Lane, offset: u64, result: Result<Option<NewRecord>, ProduceError> },
    Cancelled { slot: Slot, count: usize },
    Committed { offsets: Vec<(Slot, Committed)>, result: Result<(), CommitError> },
    Transacted { transaction: Transaction, result: Result<Vec<Produced>, TransactError> },
    Released(Vec<Slot>),
    SeekCommitted { seek: Seek, result: Result<(), CommitError> },
    Parking(ParkingDone),
}

/// Partitions on their way out.
struct Release {
    slots: Vec<Slot>,
    deadline: Instant,
}

pub(super) struct Engine {
    shared: Arc<Shared>,
    commands: Commands,
    status: watch::Sender<MemberStatus>,
    wish: Wish,
    lanes: Lanes,
    partitions: HashMap<Slot, Partition>,
    slots: HashMap<TopicPartition, Slot>,
    next_slot: u64,
    flow: Flow,
    width: Width,
    /// Records taken by runs and letters being written, over all partitions.
    in_flight: usize,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Lanes that wait for another attempt, by when; the number keeps two of the same moment apart.
    deferred: BTreeMap<(Instant, u64), Lane>,
    next_deferred: u64,
    releases: Vec<Release>,
    parking: Parking,
    transacting: Transacting,
    /// Seeks whose partitions still have something in flight.
    seeks: Vec<Seek>,
    /// A commit, or a transaction, is under way.
    committing: bool,
    commit_due: Option<Instant>,
    status_due: Option<Instant>,
    /// Partitions of which something was read or handled since it was looked at how much of them waits, and those of which
    /// too much does.
    changed: HashSet<Slot>,
    /// Reading waits until then, because a partition is full.
    full_until: Option<Instant>,
    end: Option<End>,
    left: bool,
    member_id: Option<Arc<str>>,
    trouble: Option<String>,
    joined: bool,
}

impl Engine {
    pub(super) fn new(
        shared: Arc<Shared>,
        commands: Commands,
        status: watch::Sender<MemberStatus>,
    ) -> Self {
        let lanes = Lanes::new(shared.group.ordering);
        let flow = Flow::new(shared.group.max_in_flight);
        let width = Width::new(thread::available_parallelism().map_or(1, NonZero::get));
        Self {
            shared,
            commands,
            status,
            wish: Wish::default(),
            lanes,
            partitions: HashMap::new(),
            slots: HashMap::new(),
            next_slot: 0,
            flow,
            width,
            in_flight: 0,
            work: FuturesUnordered::new(),
            deferred: BTreeMap::new(),
            next_deferred: 0,
            releases: Vec::new(),
            parking: Parking::default(),
            transacting: Transacting::default(),
            seeks: Vec::new(),
            committing: false,
            commit_due: None,
            status_due: None,
            changed: HashSet::new(),
            full_until: None,
            end: None,
            left: false,
            member_id: None,
            trouble: None,
            joined: false,
        }
    }

    /// Runs until the member has left or failed.
    pub(super) async fn run(
        mut self,
        member: Member,
        mut wishes: watch::Receiver<Wish>,
        orders: &mut mpsc::Receiver<Order>,
    ) -> End {
        let Member { mut events, commands: _ } = member;
        let first = wishes.borrow_and_update().clone();
        self.wish(first).await;
        loop {
            self.transact();
            self.give_parked_back();
            self.start_runs();
            self.regulate().await;
            self.go_on_seeking().await;
            self.let_go().await;
            self.commit();
            let wake = self.wake();
            tokio::select! {
                biased;
                changed = wishes.changed() => {
                    let wish = match changed {
                        Ok(()) => wishes.borrow_and_update().clone(),
                        Err(_gone) => Wish { leave: Some(Instant::now()), ..self.wish.clone() },
                    };
                    self.wish(wish).await;
                }
                Some(order) = orders.recv() => self.obey(order).await,
                Some(done) = self.work.next() => {
                    self.done(done).await;
                    self.done_meanwhile().await;
                }
                () = self.flow.freed(), if self.flow.is_full() && self.lanes.ready() > 0 => {}
                event = events.recv(), if self.full_until.is_none() => match event {
                    Some(event) => self.event(event).await,
                    None => return self.end.unwrap_or(End::Left),
                },
                () = tokio::time::sleep_until(wake) => {}
            }
            self.tick();
        }
    }

    async fn event(&mut self, event: MemberEvent) {
        match event {
            MemberEvent::Records(records) => return self.take_in(records),
            MemberEvent::Assigned { member_id, partitions } => {
                self.member_id = Some(member_id);
                self.joined = true;
                self.trouble = None;
                self.assign(partitions).await;
            }
            MemberEvent::Revoking(partitions) => self.revoke(partitions).await,
            MemberEvent::Lost(partitions) => {
                let slots: Vec<_> =
                    partitions.iter().filter_map(|name| self.slots.get(name).copied()).collect();
                slots.into_iter().for_each(|slot| self.forget(slot));
            }
            MemberEvent::Sought { partition, offset } => self.sought(&partition, offset),
            MemberEvent::Rewound(assigned) => self.rewound(assigned),
            MemberEvent::Troubled(reason) => {
                tracing::warn!(group = %self.shared.group.id, %reason, "A member is in trouble and will go on by itself.");
                self.trouble = Some(reason);
            }
            MemberEvent::Failed(reason) => self.end = Some(End::Failed(reason)),
        }
        self.show();
    }

    /// Changes what the group asks for.
    async fn wish(&mut self, wish: Wish) {
        let old = std::mem::replace(&mut self.wish, wish);
        self.apply_pauses().await;
        if let (Some(deadline), None) = (self.wish.leave, old.leave) {
            let slots: Vec<_> = self.partitions.keys().copied().collect();
            self.give_up(slots, deadline);
        }
        self.show();
    }

    async fn assign(&mut self, assigned: Vec<Assigned>) {
        if self.wish.leave.is_some() {
            return; // leaving gives them to the next member, too
        }
        for assigned in assigned {
            let (partition, unread) = Partition::assigned(assigned);
            let (group, name) = (&self.shared.group.id, &partition.name);
            let member = self.member_id.as_deref();
            tracing::info!(%group, member, partition = %name, "A partition was assigned.");
            if let Some(reason) = unread {
                tracing::warn!(%group, partition = %name, %reason, "The committed offset comes with metadata that is not a map of finished offsets: it is left unread, and replaced by the next commit.");
            }
            self.insert(partition);
        }
        self.apply_pauses().await;
    }

    fn sought(&mut self, partition: &TopicPartition, offset: u64) {
        let Some(slot) = self.slots.get(partition).copied() else { return };
        // One that goes back to what is committed waits for that.
        if self.partitions.get(&slot).is_some_and(|partition| partition.abandoned) {
            return;
        }
        if let Some(old) = self.partitions.remove(&slot) {
            self.insert(old.read_again(offset));
        }
    }

    /// Begins with a partition; nothing stays of what waited of it before.
    fn insert(&mut self, partition: Partition) {
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        if let Some(old) = self.slots.insert(partition.name.clone(), slot) {
            self.forget(old);
        }
        self.slots.insert(partition.name.clone(), slot);
        if partition.paused {
            self.lanes.suspend(slot);
        }
        self.partitions.insert(slot, partition);
        self.changed.insert(slot);
        self.learn_what_is_parked(slot);
    }

    /// Takes what has ended besides, so that looking after partitions and commits costs once for all of it.
    async fn done_meanwhile(&mut self) {
        for _ in 0..RUN {
            let Some(Some(done)) = self.work.next().now_or_never() else { return };
            self.done(done).await;
        }
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Handled(Handled { over, quick, later }) => {
                quick.into_iter().for_each(|quick| self.width.learn(quick));
                later.into_iter().for_each(|later| self.go_on_with(later));
                for over in over {
                    self.handled(over).await;
                }
            }
            Done::DeadLettered { lane, offset, result } => {
                self.land(lane.slot, 1);
                match result {
                    Ok(None) => self.shared.counters.dead_lettered.add(1),
                    Ok(Some(letter)) => self.add_letter(&lane, offset, letter),
                    Err(refused) => return self.stop_at_letter(lane.slot, offset, &refused).await,
                }
                self.finish(&lane, offset);
                self.lanes.give_back(&lane);
            }
            Done::Cancelled { slot, count } => self.land(slot, count),
            Done::Committed { offsets, result } => self.committed(offsets, result),
            Done::Transacted { transaction, result } => self.transacted(transaction, result).await,
            Done::SeekCommitted { seek, result } => self.seek_committed(seek, result).await,
            Done::Parking(done) => self.parking_done(done).await,
            Done::Released(slots) => slots.into_iter().for_each(|slot| self.forget(slot)),
        }
        self.show();
    }

    /// When the loop must look again though nothing happens.
    fn wake(&self) -> Instant {
        let idle = Instant::now() + Duration::from_secs(3600);
        let committing = self.transaction_due();
        let deferred = self.deferred.first_key_value().map(|((at, _), _)| *at);
        let releases = self
            .releases
            .iter()
            .map(|release| release.deadline)
            .min()
            .filter(|at| *at > Instant::now());
        let parking = self.parking.wake(|slot| self.partitions[&slot].gives_back());
        [
            committing,
            deferred,
            releases,
            parking,
            self.seek_deadline(),
            self.full_until,
            self.status_due,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(idle)
    }

    /// Does what has become due.
    fn tick(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.deferred.first_entry().filter(|entry| entry.key().0 <= now) {
            let lane = entry.remove();
            self.lanes.give_back(&lane);
        }
        if self.status_due.is_some_and(|due| due <= now) {
            self.status_due = None;
            let status = self.member_status();
            self.status.send_replace(status);
        }
    }

    /// Has the status published soon.
    fn show(&mut self) {
        self.status_due.get_or_insert_with(|| Instant::now() + STATUS_INTERVAL);
    }

    fn member_status(&mut self) -> MemberStatus {
        let deferred = self.deferred.values().map(|lane| lane.slot);
        let figures = Figures::of(self.lanes.all(), deferred);
        let mut partitions: Vec<_> = self
            .partitions
            .iter_mut()
            .map(|(slot, partition)| {
                let (load, lanes) = (self.lanes.load(*slot), figures.lanes(*slot));
                partition.status(load, lanes, self.parking.size(*slot))
            })
            .collect();
        partitions.sort_by(|a, b| a.partition.cmp(&b.partition));
        let hot = |(slot, key, waiting)| {
            let partition = self.partitions.get(&slot)?.name.clone();
            Some(HotKey { partition, key, waiting })
        };
        let hottest = figures.hottest.into_iter().filter_map(hot).collect();
        let state = match () {
            () if !self.joined => MemberState::Joining,
            () if !self.releases.is_empty() => MemberState::Rebalancing,
            () if self.partitions.is_empty() => MemberState::Inactive,
            () => MemberState::Active,
        };
        MemberStatus {
            id: self.member_id.clone(),
            state,
            trouble: self.trouble.clone(),
            partitions,
            hottest,
        }
    }
}
