//! Gives letters back: dead letters by writing their records to where they came from, parked lanes by asking the member
//! that owns them.
//!
//! What was done is written behind the letter, so a redrive that was cut off goes on with the next one, and one that is
//! repeated does nothing. Between a record and its mark there is a moment in which the end of this process makes the
//! next redrive write that one record again: `Redrive::write_back` is the one place.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Filter, Shelf, shelves};
use crate::{
    admin::snapshot::RedriveLine,
    broker::{Broker, BrokerError, ProduceError, Produced},
    config::{Config, OnReject, Ordering},
    letter::{self, Entry, Letter, Mark, MarkKind},
    record::{NewRecord, Place, Record, TopicPartition},
};

/// How often, and how far apart, a mark is tried.
const MARK_TRIES: u32 = 20;
const MARK_WAIT: Duration = Duration::from_millis(500);

/// What is to be given back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Which letters. Parked lanes where it says `parked`, dead letters otherwise.
    pub filter: Filter,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// Gives back what `order` says and tells each step to `lines`, [`RedriveLine::End`] last. Ends early, with nothing half
/// done, when nobody listens to them any more.
pub async fn redrive(
    broker: Arc<dyn Broker>,
    config: Arc<Config>,
    order: Order,
    lines: mpsc::Sender<RedriveLine>,
) {
    let mut redrive = Redrive { broker, order, lines, records: 0, refused: 0 };
    let error = match redrive.run(&config).await {
        Ok(()) => None,
        Err(Stop::Failed(reason)) => Some(reason),
        Err(Stop::NobodyListens) => {
            tracing::info!(
                records = redrive.records,
                "A redrive was cut off; the next one goes on."
            );
            return;
        }
    };
    let Redrive { records, refused, lines, .. } = redrive;
    lines.send(RedriveLine::End { records, refused, error }).await.ok(); // whoever is gone does not want to know
}

struct Redrive {
    broker: Arc<dyn Broker>,
    order: Order,
    lines: mpsc::Sender<RedriveLine>,
    records: u64,
    refused: u64,
}

/// Why it does not go on.
enum Stop {
    Failed(String),
    NobodyListens,
}

impl From<BrokerError> for Stop {
    fn from(error: BrokerError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Redrive {
    async fn run(&mut self, config: &Config) -> Result<(), Stop> {
        let parked = self.order.filter.parked == Some(true);
        let filter = Filter { parked: Some(parked), ..self.order.filter.clone() };
        for shelf in shelves(&*self.broker, config, &filter).await? {
            let done = self.done(&shelf).await?;
            match &shelf.parked_by {
                None => self.write_all_back(&shelf, &done).await?,
                Some(group) if group.on_reject == OnReject::Park => {
                    self.release_all(&shelf, &done, group.ordering).await?;
                }
                Some(group) => {
                    return Err(Stop::Failed(format!(
                        "group {:?} gives no lanes back, because its on-reject is not \"park\" any more; set it, and \
                         redrive again",
                        group.id
                    )));
                }
            }
        }
        Ok(())
    }

    /// The offsets of letters that are done with.
    async fn done(&self, shelf: &Shelf) -> Result<HashSet<u64>, Stop> {
        let mut done = HashSet::new();
        let mut offset = shelf.offsets.beginning;
        loop {
            let records = shelf.read(&*self.broker, offset).await?;
            let Some(last) = records.last() else { return Ok(done) };
            offset = last.offset + 1;
            let redriven = |record: &Record| match letter::read(record)? {
                Entry::Mark(mark) if mark.kind == MarkKind::Redriven => Some(mark.letter.offset),
                _ => None,
            };
            done.extend(records.iter().filter_map(redriven));
        }
    }

    async fn write_all_back(&mut self, shelf: &Shelf, done: &HashSet<u64>) -> Result<(), Stop> {
        let mut offset = shelf.offsets.beginning;
        loop {
            let records = shelf.read(&*self.broker, offset).await?;
            let Some(last) = records.last() else { return Ok(()) };
            offset = last.offset + 1;
            for (letter, record) in self.meant(&records, done) {
                let name = record.place().to_string();
                let line = match self.write_back(&letter, record).await? {
                    Ok(to) => {
                        self.records += 1;
                        RedriveLine::Redriven { letter: name, to }
                    }
                    Err(reason) => {
                        self.refused += 1;
                        RedriveLine::Refused { letter: name, reason }
                    }
                };
                self.tell(line).await?;
            }
        }
    }

    fn meant<'a>(&self, records: &'a [Record], done: &HashSet<u64>) -> Vec<(Letter, &'a Record)> {
        let letter = |record: &'a Record| match letter::read(record)? {
            Entry::Letter(letter) => Some((letter, record)),
            Entry::Mark(_) => None,
        };
        records
            .iter()
            .filter(|record| !done.contains(&record.offset))
            .filter_map(letter)
            .filter(|(letter, record)| self.order.filter.wants(letter, record))
            .collect()
    }

    async fn tell(&self, line: RedriveLine) -> Result<(), Stop> {
        self.lines.send(line).await.map_err(|_gone| Stop::NobodyListens)
    }

    /// Writes one letter's record to its source, and behind the letter that this was done. The inner error is the
    /// record's own, and would be the same next time.
    async fn write_back(
        &self,
        letter: &Letter,
        record: &Record,
    ) -> Result<Result<String, String>, Stop> {
        let source = &letter.source.partition;
        let partitions = match self.broker.partitions(&source.topic).await {
            Ok(partitions) => partitions,
            Err(error @ BrokerError::UnknownTopic(_)) => return Ok(Err(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let partition = Some(source.partition).filter(|partition| *partition < partitions);
        if self.order.dry_run {
            let TopicPartition { topic, .. } = source;
            return Ok(Ok(partition.map_or(topic.to_string(), |_| source.to_string())));
        }
        let original = NewRecord {
            topic: source.topic.clone(),
            partition,
            timestamp: None,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: letter::original_headers(record).to_vec(),
        };
        let Produced { partition, offset, .. } = match self.broker.produce(original).await {
            Ok(produced) => produced,
            Err(error @ (ProduceError::Unavailable { .. } | ProduceError::Indefinite { .. })) => {
                return Err(Stop::Failed(format!("at {}: {error}", record.place())));
            }
            Err(error) => return Ok(Err(error.to_string())),
        };
        let at = TopicPartition::new(source.topic.clone(), partition);
        let to = Place { partition: at, offset };
        self.mark(MarkKind::Redriven, letter, record).await?;
        Ok(Ok(to.to_string()))
    }

    /// Asks for every lane that holds a letter that is meant, once.
    async fn release_all(
        &mut self,
        shelf: &Shelf,
        done: &HashSet<u64>,
        ordering: Ordering,
    ) -> Result<(), Stop> {
        let mut lanes: BTreeMap<LaneName, ParkedLane> = BTreeMap::new();
        let mut offset = shelf.offsets.beginning;
        loop {
            let records = shelf.read(&*self.broker, offset).await?;
            let Some(last) = records.last() else { break };
            offset = last.offset + 1;
            for record in records.into_iter().filter(|record| !done.contains(&record.offset)) {
                let Some(Entry::Letter(letter)) = letter::read(&record) else { continue };
                let is_meant = self.order.filter.wants(&letter, &record);
                let lane =
                    lanes.entry(lane_name(ordering, &letter, &record)).or_insert_with(|| {
                        // Its key is all that the mark takes over.
                        let record = Record { value: None, headers: Vec::new(), ..record };
                        ParkedLane { first: (letter, record), records: 0, is_meant: false }
                    });
                lane.records += 1;
                lane.is_meant |= is_meant;
            }
        }
        for ParkedLane { first: (letter, record), records, .. } in
            lanes.into_values().filter(|lane| lane.is_meant)
        {
            if !self.order.dry_run {
                self.mark(MarkKind::Released, &letter, &record).await?;
            }
            self.records += records;
            let letter = record.place().to_string();
            self.tell(RedriveLine::Released { letter, records }).await?;
        }
        Ok(())
    }

    /// Writes a mark. What it says has happened, so it is tried for a while.
    async fn mark(&self, kind: MarkKind, letter: &Letter, record: &Record) -> Result<(), Stop> {
        let mark = Mark { kind, letter: record.place(), source: letter.source.clone() };
        let mut tries = 0;
        loop {
            let Err(error) = self.broker.produce(mark.record(record)).await else { return Ok(()) };
            tries += 1;
            if tries == MARK_TRIES {
                let place = &mark.letter;
                return Err(Stop::Failed(format!(
                    "what became of {place} could not be noted: {error}"
                )));
            }
            tokio::time::sleep(MARK_WAIT).await;
        }
    }
}

/// What tells a lane from the others of a topic.
type LaneName = (TopicPartition, Option<Bytes>, Option<u64>);

struct ParkedLane {
    first: (Letter, Record),
    records: u64,
    is_meant: bool,
}

/// The lane that a group with this ordering parked a record in.
fn lane_name(ordering: Ordering, letter: &Letter, record: &Record) -> LaneName {
    let Place { partition, offset } = letter.source.clone();
    match (ordering, &record.key) {
        (Ordering::Partition, _) => (partition, None, None),
        (Ordering::Key, Some(key)) => (partition, Some(key.clone()), None),
        (Ordering::Key, None) | (Ordering::None, _) => (partition, None, Some(offset)),
    }
}
