//! Whose file is opened, and by whom.

use std::fs;

use keyway::broker::{Broker, Health, TopicInfo, embedded::OpenError};
use rusqlite::Connection;

use crate::{FOREVER, close, create, fill, open};
use keyway::{broker::embedded::Embedded, record::TopicPartition};

#[tokio::test]
async fn a_second_broker_on_the_same_directory_is_refused_and_told_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let refused = Embedded::open(directory.path(), FOREVER).unwrap_err();
    let this = std::process::id();
    assert!(
        matches!(&refused, OpenError::InUse { process: Some(process), .. } if *process == this),
        "{refused:?}"
    );
    assert_eq!(
        refused.to_string(),
        format!(
            "{} is in use by another keyway (process {this}); stop it or choose another [broker] path",
            directory.path().display()
        )
    );
    close(first).await;
    close(open(directory.path())).await;
}

#[tokio::test]
async fn what_was_written_is_there_when_it_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(&directory.path().join("made/when/missing"));
    let topic = create(&broker, "topic", 3).await;
    fill(&broker, &TopicPartition::new(topic.clone(), 1), 0..10).await;
    let before = broker.topics().await.unwrap();
    close(broker).await;
    let broker = open(&directory.path().join("made/when/missing"));
    assert_eq!(broker.topics().await.unwrap(), before);
    assert_eq!(broker.health(), Health::Ready);
    close(broker).await;
}

#[tokio::test]
async fn a_closed_broker_takes_nothing_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    let topic = create(&broker, "topic", 1).await;
    broker.close(crate::PATIENCE).await;
    let refused = broker.produce(keyway::record::NewRecord::new(topic, "late")).await;
    assert_eq!(refused.unwrap_err().to_string(), "the broker is closed");
    assert_eq!(broker.health(), Health::Unavailable("the broker is closed".into()));
}

#[tokio::test]
async fn what_was_handed_over_before_closing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let broker = open(directory.path());
    let partition = TopicPartition::new(create(&broker, "topic", 1).await, 0);
    let given: Vec<_> =
        (0..500).map(|number| broker.produce(crate::numbered(&partition, number))).collect();
    broker.close(crate::PATIENCE).await;
    for acknowledgement in given {
        acknowledgement.await.unwrap();
    }
    drop(broker);
    let broker = open(directory.path());
    assert_eq!(crate::all(&broker, &partition, 0).await.len(), 500);
    close(broker).await;
}

#[test]
fn a_text_file_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keyway.db");
    let text = "Dear diary, today I learned about partitions.\n".repeat(100);
    fs::write(&file, &text).unwrap();
    let refused = Embedded::open(directory.path(), FOREVER).unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused:?}");
    assert!(refused.to_string().contains("is not a Keyway log: it is no SQLite file"), "{refused}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn another_programs_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let other = Connection::open(directory.path().join("keyway.db")).unwrap();
    other.execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    drop(other);
    let refused = Embedded::open(directory.path(), FOREVER).unwrap_err();
    assert!(refused.to_string().contains("another program's SQLite file"), "{refused}");
}

#[tokio::test]
async fn a_log_of_another_version_is_refused_and_both_versions_are_named() {
    let directory = tempfile::tempdir().unwrap();
    close(open(directory.path())).await;
    let file = Connection::open(directory.path().join("keyway.db")).unwrap();
    file.pragma_update(None, "user_version", 7).unwrap();
    drop(file);
    let refused = Embedded::open(directory.path(), FOREVER).unwrap_err();
    assert!(matches!(refused, OpenError::Version { found: 7, known: 1, .. }), "{refused:?}");
    let said = refused.to_string();
    assert!(said.contains("a Keyway log of version 7, this keyway reads version 1"), "{said}");
}

#[tokio::test]
async fn an_empty_file_is_a_new_log() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("keyway.db"), "").unwrap();
    let broker = open(directory.path());
    assert_eq!(broker.topics().await, Ok(Vec::<TopicInfo>::new()));
    close(broker).await;
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a file");
    fs::write(&file, "").unwrap();
    let refused = Embedded::open(&file.join("data"), FOREVER).unwrap_err();
    assert!(matches!(refused, OpenError::Directory { .. }), "{refused:?}");
    assert!(refused.to_string().contains("a file"), "{refused}");
}
