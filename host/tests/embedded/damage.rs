//! A damaged file gives an error with its cause, or what was written; never anything else.

use std::{fs, path::Path, time::Duration};

use keyway::{
    broker::{
        Broker, BrokerError, Committed, MemberEvent, MemberSpec, OffsetCommit, TopicInfo,
        embedded::{Embedded, OpenError},
    },
    config::Start,
    record::{Record, TopicPartition},
};
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::runtime::Runtime;

use crate::{FOREVER, all, assigned, close, create, fill, open};

fn file(directory: &Path) -> std::path::PathBuf {
    directory.join("keyway.db")
}

fn spec(topic: &str) -> MemberSpec {
    MemberSpec {
        group: "group".into(),
        topics: vec![topic.into()],
        start: Start::Earliest,
        index: 0,
        instance_id: None,
    }
}

/// Flips one bit wherever `needle` is: a page may hold remains of what has moved to another.
fn damage(directory: &Path, needle: &str) {
    let mut bytes = fs::read(file(directory)).unwrap();
    let places = bytes.windows(needle.len()).enumerate();
    let places = places.filter(|(_, window)| *window == needle.as_bytes());
    let places: Vec<_> = places.map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + needle.len() - 1] ^= 1;
    }
    fs::write(file(directory), bytes).unwrap();
}

#[tokio::test]
async fn a_changed_byte_in_a_record_is_an_error_and_the_records_before_it_are_right() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    let partition = TopicPartition::new(create(&broker, "topic", 1).await, 0);
    fill(&broker, &partition, 0..100).await;
    close(broker).await;
    damage(directory.path(), "number 000050");

    let broker = open(directory.path());
    let before = broker.records(&partition, 0, 50).await.unwrap();
    assert_eq!(before.len(), 50);
    assert_eq!(broker.records(&partition, 51, 100).await.unwrap().len(), 49);
    let refused = broker.records(&partition, 0, 51).await;
    let damaged = "the log is damaged: the record topic/0@50 fails its checksum";
    assert_eq!(refused, Err(BrokerError::Fatal(damaged.into())));

    let mut member = broker.join(spec("topic")).unwrap();
    let mut failed = None;
    while let Some(event) = member.events.recv().await {
        match event {
            MemberEvent::Records(records) => assert!(records.iter().all(|it| it.offset < 50)),
            MemberEvent::Failed(reason) => failed = Some(reason),
            _ => {}
        }
    }
    assert_eq!(failed.as_deref(), Some(damaged));
    close(broker).await;
}

#[tokio::test]
async fn a_changed_topic_name_or_commit_refuses_the_log() {
    for needle in ["a-topic-with-a-name", "metadata of a commit"] {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path()).await;
        damage(directory.path(), needle);
        let refused = Embedded::open(directory.path(), FOREVER).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");
        assert!(refused.to_string().contains("fails its checksum"), "{refused}");
    }
}

#[tokio::test]
async fn records_that_are_missing_at_the_end_or_in_the_middle_are_noticed() {
    for (missing, error) in
        [("99", "should hold the offsets"), ("50", "missing the offsets 50 to 50")]
    {
        let directory = tempfile::tempdir().unwrap();
        let broker = open(directory.path());
        let partition = TopicPartition::new(create(&broker, "topic", 1).await, 0);
        fill(&broker, &partition, 0..100).await;
        close(broker).await;
        let connection = rusqlite::Connection::open(file(directory.path())).unwrap();
        connection.execute(&format!("DELETE FROM records WHERE position = {missing}"), []).unwrap();
        drop(connection);
        let said = match Embedded::open(directory.path(), FOREVER) {
            Err(refused) => refused.to_string(),
            Ok(broker) => broker.records(&partition, 0, 100).await.unwrap_err().to_string(),
        };
        assert!(said.contains(error), "{said}");
    }
}

/// Everything there is to ask.
#[derive(Clone, Debug, PartialEq)]
struct Answers {
    topics: Vec<TopicInfo>,
    records: Vec<Vec<Record>>,
    committed: Vec<(TopicPartition, Committed)>,
}

const TOPIC: &str = "a-topic-with-a-name";

/// A log with a little of everything, closed.
async fn written(directory: &Path) -> Answers {
    let broker = open(directory);
    let topic = create(&broker, TOPIC, 2).await;
    for number in 0..2 {
        fill(&broker, &TopicPartition::new(topic.clone(), number), 0..150).await;
    }
    create(&broker, "another", 1).await;
    let mut member = broker.join(spec(TOPIC)).unwrap();
    assigned(&mut member).await;
    let committed = Committed { offset: 7, metadata: "metadata of a commit".into() };
    let partition = TopicPartition::new(topic.clone(), 1);
    member.commands.commit(vec![OffsetCommit { partition, committed }]).await.unwrap();
    drop(member);
    let mut records = Vec::new();
    for number in 0..2 {
        records.push(all(&broker, &TopicPartition::new(topic.clone(), number), 0).await);
    }
    let topics = broker.topics().await.unwrap();
    let committed = broker.group("group").await.unwrap().committed;
    close(broker).await;
    Answers { topics, records, committed }
}

/// Asks everything of a damaged log. What is answered must be what was written.
async fn ask(directory: &Path, expected: &Answers) -> Result<(), TestCaseError> {
    let Ok(broker) = Embedded::open(directory, FOREVER) else { return Ok(()) };
    prop_assert_eq!(&broker.topics().await.unwrap(), &expected.topics);
    for (number, expected) in expected.records.iter().enumerate() {
        let partition = TopicPartition::new(TOPIC, number as u32);
        for from in (0..150).step_by(50) {
            if let Ok(records) = broker.records(&partition, from as u64, 50).await {
                prop_assert_eq!(&records, &expected[from..from + 50]);
            }
        }
    }
    match broker.group("group").await {
        Ok(group) => prop_assert_eq!(&group.committed, &expected.committed),
        Err(error) => prop_assert!(matches!(error, BrokerError::Fatal(_)), "{:?}", error),
    }
    broker.close(Duration::from_secs(10)).await;
    Ok(())
}

#[test]
fn whatever_is_damaged_no_answer_is_ever_wrong() {
    let runtime = Runtime::new().unwrap();
    let original = tempfile::tempdir().unwrap();
    let expected = runtime.block_on(written(original.path()));
    let bytes = fs::read(file(original.path())).unwrap();
    let patch = (
        any::<prop::sample::Index>(),
        prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            proptest::collection::vec(any::<u8>(), 1..64),
            Just(vec![0; 512]),
            Just(vec![0; 4096]),
        ],
        any::<bool>(),
    );
    let mut runner = TestRunner::new(ProptestConfig::with_cases(400));
    let result = runner.run(&patch, |(at, patch, to_page)| {
        let mut damaged = bytes.clone();
        let at = at.index(damaged.len());
        let at = if to_page { at - at % 4096 } else { at };
        let end = (at + patch.len()).min(damaged.len());
        damaged[at..end].copy_from_slice(&patch[..end - at]);
        let directory = tempfile::tempdir().unwrap();
        fs::write(file(directory.path()), damaged).unwrap();
        runtime.block_on(ask(directory.path(), &expected))
    });
    result.unwrap();
}
