//! Topics: never made by mention, and seen soon when somebody else makes or grows one.

use keyway::{
    broker::{Broker, BrokerError, EnsuredTopic, ProduceError, TopicSpec},
    record::{NewRecord, TopicPartition},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewPartitions, ResourceSpecifier},
    client::DefaultClientContext,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use crate::{PATIENCE, connect, eventually, shared, unique};

#[tokio::test]
async fn a_topic_is_not_made_by_writing_to_it_or_asking_for_it() {
    let Some(address) = shared().await else { return };
    let broker = connect(address);
    let topic = unique("mentioned");
    let refused = broker.produce(NewRecord::new(topic.clone(), "v")).await;
    assert_eq!(refused, Err(ProduceError::UnknownTopic { topic: topic.clone() }));
    let unknown = BrokerError::UnknownTopic(topic.to_string());
    assert_eq!(broker.partitions(&topic).await, Err(unknown.clone()));
    assert_eq!(broker.topic(&topic).await, Err(unknown.clone()));
    assert_eq!(broker.records(&TopicPartition::new(topic.clone(), 0), 0, 1).await, Err(unknown));
    let topics = broker.topics().await.unwrap();
    assert!(topics.iter().all(|info| info.name != topic), "{topics:?}");
}

#[tokio::test]
async fn a_partition_that_is_added_while_running_can_be_written_to() {
    let Some(address) = shared().await else { return };
    let broker = connect(address);
    let topic = crate::topic(&broker, 1).await;
    let record = NewRecord { partition: Some(1), ..NewRecord::new(topic.clone(), "v") };
    let expected =
        ProduceError::UnknownPartition { topic: topic.clone(), partition: 1, partitions: 1 };
    assert_eq!(broker.produce(record.clone()).await, Err(expected));

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
    let grown = NewPartitions::new(&topic, 2);
    admin.create_partitions([&grown], &AdminOptions::new()).await.unwrap();
    let produced = eventually("the new partition takes a record", async || {
        broker.produce(record.clone()).await.ok()
    })
    .await;
    assert_eq!(produced.partition, 1);
}

#[tokio::test]
async fn a_topic_that_exists_with_other_partitions_is_left_as_it_is() {
    let Some(address) = shared().await else { return };
    let broker = connect(address);
    let spec = TopicSpec {
        name: unique("topic"),
        partitions: 3,
        replication_factor: Some(1),
        keep_forever: false,
    };
    assert_eq!(broker.ensure_topic(&spec).await, Ok(EnsuredTopic::Created));
    assert_eq!(broker.ensure_topic(&spec).await, Ok(EnsuredTopic::Existed));
    let other = TopicSpec { partitions: 5, ..spec };
    assert_eq!(broker.ensure_topic(&other).await, Ok(EnsuredTopic::Differs { partitions: 3 }));
    assert_eq!(broker.partitions(&other.name).await, Ok(3));
}

#[tokio::test]
async fn more_replicas_than_brokers_are_an_error_that_says_so() {
    let Some(address) = shared().await else { return };
    let spec = TopicSpec {
        name: unique("topic"),
        partitions: 1,
        replication_factor: Some(3),
        keep_forever: false,
    };
    let error = connect(address).ensure_topic(&spec).await.unwrap_err();
    assert!(
        matches!(&error, BrokerError::Fatal(reason) if reason.contains("replication")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_look_at_records_begins_at_the_offset_and_ends_at_the_limit_or_the_end() {
    let Some(address) = shared().await else { return };
    let broker = connect(address);
    let topic = crate::topic(&broker, 1).await;
    for number in 0..10 {
        broker.produce(NewRecord::new(topic.clone(), format!("{number}"))).await.unwrap();
    }
    let at = TopicPartition::new(topic.clone(), 0);
    let offsets = async |from, limit| -> Vec<u64> {
        let records = broker.records(&at, from, limit).await.unwrap();
        records.into_iter().map(|record| record.offset).collect()
    };
    assert_eq!(offsets(0, 3).await, [0, 1, 2]);
    assert_eq!(offsets(8, 100).await, [8, 9]);
    assert!(offsets(10, 100).await.is_empty());
    let beyond = TopicPartition::new(topic, 1);
    let unknown = Err(BrokerError::UnknownPartition(beyond.clone()));
    assert_eq!(broker.records(&beyond, 0, 1).await, unknown);
    let info = broker.topic(&at.topic).await.unwrap();
    assert_eq!((info.partitions[0].beginning, info.partitions[0].end), (0, 10));
}

#[tokio::test]
async fn a_topic_that_is_kept_is_made_without_retention() {
    let Some(address) = shared().await else { return };
    let spec = TopicSpec {
        name: unique("topic"),
        partitions: 1,
        replication_factor: None,
        keep_forever: true,
    };
    assert_eq!(connect(address).ensure_topic(&spec).await, Ok(EnsuredTopic::Created));
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
    let resource = ResourceSpecifier::Topic(&spec.name);
    let mut found = admin.describe_configs([&resource], &AdminOptions::new()).await.unwrap();
    let config = found.pop().unwrap().unwrap();
    for (name, value) in
        [("retention.ms", "-1"), ("retention.bytes", "-1"), ("cleanup.policy", "delete")]
    {
        assert_eq!(config.get(name).unwrap().value.as_deref(), Some(value), "{name}");
    }
}

#[tokio::test]
async fn what_an_open_transaction_wrote_is_before_what_is_written_and_behind_the_end() {
    let Some(address) = shared().await else { return };
    let broker = connect(address);
    let topic = crate::topic(&broker, 1).await;
    let at = TopicPartition::new(topic.clone(), 0);
    let record = NewRecord { partition: Some(0), ..NewRecord::new(topic.clone(), "before") };
    eventually("a record is written", async || broker.produce(record.clone()).await.ok()).await;
    let ends = async || {
        let end = broker.topic(&topic).await.unwrap().partitions[0].end;
        (end, broker.written(&at).await.unwrap())
    };
    assert_eq!(ends().await, (1, 1));

    let (name, address, patience) = (topic.to_string(), address.to_owned(), PATIENCE);
    let open = tokio::task::spawn_blocking(move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", address).set("transactional.id", &name);
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(patience).unwrap();
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::<str, str>::to(&name).partition(0).payload("open")).unwrap();
        producer.flush(patience).unwrap();
        producer
    });
    let producer = open.await.unwrap();
    assert_eq!(ends().await, (1, 2));
    tokio::task::spawn_blocking(move || producer.commit_transaction(patience).unwrap())
        .await
        .unwrap();
    let settled = async || Some(ends().await).filter(|ends| *ends == (3, 3)); // and a marker
    eventually("the transaction is settled", settled).await;
}
