//! Old records go, oldest first; offsets never restart; groups that lose records are named.

use std::{sync::Arc, time::Duration};

use keyway::{
    broker::{
        Broker, Committed, MemberEvent, MemberSpec, OffsetCommit, PartitionOffsets, TopicSpec,
        embedded::{Bounds, Embedded},
    },
    config::{Retention, Start},
    record::{NewRecord, TopicPartition},
};

use crate::{all, assigned, close, create, eventually, fill, log, open};

async fn offsets(broker: &Embedded, partition: &TopicPartition) -> PartitionOffsets {
    broker.topic(&partition.topic).await.unwrap().partitions[partition.partition as usize]
}

fn by_bytes(bytes: u64) -> Retention {
    Retention { time: None, bytes: Some(bytes) }
}

fn by_time(time: Duration) -> Retention {
    Retention { time: Some(time), bytes: None }
}

fn spec(group: &str, topic: &Arc<str>) -> MemberSpec {
    MemberSpec {
        group: group.into(),
        topics: vec![topic.clone()],
        start: Start::Earliest,
        index: 0,
        instance_id: None,
    }
}

#[tokio::test]
async fn a_partition_that_has_outgrown_its_bytes_loses_its_oldest_records() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Embedded::open(directory.path(), by_bytes(10_000)).unwrap();
    let topic = create(&broker, "topic", 2).await;
    let [large, small] = [0, 1].map(|number| TopicPartition::new(topic.clone(), number));
    fill(&broker, &small, 0..10).await;
    fill(&broker, &large, 0..3_000).await;
    eventually("its oldest records go", || async {
        let records = all(&broker, &large, 0).await;
        records.iter().map(|record| record.size()).sum::<usize>() <= 10_000
    })
    .await;
    let PartitionOffsets { beginning, end } = offsets(&broker, &large).await;
    let kept = all(&broker, &large, 0).await;
    assert_eq!((kept[0].offset, end, kept.len() as u64), (beginning, 3_000, end - beginning));
    assert!(kept.len() > 100, "no more than must: {}", kept.len());
    assert_eq!(offsets(&broker, &small).await, PartitionOffsets { beginning: 0, end: 10 });
    close(broker).await;
}

#[tokio::test]
async fn a_topic_that_is_kept_loses_nothing_even_after_the_log_was_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Embedded::open(directory.path(), by_bytes(10_000)).unwrap();
    let spec = TopicSpec {
        name: "kept".into(),
        partitions: 1,
        replication_factor: None,
        keep_forever: true,
    };
    broker.ensure_topic(&spec).await.unwrap();
    let kept = TopicPartition::new("kept", 0);
    fill(&broker, &kept, 0..1_500).await;
    close(broker).await;
    let broker = Embedded::open(directory.path(), by_bytes(10_000)).unwrap();
    let other = TopicPartition::new(create(&broker, "other", 1).await, 0);
    fill(&broker, &kept, 1_500..3_000).await;
    fill(&broker, &other, 0..3_000).await;
    eventually("records of the other topic go", || async {
        offsets(&broker, &other).await.beginning > 1_000
    })
    .await;
    assert_eq!(offsets(&broker, &kept).await, PartitionOffsets { beginning: 0, end: 3_000 });
    close(broker).await;
}

#[tokio::test]
async fn old_records_go_and_offsets_do_not_restart() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Embedded::open(directory.path(), by_time(Duration::from_millis(400))).unwrap();
    let partition = TopicPartition::new(create(&broker, "topic", 1).await, 0);
    fill(&broker, &partition, 0..2_500).await;
    eventually("all of them go", || async {
        offsets(&broker, &partition).await == PartitionOffsets { beginning: 2_500, end: 2_500 }
    })
    .await;
    assert_eq!(broker.records(&partition, 0, 10).await, Ok(Vec::new()));
    close(broker).await;

    let broker = open(directory.path());
    assert_eq!(
        offsets(&broker, &partition).await,
        PartitionOffsets { beginning: 2_500, end: 2_500 }
    );
    fill(&broker, &partition, 2_500..2_501).await;
    assert_eq!(all(&broker, &partition, 0).await[0].offset, 2_500);
    close(broker).await;
}

#[tokio::test]
async fn a_record_with_an_old_timestamp_is_not_gone_before_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Embedded::open(directory.path(), by_time(Duration::from_secs(3_600))).unwrap();
    let partition = TopicPartition::new(create(&broker, "topic", 1).await, 0);
    let record = crate::numbered(&partition, 0);
    let record = keyway::record::NewRecord { timestamp: Some(1), ..record };
    broker.produce(record).await.unwrap();
    fill(&broker, &partition, 1..2).await;
    assert_eq!(all(&broker, &partition, 0).await.len(), 2);
    close(broker).await;
}

#[tokio::test]
async fn a_group_that_loses_records_is_named_once_and_goes_on_behind_them() {
    log::capture();
    let directory = tempfile::tempdir().unwrap();
    let broker = Embedded::open(directory.path(), by_bytes(5_000)).unwrap();
    let topic = create(&broker, "retained", 1).await;
    let partition = TopicPartition::new(topic.clone(), 0);
    fill(&broker, &partition, 0..10).await;
    let mut member = broker.join(spec("slow-group", &topic)).unwrap();
    assigned(&mut member).await;
    let committed = Committed { offset: 5, metadata: String::new() };
    let commit = OffsetCommit { partition: partition.clone(), committed };
    member.commands.commit(vec![commit]).await.unwrap();
    drop(member);

    fill(&broker, &partition, 10..5_000).await;
    eventually("retention reaches its bound", || async {
        offsets(&broker, &partition).await.beginning > 4_000
    })
    .await;
    fill(&broker, &partition, 5_000..5_500).await;
    eventually("and goes on", || async { offsets(&broker, &partition).await.beginning > 5_000 })
        .await;
    let said = log::lines(&["WARN", "Retention has removed", "slow-group", "retained", "from=5"]);
    assert_eq!(said.len(), 1, "{said:#?}");

    let mut member = broker.join(spec("slow-group", &topic)).unwrap();
    let first = loop {
        let event = member.events.recv().await.expect("the member goes on");
        if let MemberEvent::Records(records) = event {
            break records[0].offset;
        }
    };
    assert!(first > 5_000);
    let said = log::lines(&["WARN", "it goes on behind them", "slow-group", "committed=5"]);
    assert_eq!(said.len(), 1, "{said:#?}");
    close(broker).await;
}

#[tokio::test]
async fn retention_makes_room_in_a_full_file() {
    let directory = tempfile::tempdir().unwrap();
    let bounds = Bounds { pages: Some(500), ..Bounds::default() };
    let retention = by_time(Duration::from_secs(2));
    let broker = Embedded::open_within(directory.path(), retention, bounds).unwrap();
    let partition = TopicPartition::new(create(&broker, "topic", 1).await, 0);
    let record = || NewRecord::new(partition.topic.clone(), vec![b'x'; 64 << 10]);
    while broker.produce(record()).await.is_ok() {}
    eventually("there is room again", || async { broker.produce(record()).await.is_ok() }).await;
    close(broker).await;
}
