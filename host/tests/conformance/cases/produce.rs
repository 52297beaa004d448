//! Writing records, and reading back what was written.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use keyway::{
    broker::{ProduceError, Produced},
    record::{Header, NewRecord, Record, TopicPartition},
};

use crate::{fixture::Fixture, member::join};

/// Writes records to a fresh topic with one partition and reads them back as a member of a group.
async fn there_and_back(fixture: &dyn Fixture, records: Vec<NewRecord>) -> Vec<(Produced, Record)> {
    let topic = fixture.topic(1).await;
    let count = records.len();
    let mut produced = Vec::new();
    for record in records {
        let record = NewRecord { topic: topic.clone(), ..record };
        produced.push(fixture.broker().produce(record).await.unwrap());
    }
    let member = join(&fixture.other(), &fixture.group(), &topic, 0);
    member.until("all records arrive", |seen| seen.records.len() >= count).await;
    let records = member.seen().records.clone();
    assert_eq!(records.len(), count);
    member.leave().await;
    produced.into_iter().zip(records).collect()
}

fn record() -> NewRecord {
    NewRecord::new("to be replaced", "value")
}

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

pub(crate) async fn null_and_empty_keys_and_values_are_told_apart(fixture: &dyn Fixture) {
    let some = [None, Some(Bytes::new()), Some(Bytes::from_static(b"\0\xff"))];
    let pairs = some.iter().flat_map(|key| some.iter().map(|value| (key.clone(), value.clone())));
    let pairs: Vec<_> = pairs.collect();
    let records = pairs.iter().cloned().map(|(key, value)| NewRecord { key, value, ..record() });
    let read = there_and_back(fixture, records.collect()).await;
    let read: Vec<_> = read.into_iter().map(|(_, record)| (record.key, record.value)).collect();
    assert_eq!(read, pairs);
}

pub(crate) async fn headers_repeat_keep_their_order_and_may_be_null(fixture: &dyn Fixture) {
    let header = |key: &str, value: Option<&'static str>| Header {
        key: key.into(),
        value: value.map(|value| Bytes::from_static(value.as_bytes())),
    };
    let headers = vec![
        header("b", Some("1")),
        header("a", None),
        header("b", Some("2")),
        header("a", Some("")),
        header("b", Some("1")),
        header("ü", Some("\u{1F511}")),
    ];
    let record = NewRecord { headers: headers.clone(), ..record() };
    let read = there_and_back(fixture, vec![record]).await;
    assert_eq!(read[0].1.headers, headers);
}

pub(crate) async fn a_timestamp_is_kept_and_a_missing_one_is_given(fixture: &dyn Fixture) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let given = (now - Duration::from_secs(60)).as_millis() as u64;
    let records = vec![NewRecord { timestamp: Some(given), ..record() }, record()];
    let read = there_and_back(fixture, records).await;
    assert_eq!((read[0].0.timestamp, read[0].1.timestamp), (given, Some(given)));
    let (produced, record) = &read[1];
    assert_eq!(Some(produced.timestamp), record.timestamp);
    let age = produced.timestamp.abs_diff(now.as_millis() as u64);
    assert!(age < 300_000, "it was given another time than now, by {age} ms");
}

pub(crate) async fn a_record_of_1_mib_is_kept_whole(fixture: &dyn Fixture) {
    let value: Bytes = (0..fixture.largest_value()).map(|at| (at % 251) as u8).collect();
    let records = (0..3).map(|_| NewRecord { value: Some(value.clone()), ..record() });
    for (_, record) in there_and_back(fixture, records.collect()).await {
        assert!(record.value == Some(value.clone()), "{} bytes", record.size());
    }
}

pub(crate) async fn a_record_that_is_too_large_is_refused_and_the_next_is_taken(
    fixture: &dyn Fixture,
) {
    let (broker, topic) = (fixture.broker(), fixture.topic(1).await);
    let large = broker.produce(NewRecord::new(topic.clone(), vec![b'x'; 4 << 20]));
    let next = broker.produce(NewRecord::new(topic, "next"));
    let refused = large.await;
    assert!(matches!(refused, Err(ProduceError::TooLarge { .. })), "{refused:?}");
    assert_eq!(next.await.unwrap().offset, 0);
}

pub(crate) async fn an_unknown_topic_is_refused(fixture: &dyn Fixture) {
    let topic = crate::fixture::unique("missing");
    let refused = fixture.broker().produce(NewRecord::new(topic.clone(), "value")).await;
    assert_eq!(refused, Err(ProduceError::UnknownTopic { topic }));
}

pub(crate) async fn an_unknown_partition_is_refused(fixture: &dyn Fixture) {
    let topic = fixture.topic(3).await;
    let record = NewRecord { partition: Some(3), ..NewRecord::new(topic.clone(), "value") };
    let refused = fixture.broker().produce(record).await;
    assert_eq!(refused, Err(ProduceError::UnknownPartition { topic, partition: 3, partitions: 3 }));
}

pub(crate) async fn records_without_a_key_are_spread_over_all_partitions(fixture: &dyn Fixture) {
    let topic = fixture.topic(3).await;
    let mut partitions = BTreeSet::new();
    for number in 0..300 {
        let record = NewRecord::new(topic.clone(), format!("value {number}"));
        partitions.insert(fixture.broker().produce(record).await.unwrap().partition);
    }
    assert_eq!(partitions, BTreeSet::from([0, 1, 2]));
}

pub(crate) async fn a_given_partition_wins_over_the_key(fixture: &dyn Fixture) {
    let topic = fixture.topic(3).await;
    for partition in 0..3 {
        let record = NewRecord {
            key: Some(Bytes::from_static(b"key")),
            partition: Some(partition),
            ..NewRecord::new(topic.clone(), "value")
        };
        let produced = fixture.broker().produce(record).await.unwrap();
        assert_eq!((produced.partition, produced.offset), (partition, 0));
    }
}
