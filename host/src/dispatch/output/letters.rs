//! Writes dead letters and parked records, in order, and until they are durable.
//!
//! A letter stays on the partition number that its record came from. A dead-letter topic that has fewer partitions
//! spreads the rest as it does any record; parked records have to be found again by who owns their partition, so there
//! the number wraps round.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{FIRST_WAIT, Output, pause};
use crate::{
    broker::{Broker, BrokerError, EnsuredTopic, PartitionOffsets, ProduceError, TopicSpec},
    config::{Delivery, PARKED},
    dispatch::parked::Parked,
    handler::Generation,
    letter::{self, Letter},
    record::{NewRecord, Place, Record, TopicPartition},
};

/// Records of one question while a topic of parked records is read as a whole.
const REPLAY: usize = 10_000;

/// A record that was given up on, and why.
#[derive(Debug)]
pub(in crate::dispatch) struct DeadLetter {
    pub(in crate::dispatch) record: Record,
    /// How often it was handled; 0 behind a record that was parked.
    pub(in crate::dispatch) attempts: u32,
    pub(in crate::dispatch) handler: Generation,
    pub(in crate::dispatch) reason: String,
}

/// Whether it is the record, and not the moment, that a letter cannot be written: then its partition stands still, and an
/// operator is told. A topic that was just made may still be unknown to some.
fn is_refusal(error: &ProduceError) -> bool {
    matches!(error, ProduceError::TooLarge { .. } | ProduceError::Refused { .. })
}

/// The partition of a topic with `partitions` of them that holds the parked records of partition `source`.
fn parked_partition(source: u32, partitions: u32) -> u32 {
    source % partitions
}

/// Notes in a group's topic of parked records that an operator has moved it: what was parked of these partitions from
/// these offsets on is handled again, and given back no more. Where the group has no such topic there is nothing to note.
/// To be called when the offsets are committed, and before a record is read from there: without the note, what is parked
/// stays parked, and comes to its turn once.
pub async fn note_seek(
    broker: &dyn Broker,
    group: &str,
    offsets: &[(TopicPartition, u64)],
) -> Result<(), BrokerError> {
    let topic: Arc<str> = format!("{group}{PARKED}").into();
    let partitions = match broker.topic(&topic).await {
        Ok(info) => info.partitions.len() as u32,
        Err(BrokerError::UnknownTopic(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    for (source, offset) in offsets {
        let partition = parked_partition(source.partition, partitions);
        let at = TopicPartition { topic: topic.clone(), partition };
        let place = Place { partition: source.clone(), offset: *offset };
        let written = broker.produce(letter::sought(&at, &place)).await;
        written.map_err(|error| BrokerError::Unavailable(error.to_string()))?;
    }
    Ok(())
}

impl Output {
    /// Notes that the group was moved, and waits until that is durable, however long it takes. See [`note_seek`].
    pub(in crate::dispatch) async fn note_seek(&self, offsets: &[(TopicPartition, u64)]) {
        let mut wait = FIRST_WAIT;
        while let Err(error) = note_seek(&*self.broker, &self.group.id, offsets).await {
            tracing::warn!(
                group = %self.group.id, reason = %error,
                "It could not be noted that what was parked is handled again; the group is moved when it can."
            );
            pause(&mut wait).await;
        }
    }

    /// Writes a dead letter and waits until it is durable, however long that takes.
    ///
    /// # Errors
    /// The broker refuses it, and would again.
    pub(in crate::dispatch) async fn dead_letter(
        &self,
        letter: &DeadLetter,
    ) -> Result<(), ProduceError> {
        let written = self.dead_letter_record(letter).await;
        let written = self.write_all(&[written], is_refusal).await;
        written.into_iter().try_for_each(|written| written.map(drop))
    }

    /// A dead letter as it is to be written, to a topic that is there; waits until it is, however long that takes.
    pub(in crate::dispatch) async fn dead_letter_record(&self, letter: &DeadLetter) -> NewRecord {
        let DeadLetter { record, .. } = letter;
        let topic = self.group.dead_letter_topic_of(&record.topic);
        let sources = std::slice::from_ref(&record.topic);
        let partitions = self.ensured(&topic, sources, false).await;
        let same = Some(record.partition).filter(|partition| *partition < partitions);
        NewRecord { timestamp: None, ..self.record_of(letter, &topic, same) }
    }

    /// Parks records and waits until all of them are durable, however long that takes. Gives each one's offset in the
    /// topic of parked records, or why the broker refuses it, and would again. They are handed over in order; where one
    /// meets trouble the later ones may come to lie before it, so whoever reads them puts them in the order of their
    /// source.
    pub(in crate::dispatch) async fn park(
        &self,
        letters: &[DeadLetter],
    ) -> Vec<Result<u64, ProduceError>> {
        let records = self.parked_letters(letters).await;
        self.write_all(&records, is_refusal).await
    }

    /// Letters to be parked as they are to be written, to a topic that is there; waits until it is, however long that
    /// takes.
    pub(in crate::dispatch) async fn parked_letters(
        &self,
        letters: &[DeadLetter],
    ) -> Vec<NewRecord> {
        let topic = self.group.parked_topic();
        let partitions = self.ensured(&topic, &self.group.topics, true).await;
        let record = |letter: &DeadLetter| {
            let partition = parked_partition(letter.record.partition, partitions);
            self.record_of(letter, &topic, Some(partition))
        };
        letters.iter().map(record).collect()
    }

    /// Writes marks, in order, and waits until they are durable, however long that takes.
    pub(in crate::dispatch) async fn mark(&self, marks: &[NewRecord]) {
        self.write_all(marks, |_error| false).await;
    }

    /// Hands records over in order and waits until all are durable; what meets trouble is written again until it is, but
    /// where `ends` says that this is the end of it. Gives their offsets.
    async fn write_all(
        &self,
        records: &[NewRecord],
        ends: impl Fn(&ProduceError) -> bool,
    ) -> Vec<Result<u64, ProduceError>> {
        let given: Vec<_> =
            records.iter().map(|record| self.broker.produce(record.clone())).collect();
        let mut results = Vec::with_capacity(records.len());
        for (record, mut given) in records.iter().zip(given) {
            let mut wait = FIRST_WAIT;
            results.push(loop {
                match given.await {
                    Ok(produced) => break Ok(produced.offset),
                    Err(error) if ends(&error) => break Err(error),
                    Err(error) => self.wait_out(&record.topic, &error, &mut wait).await,
                }
                given = self.broker.produce(record.clone());
            });
        }
        results
    }

    async fn wait_out(&self, topic: &str, reason: &impl ToString, wait: &mut Duration) {
        tracing::warn!(
            group = %self.group.id, topic, reason = reason.to_string(),
            "A record that was given up on could not be written; its lane waits until it can."
        );
        pause(wait).await;
    }

    /// How many partitions a topic of letters has; it is made where it is missing, with as many as the largest of its
    /// sources. Waits until the broker has answered.
    async fn ensured(&self, topic: &Arc<str>, sources: &[Arc<str>], keep_forever: bool) -> u32 {
        let mut wait = FIRST_WAIT;
        loop {
            match self.ensure(topic, sources, keep_forever).await {
                Ok(partitions) => return partitions,
                Err(error) => self.wait_out(topic, &error, &mut wait).await,
            }
        }
    }

    /// Reads what is parked of a partition that is committed up to `committed`, and waits until that has worked, however
    /// long it takes. Gives the offset of the topic that comes next, too.
    pub(in crate::dispatch) async fn what_is_parked(
        &self,
        source: &TopicPartition,
        committed: u64,
    ) -> (Parked, u64) {
        let mut wait = FIRST_WAIT;
        loop {
            let parked = Parked::new(source.clone(), self.group.ordering, committed);
            match self.replay(source, parked).await {
                Ok(learned) => return learned,
                Err(error) => tracing::warn!(
                    group = %self.group.id, partition = %source, reason = %error,
                    "What is parked of a partition could not be read; it waits until it can."
                ),
            }
            pause(&mut wait).await;
        }
    }

    async fn replay(
        &self,
        source: &TopicPartition,
        mut parked: Parked,
    ) -> Result<(Parked, u64), BrokerError> {
        let topic = match self.broker.topic(&self.group.parked_topic()).await {
            Ok(topic) => topic,
            Err(BrokerError::UnknownTopic(_)) => return Ok((parked, 0)),
            Err(error) => return Err(error),
        };
        let number = parked_partition(source.partition, topic.partitions.len() as u32);
        let at = TopicPartition { topic: topic.name, partition: number };
        let PartitionOffsets { beginning, end } = match self.group.delivery {
            // What its last owner parked may be in a transaction that ends only now.
            Delivery::ExactlyOnce => self.broker.settled(&at).await?,
            Delivery::AtLeastOnce => topic.partitions[number as usize],
        };
        let mut next = beginning;
        while next < end {
            let records = self.broker.records(&at, next, REPLAY).await?;
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            records.iter().for_each(|record| parked.replay(record));
        }
        Ok((parked, next.max(end)))
    }

    /// Records of the topic of parked records that holds those of a partition.
    pub(in crate::dispatch) async fn parked_records(
        &self,
        source: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Record>, BrokerError> {
        let topic = self.group.parked_topic();
        let partition = parked_partition(source.partition, self.broker.partitions(&topic).await?);
        self.broker.records(&TopicPartition { topic, partition }, offset, limit).await
    }

    async fn ensure(
        &self,
        topic: &Arc<str>,
        sources: &[Arc<str>],
        keep_forever: bool,
    ) -> Result<u32, BrokerError> {
        let mut ensured = self.ensured.lock().await;
        if let Some(partitions) = ensured.get(topic) {
            return Ok(*partitions);
        }
        let mut wanted = 1;
        for source in sources {
            wanted = wanted.max(self.broker.partitions(source).await?);
        }
        let spec = TopicSpec {
            name: topic.clone(),
            partitions: wanted,
            replication_factor: None,
            keep_forever,
        };
        let partitions = match self.broker.ensure_topic(&spec).await? {
            EnsuredTopic::Differs { partitions } => partitions,
            EnsuredTopic::Created | EnsuredTopic::Existed => spec.partitions,
        };
        ensured.insert(topic.clone(), partitions);
        Ok(partitions)
    }

    /// The record as it was, with what happened to it in headers.
    fn record_of(
        &self,
        letter: &DeadLetter,
        topic: &Arc<str>,
        partition: Option<u32>,
    ) -> NewRecord {
        let DeadLetter { record, attempts, handler, reason } = letter;
        let about = Letter {
            source: record.place(),
            group: self.group.id.to_string(),
            handler: handler.to_string(),
            attempts: *attempts,
            reason: reason.clone(),
            rejected_at: SystemTime::now(),
        };
        NewRecord {
            topic: topic.clone(),
            partition,
            timestamp: record.timestamp,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.iter().cloned().chain(about.headers()).collect(),
        }
    }
}
