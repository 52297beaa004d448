//! The least that reads a topic as a member of a group and commits: rdkafka with tuned fetch settings, one thread.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
};

use crate::error::Result;

/// How often it commits.
const COMMIT_EVERY: Duration = Duration::from_millis(200);

/// Reads `records` records and prints how many a second, from the first to the last.
pub(crate) fn consume(kafka: &str, topic: &str, group: &str, records: u64) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("fetch.queue.backoff.ms", "10") // the default of a second leaves the queue empty
        .set("queued.min.messages", "1000000")
        .set("fetch.message.max.bytes", "8388608")
        .set("check.crcs", "false")
        .create()?;
    consumer.subscribe(&[topic])?;
    let mut read = 0_u64;
    let mut begin = None;
    let mut committed_at = Instant::now();
    let mut positions = std::collections::HashMap::new();
    while read < records {
        let Some(message) = consumer.poll(Duration::from_secs(10)) else {
            if read == 0 {
                continue; // still joining
            }
            return Err(format!("only {read} of {records} records are there").into());
        };
        let message = message?;
        begin.get_or_insert_with(Instant::now);
        black_box(message.payload());
        positions.insert(message.partition(), message.offset() + 1);
        read += 1;
        if read.is_multiple_of(1024) && committed_at.elapsed() >= COMMIT_EVERY {
            commit(&consumer, topic, &positions, CommitMode::Async)?;
            committed_at = Instant::now();
        }
    }
    commit(&consumer, topic, &positions, CommitMode::Sync)?;
    let seconds = begin.map_or(f64::NAN, |begin| begin.elapsed().as_secs_f64());
    println!("{}", records as f64 / seconds);
    Ok(())
}

fn commit(
    consumer: &BaseConsumer,
    topic: &str,
    positions: &std::collections::HashMap<i32, i64>,
    mode: CommitMode,
) -> Result<()> {
    let mut offsets = TopicPartitionList::new();
    for (partition, offset) in positions {
        offsets.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    Ok(consumer.commit(&offsets, mode)?)
}
