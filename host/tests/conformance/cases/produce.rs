//! Writing records.

use keyway::record::{NewRecord, TopicPartition};

use crate::{fixture::Fixture, member::join};

pub(crate) async fn records_of_a_partition_come_back_in_order(fixture: &dyn Fixture) {
    let broker = fixture.broker();
    let topic = fixture.topic(1).await;
    let acknowledgements: Vec<_> = (0..1000)
        .map(|number| broker.produce(NewRecord::new(topic.clone(), format!("value {number}"))))
        .collect();
    for (number, acknowledgement) in acknowledgements.into_iter().enumerate() {
        let produced = acknowledgement.await.unwrap();
        assert_eq!((produced.partition, produced.offset), (0, number as u64));
    }
    let member = join(&fixture.other(), &fixture.group(), &topic, 0);
    let partition = TopicPartition::new(topic, 0);
    member.until("all records arrive", |seen| seen.records.len() >= 1000).await;
    assert_eq!(member.seen().offsets(&partition), (0..1000).collect::<Vec<u64>>());
    for (number, record) in member.seen().of(&partition).enumerate() {
        assert_eq!(record.value.as_deref(), Some(format!("value {number}").as_bytes()));
    }
    member.leave().await;
}
