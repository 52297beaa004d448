//! Which partition a key gets: the one that Kafka's own Java client gives it.

use bytes::Bytes;
use keyway::record::{NewRecord, partition_for_key};

use crate::fixture::Fixture;

/// What `JavaPartitions.java` printed: a heading, then a key in hexadecimal and its partition for each number of
/// partitions that the heading names.
const TABLE: &str = include_str!("../java_partitions.tsv");

pub(crate) async fn keys_get_the_partitions_that_java_gives_them(fixture: &dyn Fixture) {
    let broker = fixture.broker();
    for (partitions, keys) in by_count() {
        let topic = fixture.topic(partitions).await;
        let written: Vec<_> = keys
            .iter()
            .map(|(key, _)| {
                let key = Some(key.clone());
                broker.produce(NewRecord { key, ..NewRecord::new(topic.clone(), "") })
            })
            .collect();
        for ((key, partition), acknowledgement) in keys.iter().zip(written) {
            assert_eq!(acknowledgement.await.unwrap().partition, *partition, "{key:?}");
            assert_eq!(partition_for_key(key, partitions), *partition, "{key:?}");
        }
    }
}

/// For each number of partitions every key with its partition.
fn by_count() -> Vec<(u32, Vec<(Bytes, u32)>)> {
    let mut lines = TABLE.lines();
    let heading = lines.next().unwrap().split('\t').skip(1);
    let mut table: Vec<_> = heading
        .map(|count| (count.trim_start_matches("of ").parse().unwrap(), Vec::new()))
        .collect();
    for line in lines {
        let mut columns = line.split('\t');
        let key = Bytes::from(from_hex(columns.next().unwrap()));
        for (column, (_, keys)) in columns.zip(&mut table) {
            keys.push((key.clone(), column.parse().unwrap()));
        }
    }
    table
}

fn from_hex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}
