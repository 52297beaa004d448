//! A member that is cut off from its group for longer than its session, and comes back.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use keyway::{
    broker::{Broker, kafka::Kafka},
    record::{NewRecord, TopicPartition},
};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    gateway::{Gateway, wait_until, working_directory},
    kafka::{self, Kind},
    plugins,
};

const SESSION: Duration = Duration::from_secs(6);

#[test]
fn a_process_that_stood_still_for_longer_than_its_session_commits_nothing_and_joins_again() {
    let Some(kafka) = kafka::shared(Kind::Kraft) else { return };
    let topic = format!("cut-off-{}-{:08x}", std::process::id(), fastrand::u32(..));
    let directory = working_directory(&format!(
        r#"
[broker]
kind = "kafka"
bootstrap-servers = "{kafka}"
properties = {{ "session.timeout.ms" = {}, "heartbeat.interval.ms" = 500 }}
[[topics]]
name = "{topic}"
partitions = 4
[[groups]]
id = "{topic}"
topics = ["{topic}"]
handler = {{ plugin = "uppercase" }}
output-topic = "{topic}-out"
ordering = "none"
"#,
        SESSION.as_millis()
    ));
    plugins::install("uppercase", &directory.path().join("plugins"), "uppercase");
    let start = || Gateway::start(directory.path(), &["run", "--only", "groups"], &[]);
    let (one, other) = (start(), start());
    let has = |gateway: &Gateway, partitions: usize| {
        wait_until(&format!("a member reads {partitions}"), || {
            let (_, group) = gateway.get(&format!("/api/v1/groups/{topic}"));
            let ours = format!(":{}", gateway.id());
            let is_ours = |member: &&Value| {
                member["process"].as_str().is_some_and(|process| process.ends_with(&ours))
            };
            let member = group["members"].as_array().into_iter().flatten().find(is_ours).cloned();
            let reads = member.map_or(0, |it| it["partitions"].as_array().map_or(0, Vec::len));
            if reads == partitions { Ok(()) } else { Err(format!("{group:#}\n{}", gateway.tail())) }
        });
    };
    has(&one, 2);
    has(&other, 2);

    let runtime = Runtime::new().unwrap();
    let broker = runtime.block_on(async { Kafka::connect(kafka, &BTreeMap::new()).unwrap() });
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopping = Stopping(&stop);
        let writing = scope.spawn(|| runtime.block_on(write(&broker, &topic, &stop)));
        let watching = scope.spawn(|| runtime.block_on(watch(&broker, &topic, &stop)));
        goes_ahead(&runtime, &broker, &topic); // so records are in its hands
        one.signal("STOP");
        has(&other, 4);
        goes_ahead(&runtime, &broker, &topic); // the other does, of what it had
        one.signal("CONT");
        has(&one, 2);
        has(&other, 2);
        drop(stopping);
        let written = writing.join().unwrap();
        watching.join().unwrap();
        wait_until("all is committed", || {
            let committed = runtime.block_on(committed(&broker, &topic));
            let is_done = written.iter().all(|(at, count)| committed.get(at) == Some(count));
            is_done.then_some(()).ok_or_else(|| format!("{committed:?} of {written:?}"))
        });
    });
    assert!(one.said("A partition was given up"), "{}", one.tail());
}

/// Has those that write and watch stop when it is dropped, as when a wait ends in a panic.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Waits until more is committed of every partition.
fn goes_ahead(runtime: &Runtime, broker: &Kafka, group: &str) {
    let before = runtime.block_on(committed(broker, group));
    wait_until("more is committed of every partition", || {
        let now = runtime.block_on(committed(broker, group));
        let more = now.iter().filter(|(at, offset)| Some(*offset) > before.get(*at)).count();
        if more == 4 { Ok(()) } else { Err(format!("{now:?} after {before:?}")) }
    });
}

async fn committed(broker: &Kafka, group: &str) -> HashMap<TopicPartition, u64> {
    let info = broker.group(group).await.unwrap();
    info.committed.into_iter().map(|(at, committed)| (at, committed.offset)).collect()
}

/// Sees that no committed offset ever goes back.
async fn watch(broker: &Kafka, group: &str, stop: &AtomicBool) {
    let mut seen: HashMap<TopicPartition, u64> = HashMap::new();
    while !stop.load(Relaxed) {
        for (at, offset) in committed(broker, group).await {
            let last = seen.insert(at.clone(), offset).unwrap_or(0);
            assert!(offset >= last, "{at} went back from {last} to {offset}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!seen.is_empty());
}

/// Writes records until it is told to stop; how many there are of each partition.
async fn write(broker: &Kafka, topic: &str, stop: &AtomicBool) -> HashMap<TopicPartition, u64> {
    let (mut written, began) = (HashMap::new(), Instant::now());
    while !stop.load(Relaxed) {
        for partition in 0..4 {
            let at = TopicPartition::new(topic, partition);
            let record = NewRecord { partition: Some(partition), ..NewRecord::new(topic, "v") };
            let produced = broker.produce(record).await.unwrap();
            written.insert(at, produced.offset + 1);
        }
        assert!(began.elapsed() < Duration::from_secs(240), "it never ends");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    written
}
