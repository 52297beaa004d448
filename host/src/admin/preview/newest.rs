//! The newest records of a topic, of whichever partitions they are.

use std::collections::VecDeque;

use crate::{
    broker::{Broker, BrokerError},
    record::{Record, TopicPartition},
};

/// Records of one question to the broker.
const FETCH: usize = 100;

/// The newest `count` records of a topic by their timestamps, oldest first; fewer where they have more than `most_bytes`.
/// Reads the last `count` of each partition.
pub(super) async fn newest(
    broker: &dyn Broker,
    topic: &str,
    count: usize,
    most_bytes: usize,
) -> Result<Vec<Record>, BrokerError> {
    let info = broker.topic(topic).await?;
    let mut all: Vec<Record> = Vec::new();
    for (partition, offsets) in (0..).zip(&info.partitions) {
        let at = TopicPartition::new(info.name.clone(), partition);
        let mut of_it = Tail { records: VecDeque::new(), bytes: 0, count, most_bytes };
        let mut next = offsets.beginning.max(offsets.end.saturating_sub(count as u64));
        while next < offsets.end {
            let fetched = broker.records(&at, next, FETCH).await?;
            let Some(last) = fetched.last() else { break };
            next = last.offset + 1;
            fetched.into_iter().for_each(|record| of_it.push(record));
        }
        all.extend(of_it.records);
        // By partition and offset within one millisecond: so it is the same at every look.
        all.sort_by_key(|record| (record.timestamp, record.partition, record.offset));
        let mut kept = Tail { records: VecDeque::new(), bytes: 0, count, most_bytes };
        all.into_iter().for_each(|record| kept.push(record));
        all = kept.records.into();
    }
    Ok(all)
}

/// The last of what is pushed.
struct Tail {
    records: VecDeque<Record>,
    bytes: usize,
    count: usize,
    most_bytes: usize,
}

impl Tail {
    fn push(&mut self, record: Record) {
        self.bytes += record.size();
        self.records.push_back(record);
        while self.records.len() > self.count || self.bytes > self.most_bytes {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.size();
        }
    }
}
