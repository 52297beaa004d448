//! A full disk: nothing is acknowledged that is not there, and writing works again when there is room.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use keyway::{
    broker::{
        Broker, Health, ProduceError, Produced,
        embedded::{Bounds, Embedded},
    },
    record::{NewRecord, TopicPartition},
};

use crate::{FOREVER, all, close, create, eventually};

/// Writes records of 64 KiB, first many at once and then one by one, until one is refused. Tells which were
/// acknowledged.
async fn fill_up(broker: &Embedded, partition: &TopicPartition) -> Vec<Produced> {
    let mut acknowledged = Vec::new();
    for at_once in [8, 1] {
        while write(broker, partition, at_once, &mut acknowledged).await {
            assert!(acknowledged.len() < 1_000, "it never fills up");
        }
    }
    acknowledged
}

/// Whether all of `count` records were taken.
async fn write(
    broker: &Embedded,
    partition: &TopicPartition,
    count: usize,
    acknowledged: &mut Vec<Produced>,
) -> bool {
    let record = || NewRecord::new(partition.topic.clone(), vec![b'x'; 64 << 10]);
    let batch: Vec<_> = (0..count).map(|_| broker.produce(record())).collect();
    let mut all_taken = true;
    for acknowledgement in batch {
        match acknowledgement.await {
            Ok(produced) => acknowledged.push(produced),
            Err(ProduceError::Unavailable { reason }) => {
                assert!(reason.contains("full"), "{reason}");
                all_taken = false;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    all_taken
}

/// Fills the disk up and looks at what is there.
async fn is_honest(broker: &Embedded, partition: &TopicPartition) -> u64 {
    let acknowledged = fill_up(broker, partition).await;
    assert!(!acknowledged.is_empty());
    let there = all(broker, partition, 0).await;
    let offsets: Vec<_> = acknowledged.iter().map(|produced| produced.offset).collect();
    assert_eq!(there.iter().map(|record| record.offset).collect::<Vec<_>>(), offsets);
    offsets.len() as u64
}

#[tokio::test]
async fn a_full_file_refuses_what_it_cannot_keep_and_keeps_what_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let bounds = Bounds { pages: Some(1_000), ..Bounds::default() };
    let broker = Embedded::open_within(directory.path(), FOREVER, bounds).unwrap();
    let partition = TopicPartition::new(create(&broker, "topic", 1).await, 0);
    let count = is_honest(&broker, &partition).await;
    let Health::Unavailable(reason) = broker.health() else { panic!("nothing makes room") };
    assert!(reason.contains("full"), "{reason}");
    let small = NewRecord::new(partition.topic.clone(), "small");
    assert_eq!(broker.produce(small).await.unwrap().offset, count, "what fits is taken");
    close(broker).await;

    let roomy = crate::open(directory.path());
    assert_eq!(all(&roomy, &partition, 0).await.len() as u64, count + 1);
    let large = NewRecord::new(partition.topic.clone(), vec![b'y'; 64 << 10]);
    assert_eq!(roomy.produce(large).await.unwrap().offset, count + 1);
    close(roomy).await;
}

/// A small disk, where this process may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=8m", "tmpfs"], directory.path())
            .then(|| Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["-l"], self.0.path());
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).arg(path).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "a skipped test must be seen")]
async fn a_full_disk_refuses_what_it_cannot_keep_and_writing_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!(
            "SKIPPED a_full_disk_...: a tmpfs cannot be mounted here; a bounded file was tested"
        );
        return;
    };
    let path = disk.0.path();
    let ballast = path.join("ballast");
    std::fs::write(&ballast, vec![0; 4 << 20]).unwrap();
    let broker = crate::open(&path.join("data"));
    let partition = TopicPartition::new(create(&broker, "topic", 1).await, 0);
    let count = is_honest(&broker, &partition).await;

    std::fs::remove_file(&ballast).unwrap();
    eventually("it is ready again", || async { broker.health() == Health::Ready }).await;
    let large = NewRecord::new(partition.topic.clone(), vec![b'y'; 64 << 10]);
    assert_eq!(broker.produce(large).await.unwrap().offset, count);
    assert_eq!(all(&broker, &partition, 0).await.len() as u64, count + 1);
    close(broker).await;
}
