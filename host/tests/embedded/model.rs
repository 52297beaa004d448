//! The log against a naive one: a vector a partition.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use keyway::{
    broker::{Broker, embedded::Embedded},
    record::{Header, NewRecord, TopicPartition},
};
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::runtime::Runtime;

use crate::{close, create, open};

const PARTITIONS: u32 = 3;

#[derive(Clone, Debug)]
enum Step {
    /// Write these at once.
    Produce(Vec<(u32, NewRecord)>),
    /// Look at records.
    Read { partition: u32, from: u64, limit: usize },
    /// Close and open.
    Reopen,
}

fn bytes() -> impl Strategy<Value = Option<Bytes>> {
    let short = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let long = (4_000usize..20_000).prop_map(|length| Bytes::from(vec![7; length]));
    proptest::option::weighted(0.8, prop_oneof![9 => short, 1 => long])
}

fn record() -> impl Strategy<Value = NewRecord> {
    let header = ("[a-z]{0,4}", bytes()).prop_map(|(key, value)| Header { key, value });
    let headers = proptest::collection::vec(header, 0..3);
    let timestamp = proptest::option::of(0..=i64::MAX as u64);
    (bytes(), bytes(), headers, timestamp).prop_map(|(key, value, headers, timestamp)| NewRecord {
        timestamp,
        key,
        value,
        headers,
        ..NewRecord::new("topic", Bytes::new())
    })
}

fn step() -> impl Strategy<Value = Step> {
    let record = (0..PARTITIONS, record());
    prop_oneof![
        5 => proptest::collection::vec(record, 1..20).prop_map(Step::Produce),
        3 => (0..PARTITIONS, 0u64..80, 0usize..40)
            .prop_map(|(partition, from, limit)| Step::Read { partition, from, limit }),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Model([Vec<NewRecord>; PARTITIONS as usize]);

async fn produce(
    broker: &Embedded,
    model: &mut Model,
    batch: Vec<(u32, NewRecord)>,
) -> Result<(), TestCaseError> {
    let mut waiting = Vec::new();
    for (partition, record) in batch {
        let record = NewRecord { partition: Some(partition), ..record };
        let expected = &mut model.0[partition as usize];
        waiting.push((partition, expected.len(), broker.produce(record.clone())));
        expected.push(record);
    }
    for (partition, offset, acknowledgement) in waiting {
        let produced = acknowledgement.await.unwrap();
        prop_assert_eq!((produced.partition, produced.offset), (partition, offset as u64));
        let given = &mut model.0[partition as usize][offset].timestamp;
        prop_assert!(given.is_none_or(|given| given == produced.timestamp));
        *given = Some(produced.timestamp);
    }
    Ok(())
}

async fn run(directory: &Path, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut broker = open(directory);
    let topic: Arc<str> = create(&broker, "topic", PARTITIONS).await;
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Produce(batch) => produce(&broker, &mut model, batch).await?,
            Step::Read { partition, from, limit } => {
                let at = TopicPartition::new(topic.clone(), partition);
                let read = broker.records(&at, from, limit).await.unwrap();
                let expected = &model.0[partition as usize];
                let start = expected.len().min(from as usize);
                let expected = &expected[start..expected.len().min(start + limit)];
                prop_assert_eq!(read.len(), expected.len());
                for (offset, (read, expected)) in (from..).zip(read.iter().zip(expected)) {
                    prop_assert_eq!(read.offset, offset);
                    prop_assert_eq!(&read.key, &expected.key);
                    prop_assert_eq!(&read.value, &expected.value);
                    prop_assert_eq!(&read.headers, &expected.headers);
                    prop_assert_eq!(read.timestamp, expected.timestamp);
                }
            }
            Step::Reopen => {
                close(broker).await;
                broker = open(directory);
            }
        }
    }
    close(broker).await;
    Ok(())
}

#[test]
fn the_log_agrees_with_a_vector() {
    let runtime = Runtime::new().unwrap();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(40));
    let steps = proptest::collection::vec(step(), 1..20);
    let result = runner.run(&steps, |steps| {
        let directory = tempfile::tempdir().unwrap();
        runtime.block_on(run(directory.path(), steps))
    });
    result.unwrap();
}
