//! The member's loop against a scripted driver, a scripted handler and a broker that remembers.

mod figures;
mod flow;
mod memory;
mod offset_map;
mod parking;
mod steering;
mod together;
mod transacting;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};

use self::memory::Memory;
use super::{End, Engine, Order, Shared, Wish};
use crate::{
    broker::{
        Assigned, Command, CommitError, Committed, Member, MemberDriver, MemberEvent, OffsetCommit,
        ProduceError,
    },
    config::{self, Allow, Group, Isolation, Limits, OnReject, Ordering, PluginUse, Retry, Start},
    dispatch::{
        Counters, Scope,
        flow::size,
        output::Output,
        status::{MemberState, MemberStatus},
    },
    handler::{Beginnings, Delivery, Generation, Handler, Outcome, RunReport, RunReports},
    produce::Producer,
    record::{NewRecord, Record, TopicPartition},
};

/// How long a test waits for what must come.
const SOON: Duration = Duration::from_secs(20);

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
struct Rig {
    driver: MemberDriver,
    wish: watch::Sender<Wish>,
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<MemberStatus>,
    calls: Arc<Mutex<Vec<(u64, u32)>>>,
    widths: Arc<Mutex<Vec<usize>>>,
    broker: Arc<Memory>,
    shared: Arc<Shared>,
    task: JoinHandle<End>,
}

fn group(ordering: Ordering, on_reject: OnReject) -> Group {
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
    fn new(
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
            output: Output::new(broker.clone(), producer, group.clone()),
            group,
            handler: Arc::new(handler),
            counters: Counters::default(),
            beginnings: Beginnings::default(),
        });
        let engine = Engine::new(shared.clone(), member.commands.clone(), status);
        let (orders, mut waiting) = mpsc::channel(4);
        let task = tokio::spawn(async move { engine.run(member, wishes, &mut waiting).await });
        Self { driver, wish, orders, status: shown, calls, widths, broker, shared, task }
    }

    async fn assign(&self, partition: u32, committed: Option<u64>) {
        let committed = committed.map(|offset| Committed { offset, metadata: String::new() });
        let partitions = vec![Assigned { partition: at(partition), committed }];
        self.send(MemberEvent::Assigned { member_id: "m".into(), partitions }).await;
    }

    async fn records(&self, partition: u32, offsets: std::ops::Range<u64>) {
        let records = offsets.map(|offset| record(partition, offset, None)).collect();
        self.send(MemberEvent::Records(records)).await;
    }

    async fn send(&self, event: MemberEvent) {
        timeout(SOON, self.driver.events.send(event))
            .await
            .expect("the member takes events")
            .unwrap();
    }

    async fn command(&mut self) -> Command {
        timeout(SOON, self.driver.commands.recv()).await.expect("a command comes").unwrap()
    }

    /// Answers the next command, which must be a commit.
    async fn commit(&mut self, answer: Result<(), CommitError>) -> Vec<OffsetCommit> {
        match self.command().await {
            Command::Commit { offsets, done } => {
                done.send(answer).unwrap();
                offsets
            }
            other => panic!("a commit was expected, not {other:?}"),
        }
    }

    /// The next command, which must be a commit, and who waits for its answer.
    async fn unanswered_commit(
        &mut self,
    ) -> (Vec<OffsetCommit>, oneshot::Sender<Result<(), CommitError>>) {
        match self.command().await {
            Command::Commit { offsets, done } => (offsets, done),
            other => panic!("a commit was expected, not {other:?}"),
        }
    }

    /// Answers commits until partition 0 is committed at `offset`.
    async fn committed(&mut self, offset: u64) {
        loop {
            let last = self.commit(Ok(())).await.pop().unwrap().committed.offset;
            assert!(last <= offset, "committed {last}, past {offset}");
            if last == offset {
                return;
            }
        }
    }

    fn calls(&self) -> Vec<(u64, u32)> {
        self.calls.lock().unwrap().clone()
    }

    async fn leave(&mut self) {
        self.wish.send_modify(|wish| wish.leave = Some(Instant::now() + SOON));
    }

    async fn until(&mut self, wanted: impl Fn(&MemberStatus) -> bool) {
        timeout(SOON, self.status.wait_for(wanted)).await.expect("the status comes").unwrap();
    }
}

fn at(partition: u32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn record(partition: u32, offset: u64, key: Option<&'static str>) -> Record {
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

fn handled() -> BoxFuture<'static, Outcome> {
    Box::pin(async { Outcome::Handled(Vec::new()) })
}

fn rejected() -> BoxFuture<'static, Outcome> {
    Box::pin(async { Outcome::Reject { reason: "poison".into() } })
}

#[tokio::test]
async fn records_are_handled_in_order_and_then_committed() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(5)).await;
    rig.records(0, 5..500).await;
    rig.committed(500).await;
    assert_eq!(rig.calls(), (5..500).map(|offset| (offset, 1)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_record_that_was_received_before_is_not_handled_again() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(5)).await;
    rig.records(0, 5..8).await;
    rig.records(0, 3..9).await;
    rig.committed(9).await;
    assert_eq!(rig.calls().len(), 4);
}

#[tokio::test]
async fn a_log_that_ends_below_the_committed_offset_is_handled_from_where_it_begins() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(100)).await; // the topic was made anew since
    rig.records(0, 0..3).await;
    rig.committed(3).await;
    assert_eq!(rig.calls(), [(0, 1), (1, 1), (2, 1)]);
}

#[tokio::test]
async fn a_retry_holds_its_lane_and_no_other() {
    let mut rig = Rig::new(group(Ordering::Key, OnReject::DeadLetter), |delivery| {
        Box::pin(async move {
            match (delivery.record.offset, delivery.attempt) {
                (0, 1) => Outcome::Retry {
                    reason: "later".into(),
                    after: Some(Duration::from_millis(300)),
                },
                _ => Outcome::Handled(Vec::new()),
            }
        })
    });
    rig.assign(0, None).await;
    let keys = ["a", "a", "b", "b"];
    let records = keys.iter().zip(0..).map(|(key, offset)| record(0, offset, Some(key))).collect();
    rig.send(MemberEvent::Records(records)).await;
    rig.committed(4).await;
    let calls = rig.calls();
    let place = |call| calls.iter().position(|other| *other == call).unwrap();
    assert!(place((0, 1)) < place((0, 2)) && place((0, 2)) < place((1, 1)), "{calls:?}");
    assert!(place((2, 1)) < place((3, 1)) && place((3, 1)) < place((0, 2)), "{calls:?}");
}

#[tokio::test]
async fn a_record_out_of_attempts_becomes_a_dead_letter_before_its_offset_is_committed() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |delivery| {
        Box::pin(async move {
            match delivery.record.offset {
                1 => Outcome::Retry { reason: "no luck".into(), after: None },
                _ => Outcome::Handled(Vec::new()),
            }
        })
    });
    *rig.broker.trouble.lock().unwrap() = 1;
    rig.assign(0, None).await;
    rig.records(0, 0..3).await;
    rig.committed(3).await;
    assert_eq!(rig.calls(), [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]);
    let produced = rig.broker.produced.lock().unwrap().clone();
    let [letter] = &produced[..] else { panic!("one dead letter was expected, not {produced:?}") };
    assert_eq!((&*letter.topic, letter.partition), ("t.dead-letters", Some(0)));
    let header = |name: &str| {
        let header = letter.headers.iter().find(|header| header.key == name).unwrap();
        String::from_utf8(header.value.clone().unwrap().to_vec()).unwrap()
    };
    assert_eq!(header("keyway.source"), "t/0@1");
    assert_eq!(header("keyway.group"), "g");
    assert_eq!(header("keyway.attempts"), "3");
    assert_eq!(header("keyway.reason"), "no luck");
    assert_eq!(header("keyway.handler"), "scripted@010101010101");
    assert!(humantime::parse_rfc3339(&header("keyway.rejected-at")).is_ok());
}

#[tokio::test]
async fn a_record_whose_letter_is_refused_stops_its_partition_and_is_given_up_on_when_it_is_resumed()
 {
    for on_reject in [OnReject::DeadLetter, OnReject::Park] {
        let mut rig = Rig::new(group(Ordering::Key, on_reject), |delivery| {
            if delivery.record.offset == 1 { rejected() } else { handled() }
        });
        rig.assign(0, Some(0)).await;
        let large: bytes::Bytes = vec![0; 1 << 20].into();
        let value = |offset, size| Record {
            value: Some(large.slice(..size)),
            ..record(0, offset, Some("a"))
        };
        rig.send(MemberEvent::Records(vec![value(0, 1), value(1, 1 << 20), value(2, 1)])).await;
        rig.until(|status| {
            let stopped = status.partitions.first().and_then(|it| it.stopped.as_deref());
            stopped.is_some_and(|why| why.contains("offset 1") && why.contains("1048576"))
        })
        .await;
        // As if the topic took more now.
        rig.orders.send(Order::Restart(Scope::Group)).await.unwrap();
        let resumed = async {
            loop {
                match rig.driver.commands.recv().await.unwrap() {
                    Command::Commit { offsets, done } => {
                        assert_eq!(offsets[0].committed.offset, 1, "not past what is nowhere");
                        done.send(Ok(())).unwrap();
                    }
                    Command::Seek { offset, .. } => assert_eq!(offset, 1),
                    Command::Resume(_) => return,
                    _ => {}
                }
            }
        };
        timeout(SOON, resumed).await.unwrap();
        rig.send(MemberEvent::Sought { partition: at(0), offset: 1 }).await;
        rig.send(MemberEvent::Records(vec![value(1, 1), value(2, 1)])).await;
        rig.committed(3).await;
        let topic = if on_reject == OnReject::Park { "g.parked" } else { "t.dead-letters" };
        assert_eq!(rig.broker.kept(topic)[0].value, Some(large.slice(..1)));
    }
}

#[tokio::test]
async fn an_output_that_is_refused_fails_its_record_and_those_behind_wait_for_it() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::Drop), |delivery| {
        Box::pin(async move {
            let topic = if delivery.record.offset == 1 { "refused" } else { "out" };
            Outcome::Handled(vec![NewRecord::new(topic, "v")])
        })
    });
    rig.assign(0, None).await;
    rig.records(0, 0..3).await;
    rig.committed(3).await;
    assert_eq!(rig.calls().iter().filter(|(offset, _)| *offset == 1).count(), 3);
    assert_eq!(rig.calls().last(), Some(&(2, 1)), "the record behind is handled after it");
    assert_eq!(rig.shared.counters.dropped.get(), 1);
}

#[tokio::test]
async fn an_output_that_meets_trouble_is_written_once_it_passes() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::Drop), |_| {
        Box::pin(async { Outcome::Handled(vec![NewRecord::new("out", "v")]) })
    });
    *rig.broker.trouble.lock().unwrap() = 2;
    rig.assign(0, None).await;
    rig.records(0, 0..1).await;
    rig.committed(1).await;
    assert_eq!(rig.broker.produced.lock().unwrap().len(), 1);
    assert_eq!(rig.calls(), [(0, 1)]);
}

#[tokio::test]
async fn a_partition_that_stops_goes_on_from_that_record_when_it_is_resumed() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::Stop), |delivery| {
        if delivery.record.offset == 1 && delivery.attempt == 1 { rejected() } else { handled() }
    });
    rig.assign(0, None).await;
    rig.records(0, 0..3).await;
    assert!(matches!(rig.command().await, Command::Pause(partitions) if partitions == [at(0)]));
    rig.until(|status| status.partitions.iter().any(|partition| partition.stopped.is_some())).await;
    rig.committed(1).await;
    rig.orders.send(Order::Restart(Scope::Group)).await.unwrap();
    assert!(matches!(rig.command().await, Command::Seek { offset: 1, .. }));
    assert!(matches!(rig.command().await, Command::Resume(_)));
    rig.records(0, 3..5).await;
    rig.send(MemberEvent::Sought { partition: at(0), offset: 1 }).await;
    let calls = rig.calls().len();
    assert_eq!(calls, 2, "records from before the seek are not handled");
    rig.records(0, 2..4).await;
    rig.committed(4).await;
}

#[tokio::test]
async fn a_revoked_partition_is_finished_committed_and_only_then_released() {
    let (began, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (began_too, proceed_too) = (began.clone(), proceed.clone());
    let mut rig = Rig::new(group(Ordering::None, OnReject::DeadLetter), move |_| {
        let (began, proceed) = (began_too.clone(), proceed_too.clone());
        Box::pin(async move {
            began.notify_one();
            proceed.notified().await;
            Outcome::Handled(Vec::new())
        })
    });
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..1).await;
    began.notified().await;
    rig.send(MemberEvent::Revoking(vec![at(0)])).await;
    rig.records(0, 1..5).await;
    rig.until(|status| status.state == MemberState::Rebalancing).await;
    assert!(
        rig.driver.commands.try_recv().is_err(),
        "nothing is released while a record is in flight"
    );
    proceed.notify_one();
    assert_eq!(rig.commit(Ok(())).await[0].committed.offset, 1);
    assert!(matches!(rig.command().await, Command::Release(partitions) if partitions == [at(0)]));
    assert_eq!(rig.calls(), [(0, 1)]);
}

#[tokio::test]
async fn a_partition_that_is_being_released_is_not_committed_and_released_again_when_the_member_leaves()
 {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(0)).await;
    rig.assign(1, Some(0)).await;
    rig.records(0, 0..1).await;
    rig.records(1, 0..1).await;
    while rig.calls().len() < 2 {
        tokio::task::yield_now().await;
    }
    rig.send(MemberEvent::Revoking(vec![at(0)])).await;
    let mut unanswered = Vec::new();
    let only =
        |offsets: &[OffsetCommit], number| offsets.iter().all(|it| it.partition == at(number));
    loop {
        let (offsets, done) = rig.unanswered_commit().await;
        unanswered.push(done);
        if only(&offsets, 0) {
            break; // its last one; others are of both
        }
    }
    rig.leave().await;
    let (rest, done) = rig.unanswered_commit().await;
    assert!(only(&rest, 1), "{rest:?}");
    unanswered.push(done);
    unanswered.into_iter().for_each(|done| done.send(Ok(())).unwrap());
    let mut released = Vec::new();
    loop {
        match rig.command().await {
            Command::Release(names) => released.extend(names),
            Command::Leave => break,
            other => panic!("{other:?}"),
        }
    }
    released.sort_unstable();
    assert_eq!(released, [at(0), at(1)]);
}

#[tokio::test]
async fn a_lost_partition_is_not_committed() {
    let (began, proceed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (began_too, proceed_too) = (began.clone(), proceed.clone());
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), move |delivery| {
        let (began, proceed) = (began_too.clone(), proceed_too.clone());
        Box::pin(async move {
            if delivery.record.partition == 0 {
                began.notify_one();
                proceed.notified().await;
            }
            Outcome::Handled(Vec::new())
        })
    });
    rig.assign(0, Some(0)).await;
    rig.assign(1, Some(0)).await;
    rig.records(0, 0..1).await;
    began.notified().await;
    rig.send(MemberEvent::Lost(vec![at(0)])).await;
    proceed.notify_one();
    rig.records(1, 0..1).await;
    let commits = rig.commit(Ok(())).await;
    assert_eq!(commits.iter().map(|commit| commit.partition.partition).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn a_commit_that_fails_is_tried_again() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, None).await;
    rig.records(0, 0..1).await;
    rig.commit(Err(CommitError::Unavailable("down".into()))).await;
    assert_eq!(rig.commit(Ok(())).await[0].committed.offset, 1);
}

#[tokio::test]
async fn leaving_finishes_what_is_in_flight_and_commits_it() {
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), |_| handled());
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..10).await;
    rig.until(|status| status.state == MemberState::Active).await;
    rig.leave().await;
    let mut committed = 0;
    loop {
        match rig.command().await {
            Command::Commit { offsets, done } => {
                committed = offsets[0].committed.offset;
                done.send(Ok(())).unwrap();
            }
            Command::Release(_) => {}
            Command::Leave => break,
            other => panic!("not while leaving: {other:?}"),
        }
    }
    assert_eq!(committed as usize, rig.calls().len());
    let Rig { driver, task, .. } = rig;
    drop(driver);
    assert_eq!(task.await.unwrap(), End::Left);
}

#[tokio::test]
async fn a_member_that_leaves_cuts_off_a_handler_that_does_not_end() {
    let began = Arc::new(Notify::new());
    let began_too = began.clone();
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), move |_| {
        began_too.notify_one();
        Box::pin(std::future::pending())
    });
    rig.assign(0, None).await;
    rig.records(0, 0..1).await;
    began.notified().await;
    rig.wish.send_modify(|wish| wish.leave = Some(Instant::now()));
    assert!(matches!(rig.command().await, Command::Release(_)), "with nothing to commit");
    assert!(matches!(rig.command().await, Command::Leave));
}

#[tokio::test]
async fn a_handler_that_is_slow_makes_its_partition_pause_and_go_on_later() {
    let proceed = Arc::new(tokio::sync::Semaphore::new(0));
    let proceed_too = proceed.clone();
    let mut rig = Rig::new(group(Ordering::Partition, OnReject::DeadLetter), move |_| {
        let proceed = proceed_too.clone();
        Box::pin(async move {
            proceed.acquire().await.unwrap().forget();
            Outcome::Handled(Vec::new())
        })
    });
    rig.assign(0, Some(0)).await;
    rig.records(0, 0..3000).await;
    assert!(matches!(rig.command().await, Command::Pause(partitions) if partitions == [at(0)]));
    proceed.add_permits(3000);
    loop {
        match rig.command().await {
            Command::Resume(partitions) => break assert_eq!(partitions, [at(0)]),
            Command::Commit { done, .. } => done.send(Ok(())).unwrap(),
            other => panic!("unexpected: {other:?}"),
        }
    }
    rig.committed(3000).await;
}
