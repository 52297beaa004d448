//! Groups on a real Kafka that go from the one to the other while some of their records are stuck.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use keyway::{
    broker::{Broker, Committed, TopicSpec, kafka::Kafka},
    config::{self, Config},
    dispatch::Group,
    handler::{Delivery, Generation, Handler, Outcome, RunReport},
    produce::Producer,
    record::NewRecord,
};

use crate::{java::Java, support};

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: u32 = 2;
/// Records of each partition when the first begins, and when the second does.
const FIRST: u64 = 200;
const ALL: u64 = 250;
const KEYS: u64 = 20;
/// Their records are never done with by whoever begins.
const BLOCKED: [&str; 2] = ["key-3", "key-11"];
const FAILING: &str = "key-5";

/// A record by partition and offset.
type Place = (u32, u64);

/// The key of a record.
fn key((partition, offset): Place) -> String {
    format!("key-{}", (offset + u64::from(partition)) % KEYS)
}

fn is_stuck(key: &str) -> bool {
    BLOCKED.contains(&key) || key == FAILING
}

fn places(end: u64) -> impl Iterator<Item = Place> {
    (0..PARTITIONS).flat_map(move |partition| (0..end).map(move |offset| (partition, offset)))
}

/// What whoever begins can get done, and what is left for the other.
fn shares() -> (Vec<Place>, Vec<Place>) {
    places(ALL).partition(|place| place.1 < FIRST && !is_stuck(&key(*place)))
}

/// One group and its topic.
struct Stage {
    address: &'static str,
    classes: &'static str,
    broker: Arc<Kafka>,
    name: Arc<str>,
}

impl Stage {
    /// `None`: the test is to be skipped.
    async fn set() -> Option<Self> {
        let found = tokio::task::spawn_blocking(|| {
            Some((support::shared(support::Kind::Kraft)?, support::parallel_consumer()?))
        });
        let (address, classes) = found.await.unwrap()?;
        let broker = Arc::new(Kafka::connect(address, &BTreeMap::new()).unwrap());
        let name: Arc<str> =
            format!("interop-{}-{:016x}", std::process::id(), fastrand::u64(..)).into();
        let spec = TopicSpec {
            name: name.clone(),
            partitions: PARTITIONS,
            replication_factor: Some(1),
            keep_forever: false,
        };
        broker.ensure_topic(&spec).await.unwrap();
        let stage = Self { address, classes, broker, name };
        stage.write(0, FIRST).await;
        Some(stage)
    }

    async fn write(&self, start: u64, end: u64) {
        let records = places(end).filter(|place| place.1 >= start).map(|place| NewRecord {
            partition: Some(place.0),
            key: Some(key(place).into()),
            ..NewRecord::new(self.name.clone(), "value")
        });
        let written: Vec<_> = records.map(|record| self.broker.produce(record)).collect();
        for acknowledgement in written {
            acknowledgement.await.unwrap();
        }
    }

    fn parallel_consumer(&self, stuck: &[&str]) -> Java {
        let arguments = [&[self.address, &*self.name, &*self.name], stuck].concat();
        Java::start(self.classes, "Member.java", &arguments, None)
    }

    fn keyway(&self, handler: &Arc<Remembering>) -> Group {
        let producer = Producer::new(self.broker.clone(), Default::default());
        Group::start(
            Arc::new(configuration(&self.name)),
            self.broker.clone(),
            producer,
            handler.clone(),
            Arc::default(), // nothing is paused
        )
    }

    async fn committed(&self) -> Vec<Committed> {
        let mut group = self.broker.group(&self.name).await.unwrap();
        group.committed.sort_by_key(|(partition, _)| partition.partition);
        group.committed.into_iter().map(|(_, committed)| committed).collect()
    }

    /// Waits until all of the topic is committed.
    async fn until_done(&self, why_not: impl Fn() -> String) {
        let done = vec![Committed { offset: ALL, metadata: String::new() }; PARTITIONS as usize];
        eventually(async || self.committed().await == done, why_not).await;
    }

    /// Fails unless every partition is committed at its first stuck record, and more with it.
    async fn check_stuck_commits(&self) {
        let committed = self.committed().await;
        let lowest = |partition| {
            let stuck = (0..).find(|offset| is_stuck(&key((partition, *offset))));
            stuck.unwrap()
        };
        let offsets: Vec<_> = committed.iter().map(|committed| committed.offset).collect();
        assert_eq!(offsets, (0..PARTITIONS).map(lowest).collect::<Vec<_>>());
        assert!(committed.iter().all(|committed| !committed.metadata.is_empty()), "{committed:?}");
    }
}

fn configuration(name: &str) -> config::Group {
    let text = format!(
        r#"
[[topics]]
name = "{name}"
[[groups]]
id = "{name}"
topics = ["{name}"]
handler = {{ plugin = "remembering" }}
ordering = "key"
start = "earliest"
retry = {{ attempts = 100000, backoff = "100ms", max-backoff = "100ms" }}
on-reject = "stop"
"#
    );
    let config = Config::parse(&text, "keyway.toml", Path::new(""), []).unwrap();
    config.groups.into_iter().next().unwrap()
}

/// Remembers what it has handled; when it is told so, it never gets done with the records that are stuck.
#[derive(Default)]
struct Remembering {
    gets_stuck: bool,
    handled: Arc<Mutex<Vec<Place>>>,
}

impl Remembering {
    fn handled(&self) -> Vec<Place> {
        let mut handled = self.handled.lock().unwrap().clone();
        handled.sort_unstable();
        handled
    }
}

impl Handler for Remembering {
    fn handle(&self, run: Vec<Delivery>) -> BoxFuture<'static, RunReport> {
        let (gets_stuck, handled) = (self.gets_stuck, self.handled.clone());
        let generation = self.generation();
        Box::pin(async move {
            let mut outcomes = Vec::new();
            for delivery in &run {
                let place = (delivery.record.partition, delivery.record.offset);
                let key = key(place);
                if gets_stuck && key == FAILING {
                    outcomes.push(Outcome::Retry { reason: "told to".into(), after: None });
                    break;
                }
                if gets_stuck && is_stuck(&key) {
                    std::future::pending::<()>().await;
                }
                handled.lock().unwrap().push(place);
                outcomes.push(Outcome::Handled(Vec::new()));
            }
            RunReport { generation, on_trial: false, deliveries: run, outcomes }
        })
    }

    fn generation(&self) -> Generation {
        Generation { plugin: "remembering".into(), digest: [1; 32] }
    }
}

/// What Parallel Consumer says that it has handled.
fn handled(lines: &[String]) -> Vec<Place> {
    let place = |line: &String| {
        let (partition, offset) = line.split_once(' ').unwrap();
        (partition.parse().unwrap(), offset.parse().unwrap())
    };
    let mut places: Vec<_> = lines.iter().map(place).collect();
    places.sort_unstable();
    places
}

async fn eventually(mut is_so: impl AsyncFnMut() -> bool, why_not: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {}", why_not());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keyway_handles_exactly_what_parallel_consumer_has_left() {
    let Some(stage) = Stage::set().await else { return };
    let (first, left) = shares();
    let member = stage.parallel_consumer(&[&BLOCKED.join(","), FAILING]);
    eventually(async || member.said().len() >= first.len(), || member.complaints()).await;
    assert_eq!(handled(&member.end()), first);
    stage.check_stuck_commits().await;

    stage.write(FIRST, ALL).await;
    let handler = Arc::<Remembering>::default();
    let group = stage.keyway(&handler);
    stage.until_done(|| format!("{:?}", group.status())).await;
    group.drain((Instant::now() + PATIENCE).into()).await;
    assert_eq!(handler.handled(), left);
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_consumer_handles_exactly_what_keyway_has_left() {
    let Some(stage) = Stage::set().await else { return };
    let (first, left) = shares();
    let handler = Arc::new(Remembering { gets_stuck: true, ..Remembering::default() });
    let group = stage.keyway(&handler);
    let is_through = || group.status().handled >= first.len() as u64;
    eventually(async || is_through(), || format!("{:?}", group.status())).await;
    group.drain((Instant::now() + Duration::from_millis(100)).into()).await;
    assert_eq!(handler.handled(), first);
    stage.check_stuck_commits().await;

    stage.write(FIRST, ALL).await;
    let member = stage.parallel_consumer(&[]);
    stage.until_done(|| member.complaints()).await;
    assert_eq!(handled(&member.end()), left);
}
