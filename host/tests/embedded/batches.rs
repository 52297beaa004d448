//! Requests in flight share a transaction.

use std::{collections::BTreeSet, sync::Arc};

use keyway::{
    broker::{Broker, ProduceError},
    record::{NewRecord, TopicPartition},
};

use crate::{close, create, numbered, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn producers_at_once_form_batches_and_keep_their_order() {
    const PRODUCERS: u64 = 16;
    const RECORDS: u64 = 200;
    let directory = tempfile::tempdir().unwrap();
    let broker = Arc::new(open(directory.path()));
    let topic = create(&broker, "topic", 4).await;
    let before = broker.transactions();
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..PRODUCERS {
        let (broker, topic) = (broker.clone(), topic.clone());
        producers.spawn(async move {
            let partition = TopicPartition::new(topic, producer as u32 % 4);
            let mut offsets = Vec::new();
            for number in 0..RECORDS {
                let produced = broker.produce(numbered(&partition, number)).await.unwrap();
                offsets.push((produced.partition, produced.offset));
            }
            assert!(offsets.is_sorted());
            offsets
        });
    }
    let offsets: Vec<_> = producers.join_all().await.concat();
    let written = PRODUCERS * RECORDS;
    assert_eq!(offsets.iter().collect::<BTreeSet<_>>().len() as u64, written, "each has its own");
    let transactions = broker.transactions() - before;
    assert!(transactions < written, "{transactions} transactions for {written} records");
    broker.close(crate::PATIENCE).await;
}

#[tokio::test]
async fn a_record_that_is_refused_fails_none_of_its_batch() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    let partition = TopicPartition::new(create(&broker, "topic", 1).await, 0);
    let good = broker.produce(numbered(&partition, 0));
    let record = || numbered(&partition, 1);
    let bad = [
        broker.produce(NewRecord { partition: Some(1), ..record() }),
        broker.produce(NewRecord { topic: "missing".into(), ..record() }),
        broker.produce(NewRecord { timestamp: Some(u64::MAX), ..record() }),
        broker.produce(NewRecord { value: Some(vec![0; 2 << 20].into()), ..record() }),
    ];
    let also_good = broker.produce(numbered(&partition, 2));
    assert_eq!((good.await.unwrap().offset, also_good.await.unwrap().offset), (0, 1));
    let [partition, topic, timestamp, size] = bad;
    assert!(matches!(partition.await, Err(ProduceError::UnknownPartition { .. })));
    assert!(matches!(topic.await, Err(ProduceError::UnknownTopic { .. })));
    assert!(matches!(timestamp.await, Err(ProduceError::Refused { .. })));
    assert!(matches!(size.await, Err(ProduceError::TooLarge { .. })));
    close(broker).await;
}
