//! What the embedded broker promises beyond the conformance suite: whose file it opens, what it does with a damaged
//! one, and what is there after a crash, on a full disk and under retention.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod batches;
mod crash;
mod damage;
mod disk_full;
mod groups;
mod log;
mod model;
mod open;
mod retention;

use std::{
    future::Future,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use keyway::{
    broker::{Broker, Member, MemberEvent, TopicSpec, embedded::Embedded},
    config::Retention,
    record::{NewRecord, Record, TopicPartition},
};

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nothing ever goes.
const FOREVER: Retention = Retention { time: None, bytes: None };

fn open(directory: &Path) -> Embedded {
    Embedded::open(directory, FOREVER).unwrap()
}

async fn close(broker: Embedded) {
    broker.close(PATIENCE).await;
}

async fn create(broker: &Embedded, topic: &str, partitions: u32) -> Arc<str> {
    let name: Arc<str> = topic.into();
    let spec = TopicSpec {
        name: name.clone(),
        partitions,
        replication_factor: Some(1),
        keep_forever: false,
    };
    broker.ensure_topic(&spec).await.unwrap();
    name
}

/// Writes numbered records to one partition.
async fn fill(broker: &Embedded, partition: &TopicPartition, numbers: std::ops::Range<u64>) {
    let written: Vec<_> =
        numbers.map(|number| broker.produce(numbered(partition, number))).collect();
    for acknowledgement in written {
        acknowledgement.await.unwrap();
    }
}

fn numbered(partition: &TopicPartition, number: u64) -> NewRecord {
    let value = format!("{partition} number {number:06}");
    let record = NewRecord::new(partition.topic.clone(), value);
    NewRecord { partition: Some(partition.partition), ..record }
}

/// Everything in a partition from `offset` on.
async fn all(broker: &Embedded, partition: &TopicPartition, mut offset: u64) -> Vec<Record> {
    let mut all = Vec::new();
    loop {
        let records = broker.records(partition, offset, 10_000).await.unwrap();
        let Some(last) = records.last() else { return all };
        offset = last.offset + 1;
        all.extend(records);
    }
}

/// Waits until a member has been given its partitions.
async fn assigned(member: &mut Member) {
    loop {
        let event = member.events.recv().await.expect("the member goes on");
        if matches!(event, MemberEvent::Assigned { .. }) {
            return;
        }
    }
}

/// Waits until `condition` holds.
async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
