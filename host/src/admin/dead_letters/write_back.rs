//! Writes dead letters back to where their records came from, or what came of them, in transactions that also hold the
//! marks which say so.
//!
//! Owns the transactional id, and which letters are done with. Which letters are meant is `redrive`'s matter.
//!
//! Invariant: what is done is read after the id was taken, and nothing is written once another has it. So of two that
//! redrive the same topic of letters one ends, and no letter is written back twice, wherever a process is killed.

use std::{collections::HashSet, sync::Arc};

use super::{Shelf, redrive::Stop};
use crate::{
    broker::{Broker, BrokerError, Produced, TransactError, Transactions},
    letter::{self, Entry, Letter, Mark, MarkKind},
    record::{NewRecord, Place, Record, TopicPartition},
};

/// What every transactional id begins with; the topic of the letters follows. No member's id is like that, for there is no
/// second `/` in it.
const ID: &str = "keyway/redrive.";
/// Letters of one transaction, at most.
const LETTERS: usize = 100;
/// Bytes of records of one transaction, but for a single letter that is larger. Within what Kafka takes as one batch.
const BYTES: usize = 512 << 10;

/// The letters of a partition that are done with.
#[derive(Default)]
pub(super) struct Done {
    letters: HashSet<u64>,
    /// Where the group was moved to, by the offset of that note.
    sought: Vec<(u64, Entry)>,
    read_to: u64,
}

impl Done {
    /// Reads what was not read yet.
    pub(super) async fn read_on(
        &mut self,
        broker: &dyn Broker,
        shelf: &Shelf,
    ) -> Result<(), BrokerError> {
        self.read_to = self.read_to.max(shelf.offsets.beginning);
        loop {
            let records = shelf.read(broker, self.read_to).await?;
            let Some(last) = records.last() else { return Ok(()) };
            self.read_to = last.offset + 1;
            for record in &records {
                match letter::read(record) {
                    Some(Entry::Mark(mark)) if mark.kind == MarkKind::Redriven => {
                        self.letters.insert(mark.letter.offset);
                    }
                    Some(sought @ Entry::Sought(_)) => self.sought.push((record.offset, sought)),
                    _ => {}
                }
            }
        }
    }

    /// Whether the record of a letter is handled again from its source.
    pub(super) fn is_superseded(&self, letter: &Letter, at: u64) -> bool {
        self.sought.iter().any(|(offset, entry)| entry.supersedes(*offset, &letter.source, at))
    }

    pub(super) fn contains(&self, letter: u64) -> bool {
        self.letters.contains(&letter)
    }
}

/// A letter on its way back.
pub(super) struct Return {
    letter: Place,
    records: Vec<NewRecord>,
    mark: NewRecord,
}

impl Return {
    /// `partition`: where it goes to; `None`: where its key says.
    pub(super) fn new(letter: &Letter, record: &Record, partition: Option<u32>) -> Self {
        let original = NewRecord {
            topic: letter.source.partition.topic.clone(),
            partition,
            timestamp: None,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: letter::original_headers(record).to_vec(),
        };
        Self::handled(letter, record, vec![original])
    }

    /// `records`: what a handler made of it.
    pub(super) fn handled(letter: &Letter, record: &Record, records: Vec<NewRecord>) -> Self {
        let (kind, source) = (MarkKind::Redriven, letter.source.clone());
        let mark = Mark { kind, letter: record.place(), source }.record(record);
        Self { letter: record.place(), records, mark }
    }

    fn size(&self) -> usize {
        self.records.iter().map(NewRecord::size).sum::<usize>() + self.mark.size()
    }
}

/// Letters that are to be written together, in their order.
#[derive(Default)]
pub(super) struct Batch {
    letters: Vec<Return>,
    bytes: usize,
}

impl Batch {
    /// Adds a letter; gives those before it where it has no room among them.
    pub(super) fn push(&mut self, letter: Return) -> Option<Vec<Return>> {
        let size = letter.size();
        let is_full = self.letters.len() >= LETTERS || self.bytes + size > BYTES;
        let full = is_full.then(|| self.take()).filter(|letters| !letters.is_empty());
        self.bytes += size;
        self.letters.push(letter);
        full
    }

    /// All that is left.
    pub(super) fn take(&mut self) -> Vec<Return> {
        self.bytes = 0;
        std::mem::take(&mut self.letters)
    }
}

/// What became of a letter: where its records are now, or why they cannot be written.
pub(super) type Returned = (Place, Result<Vec<Place>, String>);

/// Writes the letters of one topic back.
pub(super) struct Writer {
    broker: Arc<dyn Broker>,
    topic: Arc<str>,
    transactions: Box<dyn Transactions>,
}

impl Writer {
    /// Takes the topic's transactional id, from another redrive too.
    pub(super) async fn take(broker: Arc<dyn Broker>, topic: Arc<str>) -> Result<Self, Stop> {
        let transactions = take(&*broker, &topic).await?;
        Ok(Self { broker, topic, transactions })
    }

    /// Writes letters of `shelf` back, those that are done with not again: all in one transaction, or where that is
    /// refused each in its own. `done` is what was read since the id was taken.
    pub(super) async fn write(
        &mut self,
        shelf: &Shelf,
        done: &mut Done,
        mut batch: Vec<Return>,
    ) -> Result<Vec<Returned>, Stop> {
        batch.retain(|letter| !done.contains(letter.letter.offset));
        let reason = match self.transact(&batch).await? {
            Ok(places) => return Ok(returned(batch, places)),
            Err(reason) => reason,
        };
        self.take_again(shelf, done).await?;
        if let [letter] = &batch[..] {
            return Ok(vec![(letter.letter.clone(), Err(reason))]);
        }
        // Kafka refuses whole batches, also for the sum of their sizes: a letter is at fault that is refused alone.
        let mut all = Vec::new();
        for letter in batch {
            if done.contains(letter.letter.offset) {
                continue;
            }
            let alone = [letter];
            let written = self.transact(&alone).await?;
            let [letter] = alone;
            match written {
                Ok(places) => all.extend(returned(vec![letter], places)),
                Err(reason) => {
                    all.push((letter.letter, Err(reason)));
                    self.take_again(shelf, done).await?;
                }
            }
        }
        Ok(all)
    }

    /// One transaction: where each record was written to. The inner error is the records' own, and would be the same
    /// next time.
    async fn transact(
        &mut self,
        batch: &[Return],
    ) -> Result<Result<Vec<Vec<Place>>, String>, Stop> {
        let Some(first) = batch.first() else { return Ok(Ok(Vec::new())) };
        let own = batch.iter().map(|letter| letter.records.len()).sum();
        let records = batch.iter().flat_map(|letter| letter.records.clone());
        let records: Vec<_> =
            records.chain(batch.iter().map(|letter| letter.mark.clone())).collect();
        let topics: Vec<_> = records.iter().map(|record| record.topic.clone()).collect();
        let produced = match self.transactions.write(records).await {
            Ok(produced) => produced,
            Err(TransactError::Refused(refusals)) => {
                let refusal = refusals.into_iter().find(|refusal| refusal.record < own);
                return match refusal {
                    Some(refusal) => Ok(Err(refusal.error.to_string())),
                    None => Err(Stop::Failed(format!(
                        "what becomes of {} cannot be noted: {:?} takes no marks",
                        first.letter, self.topic
                    ))),
                };
            }
            Err(TransactError::Fenced(reason)) => {
                return Err(Stop::Failed(format!(
                    "another redrive of {:?} has begun since, so this one has ended ({reason})",
                    self.topic
                )));
            }
            Err(error) => return Err(Stop::Failed(format!("at {}: {error}", first.letter))),
        };
        let place = |(topic, Produced { partition, offset, .. })| {
            let partition = TopicPartition { topic, partition };
            Place { partition, offset }
        };
        let mut places = topics.into_iter().zip(produced).map(place);
        let of = |letter: &Return| places.by_ref().take(letter.records.len()).collect();
        Ok(Ok(batch.iter().map(of).collect()))
    }

    /// Takes the id again, and reads what another has done meanwhile: a transaction that was refused may have cost it.
    async fn take_again(&mut self, shelf: &Shelf, done: &mut Done) -> Result<(), Stop> {
        self.transactions = take(&*self.broker, &self.topic).await?;
        let shelf = shelf.settled(&*self.broker).await?;
        Ok(done.read_on(&*self.broker, &shelf).await?)
    }
}

async fn take(broker: &dyn Broker, topic: &str) -> Result<Box<dyn Transactions>, Stop> {
    let id = format!("{ID}{topic}");
    broker.transactions(&id).await.map_err(|error| {
        Stop::Failed(match error {
            BrokerError::Fatal(reason) => format!(
                "{reason}; a redrive writes in transactions, for which it must be allowed to Write and Describe the \
                 transactional id {id:?}"
            ),
            error => format!("{error} (the transactional id {id:?})"),
        })
    })
}

fn returned(batch: Vec<Return>, places: Vec<Vec<Place>>) -> Vec<Returned> {
    let letters = batch.into_iter().map(|letter| letter.letter);
    letters.zip(places.into_iter().map(Ok)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn letter(bytes: usize) -> Return {
        let source = Place { partition: TopicPartition::new("t", 0), offset: 0 };
        let letter = Letter {
            source,
            group: "g".into(),
            handler: "h@0".into(),
            attempts: 1,
            reason: "r".into(),
            rejected_at: SystemTime::UNIX_EPOCH,
        };
        let record = Record {
            topic: "t.dead-letters".into(),
            partition: 0,
            offset: 0,
            timestamp: Some(0),
            key: None,
            value: Some(vec![0; bytes].into()),
            headers: letter.headers(),
        };
        Return::new(&letter, &record, Some(0))
    }

    #[test]
    fn a_batch_ends_at_its_number_and_at_its_bytes_and_a_large_letter_is_alone() {
        let lengths = |sizes: Vec<usize>| -> Vec<usize> {
            let mut batch = Batch::default();
            let mut batches: Vec<Vec<Return>> =
                sizes.into_iter().filter_map(|size| batch.push(letter(size))).collect();
            batches.push(batch.take());
            batches.iter().map(Vec::len).collect()
        };
        assert_eq!(lengths(vec![]), [0]);
        assert_eq!(lengths(vec![1; 2 * LETTERS + 1]), [LETTERS, LETTERS, 1]);
        assert_eq!(lengths(vec![1, 2 * BYTES, 1, 1]), [1, 1, 2]);
        assert_eq!(lengths(vec![BYTES / 2; 3]), [1, 1, 1], "the marks count too");
        assert_eq!(lengths(vec![BYTES / 3; 4]), [2, 2]);
    }
}
