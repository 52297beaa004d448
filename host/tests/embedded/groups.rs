//! What groups do here that no conformance case can ask of every broker.

use std::time::Duration;

use keyway::{
    broker::{
        Broker, CommitError, Committed, Member, MemberEvent, MemberSpec, OffsetCommit,
        embedded::{Bounds, Embedded},
    },
    config::Start,
    record::TopicPartition,
};

use crate::{FOREVER, close, create, fill, open};

fn spec(index: u32, instance_id: Option<&str>) -> MemberSpec {
    MemberSpec {
        group: "group".into(),
        topics: vec!["topic".into()],
        start: Start::Earliest,
        index,
        instance_id: instance_id.map(Into::into),
    }
}

fn commit(partition: &TopicPartition, offset: u64) -> Vec<OffsetCommit> {
    let committed = Committed { offset, metadata: String::new() };
    vec![OffsetCommit { partition: partition.clone(), committed }]
}

/// The next event that is neither records nor trouble.
async fn next(member: &mut Member) -> Option<MemberEvent> {
    loop {
        match member.events.recv().await {
            Some(MemberEvent::Records(_) | MemberEvent::Troubled(_)) => {}
            event => return event,
        }
    }
}

async fn assigned(member: &mut Member) -> (String, Vec<TopicPartition>) {
    match next(member).await {
        Some(MemberEvent::Assigned { member_id, partitions }) => {
            (member_id.to_string(), partitions.into_iter().map(|it| it.partition).collect())
        }
        other => panic!("it was not assigned anything: {other:?}"),
    }
}

#[tokio::test]
async fn a_member_that_does_not_give_up_what_is_revoked_loses_it() {
    let directory = tempfile::tempdir().unwrap();
    let bounds = Bounds { session: Duration::from_millis(100), ..Bounds::default() };
    let broker = Embedded::open_within(directory.path(), FOREVER, bounds).unwrap();
    create(&broker, "topic", 2).await;
    let mut stubborn = broker.join(spec(0, None)).unwrap();
    assert_eq!(assigned(&mut stubborn).await.1.len(), 2);
    let mut second = broker.join(spec(1, None)).unwrap();
    let Some(MemberEvent::Revoking(revoked)) = next(&mut stubborn).await else { panic!() };
    let Some(MemberEvent::Lost(lost)) = next(&mut stubborn).await else { panic!() };
    assert_eq!(lost, revoked);
    assert_eq!(assigned(&mut second).await.1, revoked);
    let refused = stubborn.commands.commit(commit(&revoked[0], 1)).await;
    assert!(matches!(refused, Err(CommitError::NotOwned(_))), "{refused:?}");
    let kept = TopicPartition::new("topic", 1 - revoked[0].partition);
    stubborn.commands.commit(commit(&kept, 0)).await.unwrap();
    close(broker).await;
}

#[tokio::test]
async fn a_member_with_the_same_instance_id_takes_the_place() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    create(&broker, "topic", 2).await;
    let mut former = broker.join(spec(0, Some("machine-1"))).unwrap();
    let (id, partitions) = assigned(&mut former).await;
    assert!(id.starts_with("machine-1-"), "{id}");
    let mut latter = broker.join(spec(0, Some("machine-1"))).unwrap();
    assert_eq!(assigned(&mut latter).await.1, partitions);
    let Some(MemberEvent::Lost(lost)) = next(&mut former).await else { panic!() };
    assert_eq!(lost, partitions);
    let Some(MemberEvent::Failed(reason)) = next(&mut former).await else { panic!() };
    assert!(reason.contains("same instance id"), "{reason}");
    assert!(next(&mut former).await.is_none());
    close(broker).await;
}

#[tokio::test]
async fn a_topic_that_is_created_later_is_shared_out_then() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    let mut member = broker.join(spec(0, None)).unwrap();
    let Some(MemberEvent::Troubled(trouble)) = member.events.recv().await else { panic!() };
    assert_eq!(trouble, "there is no topic \"topic\" yet");
    assert_eq!(assigned(&mut member).await.1, []);
    create(&broker, "topic", 3).await;
    assert_eq!(assigned(&mut member).await.1.len(), 3);
    close(broker).await;
}

#[tokio::test]
async fn an_offset_beyond_the_end_counts_as_none() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    let partition = TopicPartition::new(create(&broker, "topic", 1).await, 0);
    fill(&broker, &partition, 0..10).await;
    let mut member = broker.join(spec(0, None)).unwrap();
    assigned(&mut member).await;
    member.commands.commit(commit(&partition, 99)).await.unwrap();
    member.commands.leave().await;
    while next(&mut member).await.is_some() {}
    let mut member = broker.join(spec(0, None)).unwrap();
    let Some(MemberEvent::Assigned { partitions, .. }) = member.events.recv().await else {
        panic!()
    };
    assert_eq!(partitions[0].committed, None);
    let Some(MemberEvent::Records(records)) = member.events.recv().await else { panic!() };
    assert_eq!((records[0].offset, records.len()), (0, 10));
    close(broker).await;
}

#[tokio::test]
async fn a_member_that_takes_nothing_holds_back_records_and_still_serves_commands() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    let partition = TopicPartition::new(create(&broker, "topic", 1).await, 0);
    fill(&broker, &partition, 0..20_000).await;
    let mut member = broker.join(spec(0, None)).unwrap();
    assigned(&mut member).await;
    for offset in 0..200 {
        member.commands.commit(commit(&partition, offset)).await.unwrap();
        member.commands.seek(partition.clone(), offset).await;
    }
    let mut records = Vec::new();
    while records.last() != Some(&19_999) {
        match member.events.recv().await.unwrap() {
            MemberEvent::Records(run) => records.extend(run.iter().map(|record| record.offset)),
            MemberEvent::Sought { offset, .. } => {
                records.clear();
                records.extend(offset.checked_sub(1));
            }
            other => panic!("{other:?}"),
        }
    }
    let first = records[0];
    assert_eq!(records, (first..20_000).collect::<Vec<_>>());
    assert_eq!(first, 198, "after the last seek, to 199");
    close(broker).await;
}
