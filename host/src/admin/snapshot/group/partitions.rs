//! The partitions of a group: who reads them, how far that got, and what is on the way.

use std::{
    collections::{BTreeMap, HashMap},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};

use super::{super::Pause, Facts, Member, TopicPartition};
use crate::{
    broker::{GroupInfo, TopicInfo},
    dispatch::{GroupStatus, PartitionStatus},
    record,
};

/// How far a group got with a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The id of the member that reads it; `null` when none does.
    pub member: Option<String>,
    /// The offset that the next record will get; `null` when the topic is gone.
    pub end_offset: Option<u64>,
    /// The offset of the next record to handle; `null` before the first commit.
    pub committed_offset: Option<u64>,
    /// Records from the committed offset (from the oldest, where none is committed) to the end.
    pub lag: Option<u64>,
    /// Milliseconds since the oldest record was written that a member of this process has read and not finished, by the
    /// record's timestamp; `null` when there is none, or it carries none.
    #[serde(default)] // not in the answers of older gateways, as what is so marked below
    pub lag_ms: Option<u64>,
    /// Records in the handler's hands; `null` when no member of this process reads it.
    pub in_flight: Option<usize>,
    /// Records read that wait for the handler; `null` when no member of this process reads it.
    pub waiting: Option<usize>,
    /// Lanes that these records are in; `null` when no member of this process reads it.
    #[serde(default)]
    pub lanes: Option<usize>,
    /// Of them, those that wait for another attempt; `null` when no member of this process reads it.
    #[serde(default)]
    pub deferred: Option<usize>,
    /// The generation that handled its last record here.
    pub generation: Option<String>,
    /// Why it stands still by the policy `stop`.
    pub stopped: Option<String>,
    /// Set where an operator holds it back; `null` when no member of this process reads it.
    pub paused: Option<Pause>,
    /// What is parked of it; `null` when no member of this process reads it.
    #[serde(default)]
    pub parked: Option<Parked>,
}

/// What is parked of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Lanes.
    pub lanes: usize,
    /// Records in them.
    pub records: usize,
}

pub(super) fn partitions(
    info: &GroupInfo,
    topics: &[TopicInfo],
    facts: &Facts,
    (status, taken): (Option<&GroupStatus>, SystemTime),
    members: &[Member],
) -> Vec<GroupPartition> {
    let mut rows: BTreeMap<record::TopicPartition, GroupPartition> = BTreeMap::new();
    for topic in topics.iter().filter(|topic| topics_matter(topic, info, facts)) {
        for number in 0..topic.partitions.len() as u32 {
            let partition = record::TopicPartition::new(topic.name.clone(), number);
            rows.insert(partition.clone(), empty_row(&partition));
        }
    }
    for (partition, committed) in &info.committed {
        row(&mut rows, partition).committed_offset = Some(committed.offset);
    }
    for member in members {
        for TopicPartition { topic, partition } in &member.partitions {
            let partition = record::TopicPartition::new(topic.as_str(), *partition);
            row(&mut rows, &partition).member = member.id.clone();
        }
    }
    for (group, shown) in status.into_iter().flat_map(|group| {
        let members = group.members.iter();
        members.flat_map(|member| &member.partitions).map(move |shown| (group, shown))
    }) {
        let row = row(&mut rows, &shown.partition);
        add_status(row, shown, taken);
        row.paused = group.pauses.of(&shown.partition).map(Pause::of);
    }
    let offsets: HashMap<&str, &TopicInfo> =
        topics.iter().map(|topic| (&*topic.name, topic)).collect();
    for (partition, row) in &mut rows {
        let topic = offsets.get(&*partition.topic);
        let Some(ends) = topic.and_then(|topic| topic.partitions.get(partition.partition as usize))
        else {
            continue;
        };
        row.end_offset = Some(ends.end);
        let from = row.committed_offset.unwrap_or(ends.beginning);
        row.lag = Some(ends.end.saturating_sub(from));
    }
    rows.into_values().collect()
}

/// Whether all partitions of a topic are shown, those without a reader too.
fn topics_matter(topic: &TopicInfo, info: &GroupInfo, facts: &Facts) -> bool {
    facts.topics.iter().any(|(name, _)| **name == *topic.name)
        || info.committed.iter().any(|(partition, _)| partition.topic == topic.name)
}

fn row<'a>(
    rows: &'a mut BTreeMap<record::TopicPartition, GroupPartition>,
    partition: &record::TopicPartition,
) -> &'a mut GroupPartition {
    rows.entry(partition.clone()).or_insert_with(|| empty_row(partition))
}

fn empty_row(partition: &record::TopicPartition) -> GroupPartition {
    GroupPartition {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        member: None,
        end_offset: None,
        committed_offset: None,
        lag: None,
        lag_ms: None,
        in_flight: None,
        waiting: None,
        lanes: None,
        deferred: None,
        generation: None,
        stopped: None,
        paused: None,
        parked: None,
    }
}

fn add_status(row: &mut GroupPartition, status: &PartitionStatus, taken: SystemTime) {
    row.lag_ms = status.age(taken);
    row.lanes = Some(status.lanes);
    row.deferred = Some(status.deferred);
    row.in_flight = Some(status.in_flight);
    row.waiting = Some(status.waiting);
    row.generation = status.generation.as_ref().map(|generation| generation.short());
    row.stopped = status.stopped.clone();
    row.parked = Some(Parked { lanes: status.parked_lanes, records: status.parked_records });
    // The broker was asked a moment before or after; an offset that this process has committed is not taken back.
    row.committed_offset = row.committed_offset.max(status.committed);
}
