//! A group in this process: its members, each kept running, and what they are asked to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

use super::{
    Counters, Pauses, Scope,
    member::{End, Engine, Order, Shared, Wish},
    output::Output,
    status::{GroupStatus, MemberState, MemberStatus},
};
use crate::{
    broker::{Broker, MemberSpec},
    config,
    handler::{Beginning, Beginnings, Generation, Handler},
    produce::Producer,
    record::TopicPartition,
};

/// The first wait before a member that failed joins again; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Orders that may wait for one member.
const ORDERS: usize = 16;
/// How long a member may take to move its partitions: what is in flight has to end, and a commit to be made.
const SEEK: Duration = Duration::from_secs(25);

/// The members that this process runs of one group.
pub struct Group {
    shared: Arc<Shared>,
    wish: watch::Sender<Wish>,
    seats: Vec<Seat>,
    members: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
}

/// One member as its group sees it.
struct Seat {
    status: watch::Receiver<MemberStatus>,
    orders: mpsc::Sender<Order>,
}

/// Why a group was not moved to other offsets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeekError {
    /// Partitions that no member of this process reads. Nothing was moved.
    #[error("no member of this process reads {} now", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    NotRead(Vec<TopicPartition>),
    /// A member could not do it. Those that another member reads may have been moved.
    #[error("{0}")]
    Failed(String),
}

impl Group {
    /// Starts the group's members. They join by themselves, and again whenever they fail. What is paused is not handled
    /// before it is resumed. Must be called on a tokio runtime.
    pub fn start(
        group: Arc<config::Group>,
        broker: Arc<dyn Broker>,
        producer: Producer,
        handler: Arc<dyn Handler>,
        pauses: Arc<Pauses>,
    ) -> Self {
        let output = Output::new(broker.clone(), producer, group.clone());
        let (counters, beginnings) = (Counters::default(), Beginnings::default());
        let shared = Arc::new(Shared { group, handler, output, counters, beginnings });
        let (wish, wishes) = watch::channel(Wish { pauses, leave: None });
        let (seats, members) = (0..shared.group.consumers)
            .map(|index| {
                let (status, shown) = watch::channel(joining());
                let (orders, waiting) = mpsc::channel(ORDERS);
                let (shared, broker) = (shared.clone(), broker.clone());
                let member = Supervised { shared, broker, index, status, orders: waiting };
                let seat = Seat { status: shown, orders };
                (seat, tokio::spawn(member.keep_running(wishes.clone())))
            })
            .unzip();
        Self { shared, wish, seats, members: tokio::sync::Mutex::new(members) }
    }

    /// What it was configured with.
    pub fn config(&self) -> &config::Group {
        &self.shared.group
    }

    /// The handler's generation that serves now.
    pub fn generation(&self) -> Generation {
        self.shared.handler.generation()
    }

    /// How it does. Up to 50 ms old.
    pub fn status(&self) -> GroupStatus {
        let counters = &self.shared.counters;
        GroupStatus {
            id: self.shared.group.id.clone(),
            pauses: self.wish.borrow().pauses.clone(),
            trouble: self.shared.handler.trouble(),
            members: self.seats.iter().map(|seat| seat.status.borrow().clone()).collect(),
            dropped: counters.dropped.get(),
            dead_lettered: counters.dead_lettered.get(),
            parked: counters.parked.get(),
            handled: counters.handled.get(),
            retried: counters.retried.get(),
        }
    }

    /// Where generations of the handler began since this was asked last. At most 4,096 wait; the oldest go first.
    pub fn take_beginnings(&self) -> Vec<Beginning> {
        self.shared.beginnings.take()
    }

    /// Holds back what is paused now and lets go on what is not. What is in flight ends as it would; members stay
    /// members.
    pub fn set_pauses(&self, pauses: Arc<Pauses>) {
        self.wish.send_if_modified(|wish| {
            let changed = wish.pauses != pauses;
            wish.pauses = pauses;
            changed
        });
    }

    /// Lets partitions go on that stand still by the policy `stop`.
    pub fn restart_stopped(&self, scope: &Scope) {
        for seat in &self.seats {
            // A member that takes no orders starts anew, and with it what stands still.
            seat.orders.try_send(Order::Restart(scope.clone())).ok();
        }
    }

    /// Goes on at other offsets, which are committed first. What is in flight at the old ones ends, but neither it nor
    /// anything else of the old position is committed any more.
    ///
    /// # Errors
    /// See [`SeekError`].
    pub async fn seek(&self, offsets: BTreeMap<TopicPartition, u64>) -> Result<(), SeekError> {
        let mut missing: BTreeSet<_> = offsets.keys().cloned().collect();
        let mut readers = Vec::new();
        for seat in &self.seats {
            let asked = missing.len();
            for read in &seat.status.borrow().partitions {
                missing.remove(&read.partition);
            }
            if missing.len() < asked {
                readers.push(&seat.orders);
            }
        }
        if !missing.is_empty() {
            return Err(SeekError::NotRead(missing.into_iter().collect()));
        }
        let orders = readers.into_iter().map(|orders| seek(orders, offsets.clone()));
        let answers = futures_util::future::join_all(orders).await;
        let mut left: BTreeSet<_> = offsets.into_keys().collect();
        let mut failed = Vec::new();
        for answer in answers {
            match answer {
                Ok(moved) => left.retain(|partition| !moved.contains(partition)),
                Err(reason) => failed.push(reason),
            }
        }
        match (failed.is_empty(), left.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => Err(SeekError::NotRead(left.into_iter().collect())),
            (false, _) => Err(SeekError::Failed(failed.join("; "))),
        }
    }

    /// Stops intake, finishes what is in flight, commits, and leaves; what is not finished by `deadline` is left to
    /// the next member.
    pub async fn drain(&self, deadline: Instant) {
        self.wish.send_modify(|wish| wish.leave = Some(deadline));
        for member in self.members.lock().await.drain(..) {
            let abort = member.abort_handle();
            // Cancelling what is late and the last commit take their time after the deadline, too.
            if tokio::time::timeout_at(deadline + super::LAST_COMMIT, member).await.is_err() {
                tracing::warn!(group = %self.shared.group.id, "A member did not leave in time; its session will expire.");
                abort.abort();
            }
        }
    }
}

/// Has one member move its share of these, and waits until it has.
async fn seek(
    orders: &mpsc::Sender<Order>,
    offsets: BTreeMap<TopicPartition, u64>,
) -> Result<Vec<TopicPartition>, String> {
    let (done, moved) = oneshot::channel();
    let order = Order::Seek { offsets, done };
    let busy = || "a member has too many orders that wait".to_owned();
    orders.try_send(order).map_err(|_full| busy())?;
    match tokio::time::timeout(SEEK, moved).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_gone)) => Err("a member failed before it had moved its partitions".into()),
        Err(_late) => Err(format!("a member did not move its partitions within {SEEK:?}")),
    }
}

/// A member that is joined again when it fails.
struct Supervised {
    shared: Arc<Shared>,
    broker: Arc<dyn Broker>,
    index: u32,
    status: watch::Sender<MemberStatus>,
    orders: mpsc::Receiver<Order>,
}

impl Supervised {
    async fn keep_running(mut self, mut wishes: watch::Receiver<Wish>) {
        let mut wait = FIRST_WAIT;
        while wishes.borrow_and_update().leave.is_none() {
            let began = Instant::now();
            let End::Failed(reason) = self.run_once(wishes.clone()).await else { return };
            if began.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            tracing::warn!(
                group = %self.shared.group.id, member = self.index, %reason, again_in = ?wait,
                "A member could not go on; it joins again."
            );
            self.status.send_replace(MemberStatus {
                state: MemberState::Failed,
                trouble: Some(reason),
                ..joining()
            });
            let leave = wishes.wait_for(|wish| wish.leave.is_some());
            if tokio::time::timeout(wait, leave).await.is_ok() {
                return;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn run_once(&mut self, wishes: watch::Receiver<Wish>) -> End {
        let group = &self.shared.group;
        let spec = MemberSpec {
            group: group.id.clone(),
            topics: group.topics.clone(),
            start: group.start,
            index: self.index,
            instance_id: group.instance_id.as_ref().map(|id| format!("{id}-{}", self.index)),
        };
        match self.broker.join(spec) {
            Ok(member) => {
                let engine =
                    Engine::new(self.shared.clone(), member.commands.clone(), self.status.clone());
                engine.run(member, wishes, &mut self.orders).await
            }
            Err(error) => End::Failed(error.to_string()),
        }
    }
}

fn joining() -> MemberStatus {
    MemberStatus {
        id: None,
        state: MemberState::Joining,
        trouble: None,
        partitions: Vec::new(),
        hottest: Vec::new(),
    }
}
