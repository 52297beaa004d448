//! What there is, as [`snapshot`]s: asks the broker and joins its word with a view of one process. Used by the routes,
//! and by the command line where it asks Kafka itself.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::snapshot::{self, Group, Records, Topic, View};
use crate::{
    broker::{Broker, BrokerError, GroupInfo, GroupState, TopicInfo, process_name},
    produce::Skew,
    record::{Record, TopicPartition},
};

/// Questions to the broker at one time.
const CONCURRENCY: usize = 8;
/// Records fetched at one time, and bytes of them after which no more are fetched: together the bound on the memory
/// of one look.
const FETCH_RECORDS: usize = 100;
const FETCH_BYTES: usize = 8 << 20;

/// Every topic, by name. `skew` knows how the records of one are shared out, or nothing of it.
pub async fn topics(
    broker: &dyn Broker,
    view: &View,
    skew: impl Fn(&str) -> Option<Skew>,
) -> Result<Vec<Topic>, BrokerError> {
    let topic = |info: &TopicInfo| snapshot::topic(info, view, skew(&info.name).as_ref());
    Ok(broker.topics().await?.iter().map(topic).collect())
}

/// One topic. `skew` is how its records are shared out, where that is known.
pub async fn topic(
    broker: &dyn Broker,
    view: &View,
    name: &str,
    skew: Option<&Skew>,
) -> Result<Topic, BrokerError> {
    Ok(snapshot::topic(&broker.topic(name).await?, view, skew))
}

/// At most `limit` records of one partition from `offset` on; fewer where they are large.
pub async fn records(
    broker: &dyn Broker,
    at: &TopicPartition,
    offset: u64,
    limit: usize,
) -> Result<Records, BrokerError> {
    let records = fetch(broker, at, offset, limit).await?;
    Ok(Records { records: records.iter().map(snapshot::record).collect() })
}

/// The last `limit` records of a topic, all partitions together, in the order of their times; fewer where they are large, or
/// where offsets of a partition have no record.
pub async fn last_records(
    broker: &dyn Broker,
    topic: &str,
    limit: usize,
) -> Result<Records, BrokerError> {
    let mut records: Vec<Record> = Vec::new();
    let info = broker.topic(topic).await?;
    for (partition, offsets) in (0..).zip(&info.partitions) {
        let from = offsets.beginning.max(offsets.end.saturating_sub(limit as u64));
        if from < offsets.end {
            records
                .extend(fetch(broker, &TopicPartition::new(topic, partition), from, limit).await?);
            keep_last(&mut records, limit);
        }
    }
    Ok(Records { records: records.iter().map(snapshot::record).collect() })
}

/// Sorts by time, and leaves the last ones, as many as one look may have.
fn keep_last(records: &mut Vec<Record>, limit: usize) {
    records.sort_by_key(|record| (record.timestamp, record.partition, record.offset));
    let mut bytes = 0;
    let fit = records.iter().rev().take(limit).take_while(|record| {
        let room = bytes < FETCH_BYTES;
        bytes += record.size();
        room
    });
    let left_out = records.len() - fit.count();
    records.drain(..left_out);
}

async fn fetch(
    broker: &dyn Broker,
    at: &TopicPartition,
    offset: u64,
    limit: usize,
) -> Result<Vec<Record>, BrokerError> {
    let (mut records, mut next, mut bytes) = (Vec::new(), offset, 0);
    while records.len() < limit && bytes < FETCH_BYTES {
        let wanted = FETCH_RECORDS.min(limit - records.len());
        let fetched = broker.records(at, next, wanted).await?;
        let Some(last) = fetched.last() else { break };
        next = last.offset + 1;
        bytes += fetched.iter().map(Record::size).sum::<usize>();
        let at_the_end = fetched.len() < wanted;
        records.extend(fetched);
        if at_the_end {
            break;
        }
    }
    Ok(records)
}

/// Every group that the broker or this process knows, by id.
pub async fn groups(broker: &dyn Broker, view: &View) -> Result<Vec<Group>, BrokerError> {
    let mut ids: BTreeSet<String> = broker.groups().await?.into_iter().collect();
    ids.extend(view.groups.iter().map(|group| group.id.to_string()));
    let topics = broker.topics().await?;
    let process = process_name();
    stream::iter(ids)
        .map(|id| async move { group_info(broker, view, &id).await })
        .buffered(CONCURRENCY)
        .map_ok(|info| snapshot::group(&info, &topics, view, &process))
        .try_collect()
        .await
}

/// One group.
pub async fn group(broker: &dyn Broker, view: &View, id: &str) -> Result<Group, BrokerError> {
    let info = group_info(broker, view, id).await?;
    let topics: Vec<Option<TopicInfo>> = stream::iter(snapshot::topics_of(&info, view))
        .map(|name| async move {
            match broker.topic(&name).await {
                Ok(topic) => Ok(Some(topic)),
                Err(BrokerError::UnknownTopic(_)) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    let topics: Vec<_> = topics.into_iter().flatten().collect();
    Ok(snapshot::group(&info, &topics, view, &process_name()))
}

/// The broker's word on a group. One that runs here and has not reached the broker yet is empty.
async fn group_info(broker: &dyn Broker, view: &View, id: &str) -> Result<GroupInfo, BrokerError> {
    match broker.group(id).await {
        Err(BrokerError::UnknownGroup(_)) if view.groups.iter().any(|group| &*group.id == id) => {
            Ok(GroupInfo {
                id: id.to_owned(),
                state: GroupState::Empty,
                members: Vec::new(),
                committed: Vec::new(),
            })
        }
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_records_of_all_partitions_are_kept_in_the_order_of_their_times() {
        let record = |partition, offset, timestamp, bytes: usize| Record {
            topic: "t".into(),
            partition,
            offset,
            timestamp: Some(timestamp),
            key: None,
            value: Some(vec![0; bytes].into()),
            headers: Vec::new(),
        };
        let places = |records: &[Record]| -> Vec<_> {
            records.iter().map(|record| (record.partition, record.offset)).collect()
        };
        let all =
            [record(0, 5, 10, 1), record(0, 6, 30, 1), record(1, 0, 20, 1), record(1, 1, 30, 1)];
        let mut records = all.to_vec();
        keep_last(&mut records, 3);
        assert_eq!(places(&records), [(1, 0), (0, 6), (1, 1)]);
        let mut large: Vec<_> =
            (0..4).map(|offset| record(0, offset, offset, FETCH_BYTES / 2)).collect();
        keep_last(&mut large, 4);
        assert_eq!(places(&large), [(0, 2), (0, 3)]);
    }
}
