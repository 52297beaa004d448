//! What a broker shows of its topics, records and groups.

use std::time::{Duration, Instant};

use keyway::{
    broker::{
        BrokerError, Committed, EnsuredTopic, GroupInfo, GroupState, PartitionOffsets, TopicSpec,
        process_name,
    },
    record::TopicPartition,
};

use crate::{
    fixture::{Fixture, PATIENCE, fill, partitions, unique},
    member::{join, settled},
};

pub(crate) async fn a_topic_is_created_once_and_then_left_as_it_is(fixture: &dyn Fixture) {
    let (broker, other) = (fixture.broker(), fixture.other());
    let spec = TopicSpec {
        name: unique("topic"),
        partitions: 3,
        replication_factor: Some(1),
        keep_forever: false,
    };
    assert_eq!(broker.ensure_topic(&spec).await, Ok(EnsuredTopic::Created));
    assert_eq!(broker.partitions(&spec.name).await, Ok(3));
    assert_eq!(other.ensure_topic(&spec).await, Ok(EnsuredTopic::Existed));
    let more = TopicSpec { partitions: 5, ..spec.clone() };
    assert_eq!(other.ensure_topic(&more).await, Ok(EnsuredTopic::Differs { partitions: 3 }));
    assert_eq!(other.partitions(&spec.name).await, Ok(3));
    let nameless = TopicSpec { name: "no/name".into(), ..spec };
    assert!(broker.ensure_topic(&nameless).await.is_err());
}

pub(crate) async fn a_topic_shows_its_partitions_and_their_offsets(fixture: &dyn Fixture) {
    let topic = fixture.topic(3).await;
    let partition = TopicPartition::new(topic.clone(), 1);
    fill(&fixture.broker(), &partition, 7).await;
    let info = fixture.other().topic(&topic).await.unwrap();
    let ends = [0, 7, 0].map(|end| PartitionOffsets { beginning: 0, end });
    assert_eq!((&info.name, &info.partitions[..]), (&topic, &ends[..]));
    let topics = fixture.other().topics().await.unwrap();
    assert!(topics.contains(&info), "{topics:?}");
    assert!(topics.is_sorted_by_key(|topic| topic.name.clone()), "{topics:?}");
}

pub(crate) async fn records_can_be_looked_at(fixture: &dyn Fixture) {
    let topic = fixture.topic(2).await;
    let (partition, empty) = (TopicPartition::new(topic.clone(), 1), TopicPartition::new(topic, 0));
    fill(&fixture.broker(), &partition, 10).await;
    let broker = fixture.other();
    let records = broker.records(&partition, 4, 3).await.unwrap();
    let offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [4, 5, 6]);
    assert_eq!(records[0].value.as_deref(), Some(format!("{partition} 4").as_bytes()));
    assert_eq!(broker.records(&partition, 8, 100).await.unwrap().len(), 2);
    assert_eq!(broker.records(&partition, 10, 100).await, Ok(Vec::new()));
    assert_eq!(broker.records(&partition, 99, 100).await, Ok(Vec::new()));
    assert_eq!(broker.records(&empty, 0, 100).await, Ok(Vec::new()));
}

pub(crate) async fn what_is_not_there_is_named(fixture: &dyn Fixture) {
    let broker = fixture.broker();
    let missing = unique("missing");
    let unknown_topic = BrokerError::UnknownTopic(missing.to_string());
    assert_eq!(broker.topic(&missing).await, Err(unknown_topic.clone()));
    assert_eq!(broker.partitions(&missing).await, Err(unknown_topic.clone()));
    let nowhere = TopicPartition::new(missing.clone(), 0);
    assert_eq!(broker.records(&nowhere, 0, 1).await, Err(unknown_topic));
    let beyond = TopicPartition::new(fixture.topic(2).await, 2);
    let unknown_partition = BrokerError::UnknownPartition(beyond.clone());
    assert_eq!(broker.records(&beyond, 0, 1).await, Err(unknown_partition));
    let unknown_group = BrokerError::UnknownGroup(missing.to_string());
    assert_eq!(broker.group(&missing).await, Err(unknown_group));
}

/// Waits until the group shows as `condition` wants it.
async fn shown(
    fixture: &dyn Fixture,
    group: &str,
    condition: impl Fn(&GroupInfo) -> bool,
) -> GroupInfo {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let info = fixture.other().group(group).await;
        match info {
            Ok(info) if condition(&info) => return info,
            info => assert!(Instant::now() < deadline, "never shown as wanted: {info:#?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn a_group_shows_its_members_and_what_they_committed(fixture: &dyn Fixture) {
    let (broker, topic, group) = (fixture.broker(), fixture.topic(3).await, fixture.group());
    let members = [0, 1].map(|index| join(&broker, &group, &topic, index));
    settled(&[&members[0], &members[1]], 3).await;
    let info = shown(fixture, &group, |info| info.state == GroupState::Stable).await;
    assert_eq!((&*info.id, info.members.len()), (&*group, 2), "{info:?}");
    let mut read = Vec::new();
    for member in info.members {
        assert_eq!(member.process, process_name());
        let watched =
            members.iter().find(|watched| watched.seen().id.as_deref() == Some(&*member.id));
        let owned: Vec<_> = watched.unwrap().seen().owned.keys().cloned().collect();
        assert_eq!(member.partitions, owned);
        read.extend(member.partitions);
    }
    read.sort();
    assert_eq!(read, partitions(&topic, 3));

    let partition = members[0].seen().owned.keys().next().unwrap().clone();
    fill(&broker, &partition, 3).await;
    members[0].commit(&partition, 2, "note").await.unwrap();
    let info = fixture.other().group(&group).await.unwrap();
    let committed = Committed { offset: 2, metadata: "note".into() };
    assert_eq!(info.committed, [(partition.clone(), committed)]);
    assert!(fixture.other().groups().await.unwrap().contains(&group.to_string()));

    for member in members {
        member.leave().await;
    }
    let info = shown(fixture, &group, |info| info.members.is_empty()).await;
    assert_eq!((info.state, info.committed.len()), (GroupState::Empty, 1));
}
