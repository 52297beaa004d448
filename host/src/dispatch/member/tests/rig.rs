//! A member whose driver, handler and broker are in the test's hands.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    super::{End, Engine, Order, Shared, Wish},
    memory::Memory,
};
use crate::{
    broker::{
        Assigned, Command, CommitError, Committed, Member, MemberDriver, MemberEvent, OffsetCommit,
    },
    config::{self, Allow, Group, Isolation, Limits, OnReject, Ordering, PluginUse, Retry, Start},
    dispatch::{
        Counters,
        flow::size,
        output::Output,
        status::{MemberState, MemberStatus},
    },
    handler::{Beginnings, Delivery, Generation, Handler, Outcome, RunReport, RunReports},
    produce::Producer,
    record::{Record, TopicPartition},
};

/// How long a test waits for what must come.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// What a handler makes of a record, after waiting if it likes.
type Script = Arc<dyn Fn(Delivery) -> BoxFuture<'static, Outcome> + Send + Sync>;

struct ScriptedHandler {
    script: Script,
    /// Offset and attempt of every call, in the order they began.
    calls: Arc<Mutex<Vec<(u64, u32)>>>,
    /// How many lanes were handed over together, each time.
    widths: Arc<Mutex<Vec<usize>>>,
}

impl Handler for ScriptedHandler {
    fn handle(&self, run: Vec<Delivery>) -> BoxFuture<'static, RunReport> {
        let (script, calls, generation) =
            (self.script.clone(), self.calls.clone(), self.generation());
        Box::pin(async move {
            let mut outcomes = Vec::new();
            for delivery in &run {
                calls.lock().unwrap().push((delivery.record.offset, delivery.attempt));
                outcomes.push(script(delivery.clone()).await);
                if !matches!(outcomes.last(), Some(Outcome::Handled(_))) {
                    break;
                }
            }
            RunReport { generation, on_trial: false, deliveries: run, outcomes }
        })
    }

    /// As plugins do: one that has to wait comes back by itself, and so do the others when much was emitted.
    fn handle_runs(&self, runs: Vec<Vec<Delivery>>) -> BoxFuture<'static, RunReports> {
        let generation = self.generation();
        self.widths.lock().unwrap().push(runs.len());
        let runs: Vec<_> = runs.into_iter().map(|run| (run.clone(), self.handle(run))).collect();
        Box::pin(async move {
            let (mut over, mut waiting, mut quick, mut emitted) = (Vec::new(), None, 0, 0);
            for (place, (run, mut report)) in runs.into_iter().enumerate() {
                if waiting.is_some() || emitted >= 1 << 20 {
                    over.push(RunReport::not_begun(generation.clone(), run));
                    continue;
                }
                match (&mut report).now_or_never() {
                    None => waiting = Some((place, report)),
                    Some(report) => {
                        emitted += size(&report);
                        over.push(report);
                        quick += 1;
                    }
                }
            }
            RunReports { over, waiting, quick }
        })
    }

    fn generation(&self) -> Generation {
        Generation { plugin: "scripted".into(), digest: [1; 32] }
    }
}

/// A running member, and everything around it in the test's hands.
pub(super) struct Rig {
    pub(super) driver: MemberDriver,
    pub(super) wish: watch::Sender<Wish>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) status: watch::Receiver<MemberStatus>,
    pub(super) calls: Arc<Mutex<Vec<(u64, u32)>>>,
    pub(super) widths: Arc<Mutex<Vec<usize>>>,
    pub(super) broker: Arc<Memory>,
    pub(super) producer: Producer,
    pub(super) shared: Arc<Shared>,
    pub(super) task: JoinHandle<End>,
}

pub(super) fn group(ordering: Ordering, on_reject: OnReject) -> Group {
    Group {
        id: "g".into(),
        topics: vec!["t".into()],
        consumers: 1,
        canary: None,
        shadow: None,
        handler: PluginUse {
            plugin: "scripted".into(),
            config: Default::default(),
            limits: Limits::default(),
            allow: Allow::default(),
        },
        output_topic: None,
        ordering,
        start: Start::Earliest,
        max_in_flight: 64,
        drain: Duration::from_secs(20),
        retry: Retry {
            attempts: 3,
            backoff: Duration::from_millis(1),
            max_backoff: Duration::from_millis(2),
        },
        on_reject,
        dead_letter_topic: None,
        isolation: Isolation::None,
        delivery: config::Delivery::AtLeastOnce,
        instance_id: None,
    }
}

impl Rig {
    pub(super) fn new(
        group: Group,
        script: impl Fn(Delivery) -> BoxFuture<'static, Outcome> + Send + Sync + 'static,
    ) -> Self {
        let (member, driver) = Member::pair();
        let (wish, wishes) = watch::channel(Wish::default());
        let (status, shown) = watch::channel(MemberStatus {
            id: None,
            state: MemberState::Joining,
            trouble: None,
            partitions: Vec::new(),
            hottest: Vec::new(),
        });
        let calls = Arc::<Mutex<Vec<_>>>::default();
        let widths = Arc::<Mutex<Vec<_>>>::default();
        let handler = ScriptedHandler {
            script: Arc::new(script),
            calls: calls.clone(),
            widths: widths.clone(),
        };
        let broker = Arc::new(Memory::default());
        let group = Arc::new(group);
        let producer = Producer::new(broker.clone(), Default::default());
        let shared = Arc::new(Shared {
            output: Output::new(broker.clone(), producer.clone(), group.clone()),
            group,
            handler: Arc::new(handler),
            counters: Counters::default(),
            beginnings: Beginnings::default(),
        });
        let engine = Engine::new(shared.clone(), member.commands.clone(), status);
        let (orders, mut waiting) = mpsc::channel(4);
        let task = tokio::spawn(async move { engine.run(member, wishes, &mut waiting).await });
        Self { driver, wish, orders, status: shown, calls, widths, broker, producer, shared, task }
    }

    pub(super) async fn assign(&self, partition: u32, committed: Option<u64>) {
        let committed = committed.map(|offset| Committed { offset, metadata: String::new() });
        let partitions = vec![Assigned { partition: at(partition), committed }];
        self.send(MemberEvent::Assigned { member_id: "m".into(), partitions }).await;
    }

    pub(super) async fn records(&self, partition: u32, offsets: std::ops::Range<u64>) {
        let records = offsets.map(|offset| record(partition, offset, None)).collect();
        self.send(MemberEvent::Records(records)).await;
    }

    pub(super) async fn send(&self, event: MemberEvent) {
        timeout(SOON, self.driver.events.send(event))
            .await
            .expect("the member takes events")
            .unwrap();
    }

    pub(super) async fn command(&mut self) -> Command {
        timeout(SOON, self.driver.commands.recv()).await.expect("a command comes").unwrap()
    }

    /// Answers the next command, which must be a commit.
    pub(super) async fn commit(&mut self, answer: Result<(), CommitError>) -> Vec<OffsetCommit> {
        match self.command().await {
            Command::Commit { offsets, done } => {
                done.send(answer).unwrap();
                offsets
            }
            other => panic!("a commit was expected, not {other:?}"),
        }
    }

    /// The next command, which must be a commit, and who waits for its answer.
    pub(super) async fn unanswered_commit(
        &mut self,
    ) -> (Vec<OffsetCommit>, oneshot::Sender<Result<(), CommitError>>) {
        match self.command().await {
            Command::Commit { offsets, done } => (offsets, done),
            other => panic!("a commit was expected, not {other:?}"),
        }
    }

    /// Answers commits until partition 0 is committed at `offset`.
    pub(super) async fn committed(&mut self, offset: u64) {
        loop {
            let last = self.commit(Ok(())).await.pop().unwrap().committed.offset;
            assert!(last <= offset, "committed {last}, past {offset}");
            if last == offset {
                return;
            }
        }
    }

    pub(super) fn calls(&self) -> Vec<(u64, u32)> {
        self.calls.lock().unwrap().clone()
    }

    /// Waits until so many records have been given to the handler.
    pub(super) async fn called(&self, count: usize) {
        let called = async {
            while self.calls().len() < count {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, called).await.expect("the handler is called");
    }

    pub(super) async fn leave(&mut self) {
        self.wish.send_modify(|wish| wish.leave = Some(Instant::now() + SOON));
    }

    pub(super) async fn until(&mut self, wanted: impl Fn(&MemberStatus) -> bool) {
        timeout(SOON, self.status.wait_for(wanted)).await.expect("the status comes").unwrap();
    }
}

pub(super) fn at(partition: u32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

pub(super) fn record(partition: u32, offset: u64, key: Option<&'static str>) -> Record {
    Record {
        topic: "t".into(),
        partition,
        offset,
        timestamp: Some(7),
        key: key.map(|key| key.into()),
        value: Some("v".into()),
        headers: Vec::new(),
    }
}

pub(super) fn handled() -> BoxFuture<'static, Outcome> {
    Box::pin(async { Outcome::Handled(Vec::new()) })
}

pub(super) fn rejected() -> BoxFuture<'static, Outcome> {
    Box::pin(async { Outcome::Reject { reason: "poison".into() } })
}
