//! A group in this process: its members, each kept running, and what they are asked to do.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::{
    Counters,
    member::{End, Engine, Shared, Wish},
    output::Output,
    status::{GroupStatus, MemberState, MemberStatus},
};
use crate::{
    broker::{Broker, MemberSpec},
    config,
    handler::{Generation, Handler},
    produce::Producer,
};

/// The first wait before a member that failed joins again; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The members that this process runs of one group.
pub struct Group {
    shared: Arc<Shared>,
    wish: watch::Sender<Wish>,
    statuses: Vec<watch::Receiver<MemberStatus>>,
    members: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl Group {
    /// Starts the group's members. They join by themselves, and again whenever they fail. Must be called on a tokio
    /// runtime.
    pub fn start(
        group: Arc<config::Group>,
        broker: Arc<dyn Broker>,
        producer: Producer,
        handler: Arc<dyn Handler>,
    ) -> Self {
        let output = Output::new(broker.clone(), producer, group.clone());
        let shared = Arc::new(Shared { group, handler, output, counters: Counters::default() });
        let (wish, wishes) = watch::channel(Wish::default());
        let (statuses, members) = (0..shared.group.consumers)
            .map(|index| {
                let (status, shown) = watch::channel(joining());
                let member =
                    Supervised { shared: shared.clone(), broker: broker.clone(), index, status };
                (shown, tokio::spawn(member.keep_running(wishes.clone())))
            })
            .unzip();
        Self { shared, wish, statuses, members: tokio::sync::Mutex::new(members) }
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
            paused: self.wish.borrow().paused,
            members: self.statuses.iter().map(|status| status.borrow().clone()).collect(),
            dropped: counters.dropped.get(),
            dead_lettered: counters.dead_lettered.get(),
            parked: counters.parked.get(),
            handled: counters.handled.get(),
            retried: counters.retried.get(),
        }
    }

    /// Takes nothing new in until [`Group::resume`]; what is in flight ends as it would. Members stay members.
    pub fn pause(&self) {
        self.wish.send_modify(|wish| wish.paused = true);
    }

    /// Goes on after [`Group::pause`], and with partitions that stand still by the policy `stop`.
    pub fn resume(&self) {
        self.wish.send_modify(|wish| {
            wish.paused = false;
            wish.restarts += 1;
        });
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

/// A member that is joined again when it fails.
struct Supervised {
    shared: Arc<Shared>,
    broker: Arc<dyn Broker>,
    index: u32,
    status: watch::Sender<MemberStatus>,
}

impl Supervised {
    async fn keep_running(self, mut wishes: watch::Receiver<Wish>) {
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

    async fn run_once(&self, wishes: watch::Receiver<Wish>) -> End {
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
                engine.run(member, wishes).await
            }
            Err(error) => End::Failed(error.to_string()),
        }
    }
}

fn joining() -> MemberStatus {
    MemberStatus { id: None, state: MemberState::Joining, trouble: None, partitions: Vec::new() }
}
