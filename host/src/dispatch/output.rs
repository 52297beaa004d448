//! Writes what handlers emit, and the records they could not handle.
//!
//! Trouble with the broker is not the record's fault: such a write is tried again until it works, while its lane
//! waits. An output that the broker or a key selector refuses is the record's fault, and fails it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::Mutex;

use crate::{
    broker::{Acknowledgement, Broker, BrokerError, EnsuredTopic, ProduceError, TopicSpec},
    config,
    handler::{Delivery, Generation, Outcome, RunReport, SelectError},
    produce::{Producer, SendError},
    record::{Header, NewRecord},
};

/// The wait after a write that failed for the broker's reasons; doubled up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Writes for one group.
pub(super) struct Output {
    broker: Arc<dyn Broker>,
    producer: Producer,
    group: Arc<config::Group>,
    /// Dead-letter topics that are known to exist, and how many partitions they have.
    ensured: Mutex<HashMap<Arc<str>, u32>>,
}

/// A record that was given up on, and why.
#[derive(Debug)]
pub(super) struct DeadLetter {
    pub(super) delivery: Delivery,
    pub(super) handler: Generation,
    pub(super) reason: String,
}

impl Output {
    pub(super) fn new(
        broker: Arc<dyn Broker>,
        producer: Producer,
        group: Arc<config::Group>,
    ) -> Self {
        Self { broker, producer, group, ensured: Mutex::default() }
    }

    /// Writes what a run emitted and waits until it is durable. A record whose output is refused becomes a failed
    /// one, and those behind it count as not handled: they are handled again after it, so that order holds.
    pub(super) async fn write(&self, mut report: RunReport) -> RunReport {
        let mut written = Vec::with_capacity(report.outcomes.len());
        let mut handed_over = Vec::new();
        for outcome in &mut report.outcomes {
            let Outcome::Handled(records) = outcome else { continue };
            let mut pending = Vec::with_capacity(records.len());
            for record in records.drain(..) {
                let sent = self.send(&record).await;
                pending.push((record, sent));
            }
            handed_over.push(pending);
        }
        for pending in handed_over {
            written.push(self.settle(pending).await);
        }
        if let Some(index) = written.iter().position(Result::is_err) {
            report.outcomes.truncate(index);
            if let Some(Err(reason)) = written.into_iter().nth(index) {
                report.outcomes.push(Outcome::Retry { reason, after: None });
            }
        }
        report
    }

    /// Writes a dead letter and waits until it is durable, however long that takes.
    pub(super) async fn dead_letter(&self, letter: &DeadLetter) {
        let topic = self.dead_letter_topic(&letter.delivery.record.topic);
        let mut wait = FIRST_WAIT;
        loop {
            let result = match self.ensure(&topic, &letter.delivery.record.topic).await {
                Ok(partitions) => {
                    let record = self.letter(letter, &topic, partitions);
                    self.broker.produce(record).await.map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            let Err(reason) = result else { return };
            tracing::warn!(
                group = %self.group.id, %topic, %reason,
                "A dead letter could not be written; its lane waits until it can."
            );
            pause(&mut wait).await;
        }
    }

    fn dead_letter_topic(&self, source: &str) -> Arc<str> {
        match &self.group.dead_letter_topic {
            Some(topic) => topic.clone(),
            None => format!("{source}{}", config::DEAD_LETTERS).into(),
        }
    }

    /// Makes a dead-letter topic with as many partitions as its source, where it is missing, and says how many it has.
    async fn ensure(&self, topic: &Arc<str>, source: &str) -> Result<u32, BrokerError> {
        let mut ensured = self.ensured.lock().await;
        if let Some(partitions) = ensured.get(topic) {
            return Ok(*partitions);
        }
        let spec = TopicSpec {
            name: topic.clone(),
            partitions: self.broker.partitions(source).await?,
            replication_factor: None,
        };
        let partitions = match self.broker.ensure_topic(&spec).await? {
            EnsuredTopic::Differs { partitions } => partitions,
            EnsuredTopic::Created | EnsuredTopic::Existed => spec.partitions,
        };
        ensured.insert(topic.clone(), partitions);
        Ok(partitions)
    }

    /// The record as it was, on the partition it came from where there is one of that number, with what happened to
    /// it in headers.
    fn letter(&self, letter: &DeadLetter, topic: &Arc<str>, partitions: u32) -> NewRecord {
        let Delivery { record, attempt } = &letter.delivery;
        let about = [
            ("keyway.source", format!("{}/{}@{}", record.topic, record.partition, record.offset)),
            ("keyway.group", self.group.id.to_string()),
            ("keyway.handler", letter.handler.to_string()),
            ("keyway.attempts", attempt.to_string()),
            ("keyway.reason", letter.reason.clone()),
            ("keyway.rejected-at", humantime::format_rfc3339_millis(SystemTime::now()).to_string()),
        ];
        let about = about.map(|(key, value)| Header { key: key.into(), value: Some(value.into()) });
        NewRecord {
            topic: topic.clone(),
            partition: Some(record.partition).filter(|partition| *partition < partitions),
            timestamp: None,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.iter().cloned().chain(about).collect(),
        }
    }

    async fn send(&self, record: &NewRecord) -> Result<Acknowledgement, SendError> {
        self.producer.send(record.clone()).await.map(|sent| sent.acknowledgement)
    }

    /// Waits for one record's outputs; those that met trouble are sent again, in order, until they are written.
    async fn settle(
        &self,
        pending: Vec<(NewRecord, Result<Acknowledgement, SendError>)>,
    ) -> Result<(), String> {
        for (record, mut sent) in pending {
            let mut wait = FIRST_WAIT;
            loop {
                let result = match sent {
                    Ok(acknowledgement) => acknowledgement.await.map_err(SendError::from),
                    Err(error) => Err(error),
                };
                let Err(error) = result else { break };
                if !passes(&error) {
                    return Err(format!("its output to {:?} was refused: {error}", record.topic));
                }
                tracing::warn!(
                    group = %self.group.id, topic = %record.topic, reason = %error,
                    "A handler's output could not be written; its lane waits until it can."
                );
                pause(&mut wait).await;
                sent = self.send(&record).await;
            }
        }
        Ok(())
    }
}

/// Whether trouble passes by itself, so that the same write may work later.
fn passes(error: &SendError) -> bool {
    matches!(
        error,
        SendError::Select(SelectError::Busy)
            | SendError::Produce(
                ProduceError::Unavailable { .. } | ProduceError::Indefinite { .. }
            )
    )
}

async fn pause(wait: &mut Duration) {
    tokio::time::sleep(*wait).await;
    *wait = (*wait * 2).min(LONGEST_WAIT);
}
