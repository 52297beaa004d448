//! What is there after a crash: everything that was acknowledged, and nothing else.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use keyway::{
    broker::{Broker, ProduceError},
    record::{NewRecord, TopicPartition},
};
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::runtime::Runtime;

use crate::{all, close, create, fill, open};

const PARTITIONS: u32 = 3;

fn copy(from: &Path, to: &Path, file: &str) {
    fs::copy(from.join(file), to.join(file)).unwrap();
}

/// A log whose records are in the write-ahead log, as after a crash: copied while it is open. The record with number
/// N is acknowledged before number N + 1 is written, each in a transaction of its own.
async fn crashed(directory: &Path, records: u64) {
    let running = tempfile::tempdir().unwrap();
    let broker = open(running.path());
    let topic = create(&broker, "topic", PARTITIONS).await;
    for number in 0..records {
        let partition = TopicPartition::new(topic.clone(), number as u32 % PARTITIONS);
        fill(&broker, &partition, number..number + 1).await;
    }
    copy(running.path(), directory, "keyway.db");
    copy(running.path(), directory, "keyway.db-wal");
    close(broker).await;
}

/// The numbers of all records, if they are a prefix of what was written, each in its place. None when not even the
/// topic is there.
async fn survivors(directory: &Path) -> Result<u64, TestCaseError> {
    let broker = open(directory);
    if broker.topic("topic").await.is_err() {
        close(broker).await;
        return Ok(0);
    }
    let mut count = 0;
    for number in 0..PARTITIONS {
        let partition = TopicPartition::new("topic", number);
        let records = all(&broker, &partition, 0).await;
        for (offset, record) in records.iter().enumerate() {
            let written = offset as u64 * u64::from(PARTITIONS) + u64::from(number);
            let value = format!("{partition} number {written:06}");
            prop_assert_eq!(record.offset, offset as u64);
            prop_assert_eq!(record.value.as_deref(), Some(value.as_bytes()));
        }
        count += records.len() as u64;
    }
    for number in 0..PARTITIONS {
        let end = broker.topic("topic").await.unwrap().partitions[number as usize].end;
        let expected = (count + u64::from(PARTITIONS - 1 - number)) / u64::from(PARTITIONS);
        prop_assert_eq!(end, expected, "the {} records are not the first", count);
    }
    // It goes on where it ended.
    fill(&broker, &TopicPartition::new("topic", 0), count..count + 1).await;
    close(broker).await;
    Ok(count)
}

#[test]
fn a_torn_write_leaves_a_prefix_of_what_was_written() {
    const RECORDS: u64 = 60;
    let runtime = Runtime::new().unwrap();
    let original = tempfile::tempdir().unwrap();
    runtime.block_on(crashed(original.path(), RECORDS));
    let wal = fs::read(original.path().join("keyway.db-wal")).unwrap();
    let whole = tempfile::tempdir().unwrap();
    copy(original.path(), whole.path(), "keyway.db");
    copy(original.path(), whole.path(), "keyway.db-wal");
    assert_eq!(runtime.block_on(survivors(whole.path())).unwrap(), RECORDS, "nothing was torn");

    // Cut short, and perhaps with a sector before the cut that was never written.
    let torn = (any::<prop::sample::Index>(), proptest::option::of(0usize..64));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(150));
    let result = runner.run(&torn, |(cut, missing)| {
        let mut wal = wal[..cut.index(wal.len() + 1)].to_vec();
        if let Some(sector) = missing {
            let end = wal.len() - wal.len().min(sector * 512);
            wal[end.saturating_sub(512)..end].fill(0);
        }
        let directory = tempfile::tempdir().unwrap();
        copy(original.path(), directory.path(), "keyway.db");
        fs::write(directory.path().join("keyway.db-wal"), wal).unwrap();
        let count = runtime.block_on(survivors(directory.path()))?;
        prop_assert!(count <= RECORDS);
        Ok(())
    });
    result.unwrap();
}

/// The variable that makes this very test binary a process that writes until it is killed.
const CHILD: &str = "KEYWAY_TEST_EMBEDDED_CHILD";

/// Not a test by itself: what the killed process does. Prints each record's number once it is acknowledged.
#[tokio::test]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
async fn child_that_writes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let broker = open(Path::new(&directory));
    let topic = create(&broker, "topic", PARTITIONS).await;
    let mut first = 0;
    for number in 0..PARTITIONS as usize {
        first += broker.topic(&topic).await.unwrap().partitions[number].end;
    }
    for number in (first..).step_by(10) {
        let batch: Vec<_> = (number..number + 10)
            .map(|number| broker.produce(NewRecord::new(topic.clone(), number.to_string())))
            .collect();
        for (number, acknowledgement) in (number..).zip(batch) {
            let produced: Result<_, ProduceError> = acknowledgement.await;
            let produced = produced.unwrap();
            println!("acknowledged {number} {} {}", produced.partition, produced.offset);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_the_process_was_killed_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..8u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child_that_writes_until_it_is_killed", "--exact", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut lines = stdout.lines().map_while(Result::ok);
        let enough = fastrand::usize(20..400);
        let mut read = |line: String| -> Option<()> {
            // The harness writes its own beginning of the first line.
            let (_, numbers) = line.split_once("acknowledged ")?;
            let numbers: Vec<u64> = numbers.split(' ').filter_map(|it| it.parse().ok()).collect();
            let [number, partition, offset] = numbers[..] else { return None };
            acknowledged.push((number, partition as u32, offset));
            Some(())
        };
        let seen = lines.by_ref().filter_map(&mut read).take(enough).count();
        assert_eq!(seen, enough, "the child of round {round} ended by itself");
        child.kill().unwrap();
        lines.take_while(|line| line.split(' ').count() == 4).filter_map(&mut read).count();
        child.wait().unwrap();
    }
    let broker = open(directory.path());
    for (number, partition, offset) in acknowledged {
        let partition = TopicPartition::new("topic", partition);
        let record = broker.records(&partition, offset, 1).await.unwrap();
        assert_eq!(record[0].value.as_deref(), Some(number.to_string().as_bytes()));
    }
    close(broker).await;
}
