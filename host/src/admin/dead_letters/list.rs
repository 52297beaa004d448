//! A page of letters that are still to be dealt with.

use std::collections::BTreeMap;

use super::{Filter, Shelf, shelves};
use crate::{
    admin::snapshot::{DeadLetter, DeadLetters, Source, dead_letter},
    broker::{Broker, BrokerError},
    config::Config,
    letter::{self, Entry, MarkKind},
    record::{Place, Record, TopicPartition},
};

/// Bytes of letters after which a page is full.
const PAGE_BYTES: usize = 8 << 20;

/// Letters that a filter wants and that were not redriven, `limit` at the most (fewer where they are large), from a place
/// on or from the first: by topic, partition and offset. Each partition that is touched is read to its end, for it is
/// behind a letter that its end is written.
///
/// # Errors
/// The broker does not answer.
pub async fn list(
    broker: &dyn Broker,
    config: &Config,
    filter: &Filter,
    from: Option<&Place>,
    limit: usize,
) -> Result<DeadLetters, BrokerError> {
    let mut dead_letters = Vec::new();
    for shelf in shelves(broker, config, filter).await? {
        let first = match from {
            Some(from) if shelf.at < from.partition => continue,
            Some(from) if shelf.at == from.partition => from.offset,
            _ => 0,
        };
        let room = limit - dead_letters.len();
        if room == 0 {
            return Ok(DeadLetters { dead_letters, next: Some(next(&shelf.at, 0)) });
        }
        let mut page = Page { room, ..Page::default() };
        let mut offset = first.max(shelf.offsets.beginning);
        loop {
            let records = shelf.read(broker, offset).await?;
            let Some(last) = records.last() else { break };
            offset = last.offset + 1;
            records.iter().for_each(|record| page.add(record, filter, &shelf));
        }
        dead_letters.extend(page.letters.into_values());
        if let Some(overflow) = page.overflow {
            return Ok(DeadLetters { dead_letters, next: Some(next(&shelf.at, overflow)) });
        }
    }
    Ok(DeadLetters { dead_letters, next: None })
}

fn next(at: &TopicPartition, offset: u64) -> String {
    Place { partition: at.clone(), offset }.to_string()
}

/// The letters of one partition.
#[derive(Default)]
struct Page {
    letters: BTreeMap<u64, DeadLetter>,
    bytes: usize,
    room: usize,
    /// The first one that found no room. From there on only what became of the others is of interest.
    overflow: Option<u64>,
}

impl Page {
    fn add(&mut self, record: &Record, filter: &Filter, shelf: &Shelf) {
        match letter::read(record) {
            Some(Entry::Letter(letter)) if filter.wants(&letter, record) => {
                if self.letters.len() >= self.room || self.bytes >= PAGE_BYTES {
                    self.overflow.get_or_insert(record.offset);
                }
                if self.overflow.is_none() {
                    self.bytes += record.size();
                    let shown = dead_letter(&letter, record, shelf.parked_by.is_some());
                    self.letters.insert(record.offset, shown);
                }
            }
            Some(Entry::Mark(mark)) if mark.kind == MarkKind::Redriven => {
                self.letters.remove(&mark.letter.offset);
            }
            Some(Entry::Sought(place)) => self.letters.retain(|_, letter| {
                let Source { topic, partition, offset } = &letter.source;
                let is_there =
                    *place.partition.topic == **topic && place.partition.partition == *partition;
                !(is_there && place.offset <= *offset)
            }),
            _ => {}
        }
    }
}
