//! Groups: what is shown of them, the hand-over of partitions, and the two protocols.

use std::time::Duration;

use keyway::{
    broker::{
        Broker, CommitError, Committed, GroupState, MemberEvent, MemberSpec, OffsetCommit,
        process_name,
    },
    record::{NewRecord, TopicPartition},
};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{connect, connect_with, eventually, shared, spec, topic, unique, until};

fn assigned(event: MemberEvent) -> Option<Vec<TopicPartition>> {
    match event {
        MemberEvent::Assigned { partitions, .. } if !partitions.is_empty() => {
            Some(partitions.into_iter().map(|assigned| assigned.partition).collect())
        }
        _ => None,
    }
}

fn commit(partition: &TopicPartition, offset: u64, metadata: &str) -> Vec<OffsetCommit> {
    let committed = Committed { offset, metadata: metadata.into() };
    vec![OffsetCommit { partition: partition.clone(), committed }]
}

#[tokio::test]
async fn members_of_keyway_and_of_other_clients_are_shown_with_what_they_read() {
    let Some(address) = shared().await else { return };
    let broker = connect(address);
    let (group, topic) = (unique("group"), topic(&broker, 2).await);
    let mut member = broker.join(spec(&group, &topic)).unwrap();
    until(&mut member, "it gets both partitions", assigned).await;
    let foreign: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("group.id", group.as_ref())
        .set("client.id", "sarama")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .create()
        .unwrap();
    foreign.subscribe(&[&topic]).unwrap();
    let info = eventually("both members have a partition", async || {
        foreign.poll(Duration::ZERO);
        while let Ok(event) = member.events.try_recv() {
            if let MemberEvent::Revoking(partitions) = event {
                member.commands.release(partitions).await;
            }
        }
        let info = broker.group(&group).await.ok()?;
        let settled = info.members.iter().filter(|member| member.partitions.len() == 1).count();
        (settled == 2 && info.state == GroupState::Stable).then_some(info)
    })
    .await;
    let process = |process: &str| info.members.iter().any(|member| member.process == process);
    assert!(process(&process_name()), "{info:?}");
    assert!(process("sarama@127.0.0.1"), "{info:?}");
    assert!(broker.groups().await.unwrap().contains(&group.to_string()));
    drop(foreign);
    member.commands.leave().await;
}

#[tokio::test]
async fn the_id_of_a_member_is_the_one_that_the_group_shows() {
    let Some(address) = shared().await else { return };
    let broker = connect(address);
    let (group, topic) = (unique("group"), topic(&broker, 1).await);
    let mut member = broker.join(spec(&group, &topic)).unwrap();
    let id = until(&mut member, "it is assigned", |event| match event {
        MemberEvent::Assigned { member_id, .. } => Some(member_id),
        _ => None,
    })
    .await;
    let info = broker.group(&group).await.unwrap();
    assert_eq!(info.members[0].id, id.as_ref());
    let partition = TopicPartition::new(topic, 0);
    member.commands.commit(commit(&partition, 7, "mark")).await.unwrap();
    let info = broker.group(&group).await.unwrap();
    let committed = Committed { offset: 7, metadata: "mark".into() };
    assert_eq!(info.committed, [(partition, committed)]);
    member.commands.leave().await;
    eventually("the group is empty", async || {
        let info = broker.group(&group).await.unwrap();
        (info.state == GroupState::Empty && info.members.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_revoked_partition_stays_and_can_be_committed_until_it_is_released() {
    let Some(address) = shared().await else { return };
    let broker = connect(address);
    let (group, topic) = (unique("group"), topic(&broker, 2).await);
    let mut first = broker.join(spec(&group, &topic)).unwrap();
    until(&mut first, "the first gets both", assigned).await;
    let mut second = broker.join(spec(&group, &topic)).unwrap();
    let revoked = until(&mut first, "one is revoked", |event| match event {
        MemberEvent::Revoking(partitions) => Some(partitions),
        _ => None,
    })
    .await;
    assert_eq!(revoked.len(), 1);
    first.commands.commit(commit(&revoked[0], 5, "")).await.unwrap();
    let early = tokio::time::timeout(
        Duration::from_millis(1500),
        until(&mut second, "the second gets it", assigned),
    )
    .await;
    assert!(early.is_err(), "the second had {early:?} before it was released");
    first.commands.release(revoked.clone()).await;
    let refused = first.commands.commit(commit(&revoked[0], 6, "")).await;
    assert!(matches!(refused, Err(CommitError::NotOwned(_))), "{refused:?}");
    let committed = until(&mut second, "the second gets it", |event| match event {
        MemberEvent::Assigned { mut partitions, .. } => partitions.pop(),
        _ => None,
    })
    .await;
    assert_eq!(committed.partition, revoked[0]);
    assert_eq!(committed.committed.unwrap().offset, 5);
    first.commands.leave().await;
    second.commands.leave().await;
}

#[tokio::test]
async fn a_seek_back_and_forth_gives_exactly_the_records_from_there() {
    let Some(address) = shared().await else { return };
    let broker = connect(address);
    let (group, topic) = (unique("group"), topic(&broker, 1).await);
    let written: Vec<_> = (0..5000)
        .map(|number| broker.produce(NewRecord::new(topic.clone(), format!("{number}"))))
        .collect();
    for acknowledgement in written {
        acknowledgement.await.unwrap();
    }
    let mut member = broker.join(spec(&group, &topic)).unwrap();
    let partition = TopicPartition::new(topic.clone(), 0);
    until(&mut member, "the first run", |event| {
        matches!(event, MemberEvent::Records(_)).then_some(())
    })
    .await;
    for offset in [3000, 10, 4990, 0] {
        member.commands.seek(partition.clone(), offset).await;
        until(&mut member, "the seek takes effect", |event| {
            let expected = MemberEvent::Sought { partition: partition.clone(), offset };
            (format!("{event:?}") == format!("{expected:?}")).then_some(())
        })
        .await;
        let next = until(&mut member, "records follow", |event| match event {
            MemberEvent::Records(records) => Some(records[0].offset),
            _ => None,
        })
        .await;
        assert_eq!(next, offset);
    }
    member.commands.leave().await;
}

#[tokio::test]
async fn a_static_member_that_comes_back_takes_its_place_and_fences_its_elder_self() {
    let Some(address) = shared().await else { return };
    let broker = connect(address);
    let (group, topic) = (unique("group"), topic(&broker, 2).await);
    let named = || MemberSpec { instance_id: Some("one".into()), ..spec(&group, &topic) };
    let mut elder = broker.join(named()).unwrap();
    until(&mut elder, "the first gets both", assigned).await;
    let mut younger = broker.join(named()).unwrap();
    assert_eq!(until(&mut younger, "its successor too", assigned).await.len(), 2);
    until(&mut elder, "the first fails", |event| {
        matches!(event, MemberEvent::Failed(_)).then_some(())
    })
    .await;
    assert!(elder.events.recv().await.is_none(), "the channel closes after it failed");
    younger.commands.leave().await;
}

#[tokio::test]
async fn the_new_group_protocol_works_by_opt_in() {
    let Some(address) = shared().await else { return };
    let broker = connect_with(address, &[("group.protocol", "consumer")]);
    let (group, topic) = (unique("group"), topic(&broker, 2).await);
    let mut member = broker.join(spec(&group, &topic)).unwrap();
    let partitions = until(&mut member, "it gets both partitions", assigned).await;
    assert_eq!(partitions.len(), 2);
    broker.produce(NewRecord::new(topic.clone(), "v")).await.unwrap();
    let record = until(&mut member, "the record comes", |event| match event {
        MemberEvent::Records(mut records) => records.pop(),
        _ => None,
    })
    .await;
    let next = commit(&record.topic_partition(), record.offset + 1, "");
    member.commands.commit(next).await.unwrap();
    member.commands.leave().await;
    until_closed(member).await;
}

async fn until_closed(mut member: keyway::broker::Member) {
    let closed = async { while member.events.recv().await.is_some() {} };
    tokio::time::timeout(crate::PATIENCE, closed).await.expect("the member leaves");
}
