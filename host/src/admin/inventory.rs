//! What there is, as [`snapshot`]s: asks the broker and joins its word with a view of one process. Used by the routes,
//! and by the command line where it asks Kafka itself.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::snapshot::{self, Group, Records, Topic, View};
use crate::{
    broker::{Broker, BrokerError, GroupInfo, GroupState, TopicInfo, process_name},
    record::TopicPartition,
};

/// Questions to the broker at one time.
const CONCURRENCY: usize = 8;
/// Records fetched at one time, and bytes of them after which no more are fetched: together the bound on the memory
/// of one look.
const FETCH_RECORDS: usize = 100;
const FETCH_BYTES: usize = 8 << 20;

/// Every topic, by name.
pub async fn topics(broker: &dyn Broker, view: &View) -> Result<Vec<Topic>, BrokerError> {
    Ok(broker.topics().await?.iter().map(|info| snapshot::topic(info, view)).collect())
}

/// One topic.
pub async fn topic(broker: &dyn Broker, view: &View, name: &str) -> Result<Topic, BrokerError> {
    Ok(snapshot::topic(&broker.topic(name).await?, view))
}

/// At most `limit` records of one partition from `offset` on; fewer where they are large.
pub async fn records(
    broker: &dyn Broker,
    at: &TopicPartition,
    offset: u64,
    limit: usize,
) -> Result<Records, BrokerError> {
    let (mut records, mut next, mut bytes) = (Vec::new(), offset, 0);
    while records.len() < limit && bytes < FETCH_BYTES {
        let wanted = FETCH_RECORDS.min(limit - records.len());
        let fetched = broker.records(at, next, wanted).await?;
        let Some(last) = fetched.last() else { break };
        next = last.offset + 1;
        bytes += fetched.iter().map(|record| record.size()).sum::<usize>();
        let at_the_end = fetched.len() < wanted;
        records.extend(fetched.iter().map(snapshot::record));
        if at_the_end {
            break;
        }
    }
    Ok(Records { records })
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
