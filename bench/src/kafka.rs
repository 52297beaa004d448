//! The Kafka that is measured on, and what has to be in it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::error::Result;

/// A Kafka that is up: a given one, or one that was started here and ends with this value.
pub(crate) struct Kafka {
    address: String,
    started: Option<tempfile::TempDir>,
}

impl Kafka {
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some(directory) = &self.started {
            script().arg("stop").arg(directory.path()).status().ok(); // it also ends with this process
        }
    }
}

/// The address that was given.
pub(crate) fn given(address: Option<String>) -> Result<String> {
    address.ok_or_else(|| "--kafka HOST:PORT is missing".into())
}

/// The Kafka at `address`, or else a fresh one.
pub(crate) fn at(address: Option<String>) -> Result<Kafka> {
    if let Some(address) = address {
        return Ok(Kafka { address, started: None });
    }
    eprintln!("starting a Kafka");
    let directory = tempfile::tempdir()?;
    let owner = std::process::id().to_string();
    let output = script().args(["start", "kraft"]).arg(directory.path()).arg(owner).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let address = String::from_utf8(output.stdout)?.trim().to_owned();
    Ok(Kafka { address, started: Some(directory) })
}

pub(crate) fn script() -> Command {
    Command::new(repository().join(".ci/kafka"))
}

/// Where the repository is.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("bench/ is in it").to_owned()
}

/// A name that no earlier run has used.
pub(crate) fn fresh_name(what: &str) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("the clock is past 1970");
    format!("bench-{what}-{}", now.as_nanos())
}

/// A new topic.
pub(crate) fn create_topic(kafka: &str, topic: &str, partitions: i32) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka).create()?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for created in runtime.block_on(admin.create_topics([&new], &AdminOptions::new()))? {
        created.map_err(|(topic, error)| format!("topic {topic}: {error}"))?;
    }
    Ok(())
}

/// Writes so many records that `make` gives, each on the partition, with the key and with the value that it says.
pub(crate) fn fill(
    kafka: &str,
    topic: &str,
    records: u64,
    make: impl Fn(u64) -> (i32, Option<String>, Vec<u8>),
) -> Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "500000")
        .create()?;
    for number in 0..records {
        let (partition, key, value) = make(number);
        let mut record = BaseRecord::<String, _>::to(topic).payload(&value).partition(partition);
        record.key = key.as_ref();
        while let Err((error, back)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_millis(1));
            record = back;
        }
    }
    Ok(producer.flush(Duration::from_secs(60))?)
}
