//! Where a record goes: which partition of which topic, and the time that it says it is from. What cannot be written is
//! refused here, so that only the disk can fail the writer.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use super::catalog::{Catalog, Partition};
use crate::{
    broker::ProduceError,
    record::{NewRecord, partition_for_key},
};

/// The largest record, in bytes of key, value and headers: a value of 1 MiB with something around it, a little above
/// Kafka's own default.
const LARGEST_RECORD: usize = (1 << 20) + (64 << 10);

/// A record that has its partition.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) partition: Arc<Partition>,
    pub(super) timestamp: u64,
    pub(super) record: NewRecord,
}

/// Gives a record its place.
pub(super) fn place(catalog: &Catalog, record: NewRecord) -> Result<Placed, ProduceError> {
    let unknown = || ProduceError::UnknownTopic { topic: record.topic.clone() };
    let topic = catalog.topic(&record.topic).ok_or_else(unknown)?;
    let size = record.size();
    if size > LARGEST_RECORD {
        return Err(ProduceError::TooLarge { size, limit: LARGEST_RECORD });
    }
    let timestamp = record.timestamp.unwrap_or_else(now);
    if i64::try_from(timestamp).is_err() {
        let reason = format!("the timestamp {timestamp} is out of range");
        return Err(ProduceError::Refused { reason });
    }
    let number = match (record.partition, &record.key) {
        (Some(partition), _) => partition,
        (None, Some(key)) => partition_for_key(key, topic.count()),
        (None, None) => topic.next_in_turn(),
    };
    match topic.partitions.get(number as usize) {
        Some(partition) => Ok(Placed { partition: partition.clone(), timestamp, record }),
        None => Err(ProduceError::UnknownPartition {
            topic: topic.name.clone(),
            partition: number,
            partitions: topic.count(),
        }),
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
