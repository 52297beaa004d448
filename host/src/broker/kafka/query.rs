//! Questions to the cluster, each a call that blocks for a few seconds at most; [`super::Kafka`] runs them on threads
//! that may block, a few at once. None but [`set_committed`] has an effect on a group.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    config::ClientConfig,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    groups::{self, GroupMemberInfo},
};

use super::{
    assignment,
    directory::Topics,
    error::{self, query as failed},
    observer::{ObserverContext, Observing},
    record,
    settings::process_of,
};
use crate::{
    broker::{
        BrokerError, Committed, GroupInfo, GroupMember, GroupState, OffsetCommit, PartitionOffsets,
        TopicInfo,
    },
    record::{Arena, Record, TopicPartition},
};

/// How long one question may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that one look at records returns, about.
const LOOK_BYTES: usize = 8 << 20;

/// Both ends of every partition of these topics, in the order given.
pub(super) fn offsets(
    client: &Observing,
    topics: &[(Arc<str>, u32)],
) -> Result<Vec<TopicInfo>, BrokerError> {
    let beginning = ends(client, topics, Offset::Beginning)?;
    let end = ends(client, topics, Offset::End)?;
    let info = |(name, partitions): &(Arc<str>, u32)| {
        let partition = |partition| {
            let at = TopicPartition { topic: Arc::clone(name), partition };
            Ok(PartitionOffsets {
                beginning: offset_of(&beginning, &at)?,
                end: offset_of(&end, &at)?,
            })
        };
        let partitions = (0..*partitions).map(partition).collect::<Result<_, BrokerError>>()?;
        Ok(TopicInfo { name: Arc::clone(name), partitions })
    };
    topics.iter().map(info).collect()
}

/// One end of every partition. Kafka's `ListOffsets` takes the two ends as the timestamps -2 and -1, which are the raw
/// values of these two offsets; so one request to each broker does, where watermarks want one for each partition.
fn ends(
    client: &Observing,
    topics: &[(Arc<str>, u32)],
    end: Offset,
) -> Result<TopicPartitionList, BrokerError> {
    let mut list = TopicPartitionList::new();
    for (topic, partitions) in topics {
        for partition in 0..*partitions {
            list.add_partition_offset(topic, partition as i32, end)
                .map_err(|error| failed("offsets", &error))?;
        }
    }
    if list.count() == 0 {
        return Ok(list);
    }
    client.offsets_for_times(list, PATIENCE).map_err(|error| failed("offsets", &error))
}

fn offset_of(list: &TopicPartitionList, at: &TopicPartition) -> Result<u64, BrokerError> {
    let found = list.find_partition(&at.topic, at.partition as i32);
    let found = found.ok_or_else(|| BrokerError::UnknownPartition(at.clone()))?;
    found.error().map_err(|error| failed(&format!("offsets of {at}"), &error))?;
    match found.offset() {
        Offset::Offset(offset) => Ok(offset as u64),
        _ => Err(BrokerError::Unavailable(format!("Kafka does not tell the offsets of {at} now"))),
    }
}

/// Records of one partition from `offset` on, up to `limit` or the end that it has now; fewer where they are large. None
/// means that there is none: where Kafka only takes too long, that is an error.
pub(super) fn records(
    config: ClientConfig,
    client: &Observing,
    at: &TopicPartition,
    offset: u64,
    limit: usize,
) -> Result<Vec<Record>, BrokerError> {
    let what = format!("records of {at}");
    let (low, high) = client
        .fetch_watermarks(&at.topic, at.partition as i32, PATIENCE)
        .map_err(|error| failed(&what, &error))?;
    let from = offset.max(low as u64);
    if from >= high as u64 || limit == 0 {
        return Ok(Vec::new());
    }
    let reader = reader(config, "keyway-look")?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&at.topic, at.partition as i32, Offset::Offset(from as i64))
        .and_then(|()| reader.assign(&list))
        .map_err(|error| failed(&what, &error))?;
    let deadline = Instant::now() + PATIENCE;
    let (mut records, mut bytes) = (Vec::new(), 0);
    let mut arena = Arena::default();
    while records.len() < limit && bytes < LOOK_BYTES {
        if Instant::now() >= deadline {
            if records.is_empty() {
                let reason = format!("{what}: none came for {} s", PATIENCE.as_secs());
                return Err(BrokerError::Unavailable(reason));
            }
            break;
        }
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let record = record::owned(&at.topic, &message, &mut arena);
                bytes += record.size();
                let last = record.offset + 1 >= high as u64;
                records.push(record);
                if last {
                    break;
                }
            }
            // The end, behind offsets that carry no record: transaction markers, compaction.
            Some(Err(KafkaError::PartitionEOF(_))) => break,
            Some(Err(error)) => return Err(failed(&what, &error)),
            None => {}
        }
    }
    Ok(records)
}

/// The high watermark of a partition, where the end that others are told is the last stable offset.
pub(super) fn written(mut config: ClientConfig, at: &TopicPartition) -> Result<u64, BrokerError> {
    config.set("isolation.level", "read_uncommitted");
    let (_low, high) = reader(config, "keyway-look")?
        .fetch_watermarks(&at.topic, at.partition as i32, PATIENCE)
        .map_err(|error| failed(&format!("the end of {at}"), &error))?;
    Ok(high as u64)
}

/// For each partition of a topic the offset of its first record from `timestamp` on, or its end.
pub(super) fn offsets_at(
    client: &Observing,
    topic: &(Arc<str>, u32),
    timestamp: u64,
) -> Result<Vec<u64>, BrokerError> {
    // Offsets from 2^63 on are librdkafka's own words for the ends of a partition.
    let at = Offset::Offset(i64::try_from(timestamp).unwrap_or(i64::MAX));
    let found = ends(client, std::slice::from_ref(topic), at)?;
    let end = ends(client, std::slice::from_ref(topic), Offset::End)?;
    let offset = |partition| {
        let at = TopicPartition { topic: Arc::clone(&topic.0), partition };
        let element = found.find_partition(&at.topic, partition as i32);
        match element.map(|element| (element.error(), element.offset())) {
            Some((Ok(()), Offset::Offset(offset))) => Ok(offset as u64),
            Some((Err(error), _)) => Err(failed(&format!("offsets of {at}"), &error)),
            _ => offset_of(&end, &at), // no record is as young as that
        }
    };
    (0..topic.1).map(offset).collect()
}

/// Commits in the name of a group without joining it, which Kafka takes while the group has no members.
pub(super) fn set_committed(
    config: ClientConfig,
    group: &str,
    offsets: &[OffsetCommit],
) -> Result<(), BrokerError> {
    let what = format!("committing offsets of {group:?}");
    let list = record::commits(offsets).map_err(|error| failed(&what, &error))?;
    let committed = reader(config, group)?.commit(&list, CommitMode::Sync);
    committed.map_err(|error| match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::RebalanceInProgress
            | RDKafkaErrorCode::StaleMemberEpoch,
        ) => BrokerError::GroupHasMembers(group.to_owned()),
        _ => failed(&what, &error),
    })
}

/// The groups' names.
pub(super) fn groups(client: &Observing) -> Result<Vec<String>, BrokerError> {
    let list = client.fetch_group_list(None, PATIENCE).map_err(|error| failed("groups", &error))?;
    let consumers = list
        .groups()
        .iter()
        .filter(|group| group.protocol_type().is_empty() || group.protocol_type() == "consumer");
    let mut names: Vec<_> = consumers.map(|group| group.name().to_owned()).collect();
    names.sort_unstable();
    Ok(names)
}

/// One group with its members and what is committed: for what its members read where they have settled on that, else for
/// any of `topics`. On a cluster with many topics the difference is that of a few partitions and of all there are.
pub(super) fn group(
    config: ClientConfig,
    client: &Observing,
    id: &str,
    topics: &Topics,
) -> Result<GroupInfo, BrokerError> {
    let unknown = || BrokerError::UnknownGroup(id.to_owned());
    let list = match client.fetch_group_list(Some(id), PATIENCE) {
        Ok(list) => list,
        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownGroup) => {
            return Err(unknown());
        }
        Err(error) => return Err(failed(&format!("group {id:?}"), &error)),
    };
    let group = list.groups().iter().find(|group| group.name() == id).ok_or_else(unknown)?;
    let settling = describe(group);
    let committed = match read_by(group, &settling) {
        Some(read) => {
            committed(config, id, topics.iter().filter(|(topic, _)| read.contains(&***topic)))?
        }
        None => committed(config, id, topics)?,
    };
    let info = GroupInfo { committed, ..settling };
    // Asked for by name, a group that does not exist is "dead" rather than missing.
    if info.state == GroupState::Dead && info.members.is_empty() && info.committed.is_empty() {
        return Err(unknown());
    }
    Ok(info)
}

/// The topics that the members of a settled group read; `None` where that is not known.
fn read_by<'a>(group: &groups::GroupInfo, info: &'a GroupInfo) -> Option<BTreeSet<&'a str>> {
    let told = |member: &GroupMemberInfo| member.assignment().is_none_or(is_decodable);
    let partitions = info.members.iter().flat_map(|member| &member.partitions);
    let topics: BTreeSet<&str> = partitions.map(|at| &*at.topic).collect();
    let settled = info.state == GroupState::Stable && group.members().iter().all(told);
    (settled && !topics.is_empty()).then_some(topics)
}

fn is_decodable(assignment: &[u8]) -> bool {
    assignment::decode(assignment).is_some()
}

fn describe(group: &groups::GroupInfo) -> GroupInfo {
    let state = match group.state() {
        "Stable" => GroupState::Stable,
        "Empty" => GroupState::Empty,
        "Dead" | "" => GroupState::Dead,
        _ => GroupState::Rebalancing, // PreparingRebalance, CompletingRebalance; Assigning, Reconciling
    };
    GroupInfo {
        id: group.name().to_owned(),
        state,
        members: group.members().iter().map(member).collect(),
        committed: Vec::new(),
    }
}

fn member(member: &GroupMemberInfo) -> GroupMember {
    let process = match process_of(member.client_id()) {
        Some(process) => process.to_owned(),
        None => format!("{}@{}", member.client_id(), member.client_host().trim_start_matches('/')),
    };
    let partitions = member.assignment().and_then(assignment::decode).unwrap_or_default();
    GroupMember { id: member.id().to_owned(), process, partitions }
}

/// The id of the member with this client id, in the groups that Kafka describes to librdkafka: the classic ones.
pub(super) fn member_id<C: rdkafka::consumer::ConsumerContext>(
    client: &BaseConsumer<C>,
    group: &str,
    client_id: &str,
) -> Option<String> {
    let list = client.fetch_group_list(Some(group), PATIENCE).ok()?;
    let mut members = list.groups().iter().flat_map(|group| group.members());
    members.find(|member| member.client_id() == client_id).map(|member| member.id().to_owned())
}

/// What a group has committed, asked in its name but without joining it.
fn committed<'a>(
    config: ClientConfig,
    id: &str,
    topics: impl IntoIterator<Item = (&'a Arc<str>, &'a u32)>,
) -> Result<Vec<(TopicPartition, Committed)>, BrokerError> {
    let mut list = TopicPartitionList::new();
    for (topic, partitions) in topics {
        for partition in 0..*partitions {
            list.add_partition(topic, partition as i32);
        }
    }
    if list.count() == 0 {
        return Ok(Vec::new());
    }
    let what = format!("committed offsets of {id:?}");
    let list = reader(config, id)?
        .committed_offsets(list, PATIENCE)
        .map_err(|error| failed(&what, &error))?;
    let mut committed: Vec<_> = list
        .elements()
        .iter()
        .filter_map(|element| {
            let partition = TopicPartition::new(element.topic(), element.partition() as u32);
            Some((partition, record::committed(element)?))
        })
        .collect();
    committed.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(committed)
}

/// A consumer in a group's name that never joins it.
fn reader(
    mut config: ClientConfig,
    group: &str,
) -> Result<BaseConsumer<ObserverContext>, BrokerError> {
    config.set("group.id", group).set("enable.partition.eof", "true");
    config.create_with_context(ObserverContext::default()).map_err(error::client)
}
