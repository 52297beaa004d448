//! Where a group begins, and where it goes on.

use keyway::{
    broker::{CommitError, Committed},
    record::TopicPartition,
};

use crate::{
    fixture::{Fixture, fill},
    member::{begin_at_the_end, join, settled},
};

pub(crate) async fn a_group_goes_on_where_it_committed(fixture: &dyn Fixture) {
    let (topic, group) = (fixture.topic(1).await, fixture.group());
    let partition = TopicPartition::new(topic.clone(), 0);
    fill(&fixture.broker(), &partition, 10).await;
    for (committed, first) in [(None, 0), (Some(6), 6), (Some(3), 3)] {
        let member = join(&fixture.other(), &group, &topic, 0);
        member.until("the last arrives", |seen| seen.offsets(&partition).last() == Some(&9)).await;
        assert_eq!(member.seen().offsets(&partition), (first..10).collect::<Vec<_>>());
        let expected = committed.map(|offset| Committed { offset, metadata: "here".into() });
        assert_eq!(member.seen().owned[&partition], expected);
        let next = if committed.is_none() { 6 } else { 3 };
        member.commit(&partition, next, "here").await.unwrap();
        member.leave().await;
    }
}

pub(crate) async fn metadata_of_4096_characters_comes_back_unchanged(fixture: &dyn Fixture) {
    let (topic, group) = (fixture.topic(1).await, fixture.group());
    let partition = TopicPartition::new(topic.clone(), 0);
    fill(&fixture.broker(), &partition, 3).await;
    let metadata: String = (0..4096).map(|at| char::from(b'!' + (at % 90) as u8)).collect();
    let member = join(&fixture.broker(), &group, &topic, 0);
    settled(&[&member], 1).await;
    member.commit(&partition, 2, &metadata).await.unwrap();
    let expected = Committed { offset: 2, metadata };
    let info = fixture.other().group(&group).await.unwrap();
    assert_eq!(info.committed, [(partition.clone(), expected.clone())]);
    member.leave().await;
    let member = join(&fixture.other(), &group, &topic, 0);
    settled(&[&member], 1).await;
    assert_eq!(member.seen().owned[&partition], Some(expected));
    member.leave().await;
}

pub(crate) async fn metadata_that_is_too_long_is_refused(fixture: &dyn Fixture) {
    let (topic, group) = (fixture.topic(1).await, fixture.group());
    let partition = TopicPartition::new(topic.clone(), 0);
    fill(&fixture.broker(), &partition, 3).await;
    let member = join(&fixture.broker(), &group, &topic, 0);
    settled(&[&member], 1).await;
    member.commit(&partition, 1, "short").await.unwrap();
    let refused = member.commit(&partition, 2, &"x".repeat(4097)).await;
    assert!(matches!(refused, Err(CommitError::MetadataTooLong(_))), "{refused:?}");
    let info = fixture.other().group(&group).await.unwrap();
    assert_eq!(info.committed[0].1, Committed { offset: 1, metadata: "short".into() });
    member.leave().await;
}

pub(crate) async fn earliest_begins_with_what_is_there(fixture: &dyn Fixture) {
    let topic = fixture.topic(1).await;
    let partition = TopicPartition::new(topic.clone(), 0);
    fill(&fixture.broker(), &partition, 5).await;
    let member = join(&fixture.broker(), &fixture.group(), &topic, 0);
    member.until("all records arrive", |seen| seen.records.len() == 5).await;
    assert_eq!(member.seen().offsets(&partition), [0, 1, 2, 3, 4]);
    member.leave().await;
}

pub(crate) async fn latest_begins_with_what_comes(fixture: &dyn Fixture) {
    let (member, partition, end) = begin_at_the_end(fixture).await;
    let first = member.seen().offsets(&partition)[0];
    assert!(first >= 5);
    assert_eq!(member.seen().offsets(&partition), (first..end).collect::<Vec<_>>());
    member.leave().await;
}
