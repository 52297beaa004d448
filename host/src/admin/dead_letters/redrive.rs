//! Gives letters back: dead letters by writing their records to where they came from (`write_back`), or what a handler that
//! the operator names makes of them ([`Through`]); parked lanes by asking the member that owns them.
//!
//! What was done is written behind the letter, so a redrive that was cut off goes on with the next one, and one that is
//! repeated does nothing. A dead letter's record and its mark are one transaction.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Filter, Shelf, Through, Unhandled, shelves,
    write_back::{Batch, Done, Return, Returned, Writer},
};
use crate::{
    admin::snapshot::RedriveLine,
    broker::{Broker, BrokerError},
    config::{Config, OnReject, Ordering},
    letter::{self, Entry, Letter, Mark, MarkKind},
    record::{Place, Record, TopicPartition},
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
    redrive_through(broker, config, order, None, lines).await;
}

/// The same, with what `through` makes of dead letters in place of their records.
pub async fn redrive_through(
    broker: Arc<dyn Broker>,
    config: Arc<Config>,
    order: Order,
    through: Option<Arc<dyn Through>>,
    lines: mpsc::Sender<RedriveLine>,
) {
    let mut redrive = Redrive { broker, config, order, through, lines, records: 0, refused: 0 };
    let error = match redrive.run().await {
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
    config: Arc<Config>,
    order: Order,
    through: Option<Arc<dyn Through>>,
    lines: mpsc::Sender<RedriveLine>,
    records: u64,
    refused: u64,
}

/// Why it does not go on.
pub(super) enum Stop {
    Failed(String),
    NobodyListens,
}

impl From<BrokerError> for Stop {
    fn from(error: BrokerError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Redrive {
    async fn run(&mut self) -> Result<(), Stop> {
        let parked = self.order.filter.parked == Some(true);
        if parked && self.through.is_some() {
            let reason =
                "parked lanes are given back to the handler of their group, and to no other";
            return Err(Stop::Failed(reason.into()));
        }
        let filter = Filter { parked: Some(parked), ..self.order.filter.clone() };
        let shelves = shelves(&*self.broker, &self.config, &filter).await?;
        for topic in shelves.chunk_by(|shelf, next| shelf.at.topic == next.at.topic) {
            match &topic[0].parked_by {
                None => self.write_all_back(topic).await?,
                Some(group) if group.on_reject == OnReject::Park => {
                    for shelf in topic {
                        self.release_all(shelf, group.ordering).await?;
                    }
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

    async fn done(&self, shelf: &Shelf) -> Result<Done, Stop> {
        let mut done = Done::default();
        done.read_on(&*self.broker, shelf).await?;
        Ok(done)
    }

    /// All partitions of a topic.
    async fn write_all_back(&mut self, topic: &[Shelf]) -> Result<(), Stop> {
        let mut writer = match self.order.dry_run {
            true => None,
            false => {
                let name = topic[0].at.topic.clone();
                Some(Writer::take(self.broker.clone(), name).await?)
            }
        };
        for shelf in topic {
            let shelf = shelf.settled(&*self.broker).await?;
            let mut done = self.done(&shelf).await?;
            let mut offset = shelf.offsets.beginning;
            loop {
                let records = shelf.read(&*self.broker, offset).await?;
                let Some(last) = records.last() else { break };
                offset = last.offset + 1;
                self.give_back(&shelf, writer.as_mut(), &mut done, &records).await?;
            }
        }
        Ok(())
    }

    /// Gives those of `records` back that are letters and meant, each as soon as it fills a transaction with others.
    async fn give_back(
        &mut self,
        shelf: &Shelf,
        mut writer: Option<&mut Writer>,
        done: &mut Done,
        records: &[Record],
    ) -> Result<(), Stop> {
        let mut batch = Batch::default();
        for (letter, record) in self.meant(records, done) {
            let returned = match self.through.clone() {
                None => self.original(&letter, record).await?,
                Some(through) => self.handled(&*through, &letter, record).await?,
            };
            let (Some(returned), Some(writer)) = (returned, &mut writer) else { continue };
            if let Some(full) = batch.push(returned) {
                self.write_back(shelf, writer, done, full).await?;
            }
        }
        match writer {
            Some(writer) => self.write_back(shelf, writer, done, batch.take()).await,
            None => Ok(()),
        }
    }

    async fn write_back(
        &mut self,
        shelf: &Shelf,
        writer: &mut Writer,
        done: &mut Done,
        batch: Vec<Return>,
    ) -> Result<(), Stop> {
        if self.lines.is_closed() {
            return Err(Stop::NobodyListens);
        }
        for (letter, places) in writer.write(shelf, done, batch).await? {
            self.tell_of((letter, places)).await?;
        }
        Ok(())
    }

    /// A letter's record as it is to be written. `None` in a dry run, and where its source is gone; that is told.
    async fn original(&mut self, letter: &Letter, record: &Record) -> Result<Option<Return>, Stop> {
        let source = &letter.source.partition;
        let partitions = match self.broker.partitions(&source.topic).await {
            Ok(partitions) => partitions,
            Err(error @ BrokerError::UnknownTopic(_)) => {
                self.refuse(record.place(), error.to_string()).await?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let partition = Some(source.partition).filter(|partition| *partition < partitions);
        if self.order.dry_run {
            let to = partition.map_or(source.topic.to_string(), |_| source.to_string());
            self.would_go(record.place(), to).await?;
            return Ok(None);
        }
        Ok(Some(Return::new(letter, record, partition)))
    }

    /// What a handler makes of a letter's record. `None` in a dry run, and where it gives it up; that is told.
    async fn handled(
        &mut self,
        through: &dyn Through,
        letter: &Letter,
        record: &Record,
    ) -> Result<Option<Return>, Stop> {
        let groups = self.config.clone();
        let Some(group) = groups.groups.iter().find(|group| *group.id == *letter.group) else {
            let reason = format!("its group {:?} is not configured", letter.group);
            self.refuse(record.place(), reason).await?;
            return Ok(None);
        };
        if self.order.dry_run {
            self.would_go(record.place(), through.name().to_owned()).await?;
            return Ok(None);
        }
        let handled = tokio::select! {
            handled = through.handle(group, letter::original(letter, record)) => handled,
            () = self.lines.closed() => return Err(Stop::NobodyListens),
        };
        match handled {
            Ok(records) => Ok(Some(Return::handled(letter, record, records))),
            Err(Unhandled::Failed(reason)) => Err(Stop::Failed(reason)),
            Err(Unhandled::GivenUp(reason)) => {
                self.refuse(record.place(), reason).await?;
                Ok(None)
            }
        }
    }

    async fn tell_of(&mut self, (letter, places): Returned) -> Result<(), Stop> {
        match (places, &self.through) {
            (Err(reason), _) => self.refuse(letter, reason).await,
            (Ok(places), None) => {
                let to = places.first().map(Place::to_string).unwrap_or_default();
                self.would_go(letter, to).await
            }
            (Ok(places), Some(through)) => {
                let handler = through.name().to_owned();
                let written = places.iter().map(Place::to_string).collect();
                self.records += 1;
                let letter = letter.to_string();
                self.tell(RedriveLine::Handled { letter, handler, written }).await
            }
        }
    }

    /// Tells where a letter goes, or has gone.
    async fn would_go(&mut self, letter: Place, to: String) -> Result<(), Stop> {
        self.records += 1;
        self.tell(RedriveLine::Redriven { letter: letter.to_string(), to }).await
    }

    async fn refuse(&mut self, letter: Place, reason: String) -> Result<(), Stop> {
        self.refused += 1;
        self.tell(RedriveLine::Refused { letter: letter.to_string(), reason }).await
    }

    fn meant<'a>(&self, records: &'a [Record], done: &Done) -> Vec<(Letter, &'a Record)> {
        let letter = |record: &'a Record| match letter::read(record)? {
            Entry::Letter(letter) => Some((letter, record)),
            Entry::Mark(_) | Entry::Sought(_) => None,
        };
        records
            .iter()
            .filter(|record| !done.contains(record.offset))
            .filter_map(letter)
            .filter(|(letter, record)| self.order.filter.wants(letter, record))
            .collect()
    }

    async fn tell(&self, line: RedriveLine) -> Result<(), Stop> {
        self.lines.send(line).await.map_err(|_gone| Stop::NobodyListens)
    }

    /// Asks for every lane that holds a letter that is meant, once.
    async fn release_all(&mut self, shelf: &Shelf, ordering: Ordering) -> Result<(), Stop> {
        let done = self.done(shelf).await?;
        let mut lanes: BTreeMap<LaneName, ParkedLane> = BTreeMap::new();
        let mut offset = shelf.offsets.beginning;
        loop {
            let records = shelf.read(&*self.broker, offset).await?;
            let Some(last) = records.last() else { break };
            offset = last.offset + 1;
            for record in records.into_iter().filter(|record| !done.contains(record.offset)) {
                let Some(Entry::Letter(letter)) = letter::read(&record) else { continue };
                if done.is_superseded(&letter, record.offset) {
                    continue;
                }
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
                self.ask_for(&letter, &record).await?;
            }
            self.records += records;
            let letter = record.place().to_string();
            self.tell(RedriveLine::Released { letter, records }).await?;
        }
        Ok(())
    }

    /// Writes that the lane of a letter is to be given back. It is tried for a while; twice does no harm.
    async fn ask_for(&self, letter: &Letter, record: &Record) -> Result<(), Stop> {
        let (kind, source) = (MarkKind::Released, letter.source.clone());
        let mark = Mark { kind, letter: record.place(), source };
        let mut tries = 0;
        loop {
            let Err(error) = self.broker.produce(mark.record(record)).await else { return Ok(()) };
            tries += 1;
            if tries == MARK_TRIES {
                let place = &mark.letter;
                return Err(Stop::Failed(format!(
                    "the lane of {place} could not be asked for: {error}"
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
