//! Finding offsets by time, and committing for a group from outside.

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use keyway::{
    broker::{Broker, BrokerError, Committed, OffsetCommit},
    record::{NewRecord, TopicPartition},
};

use crate::{
    fixture::{Fixture, PATIENCE, fill},
    member::{join, settled},
};

fn commit(partition: &TopicPartition, offset: u64) -> Vec<OffsetCommit> {
    let committed = Committed { offset, metadata: String::new() };
    vec![OffsetCommit { partition: partition.clone(), committed }]
}

pub(crate) async fn offsets_are_found_by_time(fixture: &dyn Fixture) {
    let (broker, topic) = (fixture.broker(), fixture.topic(2).await);
    // Kafka refuses or removes what is too old.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    for age in [3000, 2000, 2500, 1000] {
        let record = NewRecord::new(topic.clone(), format!("{age} ms ago"));
        let record = NewRecord { partition: Some(0), timestamp: Some(now - age), ..record };
        broker.produce(record).await.unwrap();
    }
    for (age, offset) in [(60_000, 0), (3000, 0), (2999, 1), (2000, 1), (1999, 3), (999, 4)] {
        let found = broker.offsets_at(&topic, now - age).await;
        assert_eq!(found, Ok(vec![offset, 0]), "{age} ms ago");
    }
    let missing = broker.offsets_at("no-such-topic", now).await;
    assert_eq!(missing, Err(BrokerError::UnknownTopic("no-such-topic".into())));
}

pub(crate) async fn a_group_without_members_begins_where_it_was_set(fixture: &dyn Fixture) {
    let (topic, group) = (fixture.topic(1).await, fixture.group());
    let partition = TopicPartition::new(topic.clone(), 0);
    fill(&fixture.broker(), &partition, 10).await;
    for offset in [6, 2, 10] {
        set(&fixture.broker(), &group, commit(&partition, offset)).await;
        let member = join(&fixture.other(), &group, &topic, 0);
        settled(&[&member], 1).await;
        let committed = member.seen().owned[&partition].clone();
        assert_eq!(committed.map(|committed| committed.offset), Some(offset));
        let all = move |count| count as u64 == 10 - offset;
        member.until("the rest arrives", |seen| all(seen.records.len())).await;
        assert_eq!(member.seen().offsets(&partition), (offset..10).collect::<Vec<_>>());
        member.leave().await;
    }
}

pub(crate) async fn a_group_with_members_is_not_set_from_outside(fixture: &dyn Fixture) {
    let (topic, group) = (fixture.topic(1).await, fixture.group());
    let partition = TopicPartition::new(topic.clone(), 0);
    fill(&fixture.broker(), &partition, 10).await;
    let member = join(&fixture.broker(), &group, &topic, 0);
    settled(&[&member], 1).await;
    member.commit(&partition, 4, "mine").await.unwrap();
    let refused = fixture.other().set_committed(&group, commit(&partition, 7)).await;
    assert_eq!(refused, Err(BrokerError::GroupHasMembers(group.to_string())));
    member.leave().await;
    let member = join(&fixture.other(), &group, &topic, 0);
    settled(&[&member], 1).await;
    let expected = Committed { offset: 4, metadata: "mine".into() };
    assert_eq!(member.seen().owned[&partition], Some(expected));
    member.leave().await;
}

/// Sets it as soon as the broker has seen the last member leave.
async fn set(broker: &Arc<dyn Broker>, group: &str, offsets: Vec<OffsetCommit>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = broker.set_committed(group, offsets.clone()).await {
        assert!(matches!(error, BrokerError::GroupHasMembers(_)), "{error}");
        assert!(Instant::now() < deadline, "the members never left");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
