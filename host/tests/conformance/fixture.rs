//! What a broker under test gives the suite, and how one case is run on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use keyway::{
    broker::{Broker, TopicSpec},
    record::{NewRecord, TopicPartition},
};

/// How long a case waits for what must come. Generous: a real Kafka takes seconds to rebalance, and nothing waits
/// this long unless something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A broker under test.
#[async_trait]
pub(crate) trait Fixture: Send + Sync {
    /// The broker.
    fn broker(&self) -> Arc<dyn Broker>;

    /// The same broker as another process has it: a second connection, or the same one where the broker can be open
    /// in only one process.
    fn other(&self) -> Arc<dyn Broker>;

    /// Makes a topic that no other case uses, ready to be written to.
    async fn create_topic(&self, name: &str, partitions: u32) {
        let spec = TopicSpec {
            name: name.into(),
            partitions,
            replication_factor: Some(1),
            keep_forever: false,
        };
        self.broker().ensure_topic(&spec).await.unwrap();
    }

    /// The largest value, in bytes, that it takes as a whole record with its default settings.
    fn largest_value(&self) -> usize {
        1 << 20
    }

    /// Cases that this broker cannot run, each with the reason.
    fn cannot(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Ends what was started.
    async fn close(self: Box<Self>);
}

/// Runs one case on one fixture. A fixture that cannot be opened here returns `None`, having said why on one line.
pub(crate) async fn run(
    name: &str,
    open: impl AsyncFnOnce() -> Option<Box<dyn Fixture>>,
    case: impl AsyncFnOnce(&dyn Fixture),
) {
    let Some(fixture) = open().await else { return };
    if let Some((_, reason)) = fixture.cannot().iter().find(|(case, _)| *case == name) {
        skipped(name, reason);
    } else {
        case(&*fixture).await;
    }
    fixture.close().await;
}

/// Says on one line that a test did not run, and why.
#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn skipped(what: &str, reason: &str) {
    eprintln!("SKIPPED {what}: {reason}");
}

/// A name that nothing else uses, in this run or another, for topics and groups.
pub(crate) fn unique(prefix: &str) -> Arc<str> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{number}-{:08x}", std::process::id(), fastrand::u32(..)).into()
}

impl dyn Fixture + '_ {
    /// A fresh topic with this many partitions.
    pub(crate) async fn topic(&self, partitions: u32) -> Arc<str> {
        let name = unique("topic");
        self.create_topic(&name, partitions).await;
        name
    }

    /// A fresh group id.
    pub(crate) fn group(&self) -> Arc<str> {
        unique("group")
    }
}

/// Writes `count` records to a partition, and waits until they are there.
/// Tells the offset after the last.
pub(crate) async fn fill(broker: &Arc<dyn Broker>, partition: &TopicPartition, count: u64) -> u64 {
    let written: Vec<_> = (0..count)
        .map(|number| {
            let record = NewRecord::new(partition.topic.clone(), format!("{partition} {number}"));
            broker.produce(NewRecord { partition: Some(partition.partition), ..record })
        })
        .collect();
    let mut end = 0;
    for acknowledgement in written {
        end = acknowledgement.await.unwrap().offset + 1;
    }
    end
}

/// All partitions of a topic.
pub(crate) fn partitions(topic: &Arc<str>, count: u32) -> Vec<TopicPartition> {
    (0..count).map(|partition| TopicPartition::new(topic.clone(), partition)).collect()
}
