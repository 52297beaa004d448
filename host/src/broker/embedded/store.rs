//! The statements: what is written to the file and read from it, each row with a checksum that is verified when it
//! is read. What groups commit is in `commits`. Owns no connection and no transaction.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    catalog::{Extent, Partition, Topic},
    codec::{self, Stamp},
    error::StoreError,
};
use crate::record::{NewRecord, Record, TopicPartition};

/// Bits of a position that are the offset: enough for 89 years at 100,000 records a second.
const OFFSET_BITS: u32 = 48;
/// Partitions that one file can have: what is left of a position without its sign.
pub(super) const PARTITIONS: u32 = 1 << 15;

/// Where a record is in the table: its partition, then its offset.
pub(super) fn position(partition: u32, offset: u64) -> i64 {
    (i64::from(partition) << OFFSET_BITS) | offset as i64
}

fn offset_of(position: i64) -> u64 {
    position as u64 & ((1 << OFFSET_BITS) - 1)
}

/// One checksum over several columns.
pub(super) fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}

/// That a topic is kept is in its checksum: a row that is gone from `kept` must not give its records to retention.
fn topic_checksum(id: i64, name: &str, partitions: u32, is_kept: bool) -> u32 {
    let (id, partitions) = (id.to_le_bytes(), partitions.to_le_bytes());
    let parts: [&[u8]; 4] = [&id, name.as_bytes(), &partitions, b"kept"];
    checksum(if is_kept { &parts } else { &parts[..3] })
}

fn partition_checksum(id: u32, topic: i64, number: u32, extent: &Extent) -> u32 {
    let Extent { beginning, end, bytes, .. } = *extent;
    let numbers = [u64::from(id), topic as u64, u64::from(number), beginning, end, bytes];
    checksum(&numbers.map(u64::to_le_bytes).each_ref().map(|number| number.as_slice()))
}

/// What is in the file contradicts itself, in this way.
pub(super) fn damaged(what: impl Into<String>) -> StoreError {
    StoreError::Damaged(what.into())
}

/// Every topic there is. Both ends of every partition are compared with its records.
pub(super) fn topics(connection: &Connection) -> Result<Vec<Topic>, StoreError> {
    let mut statement = connection.prepare(
        "SELECT id, name, partitions, checksum, id IN (SELECT topic FROM kept) FROM topics ORDER BY id",
    )?;
    let mut rows = statement.query([])?;
    let mut topics = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, name): (i64, Arc<str>) = (row.get(0)?, row.get(1)?);
        let (count, is_kept) = (row.get(2)?, row.get(4)?);
        if row.get::<_, u32>(3)? != topic_checksum(id, &name, count, is_kept) {
            return Err(damaged(format!("the row of topic {name:?} fails its checksum")));
        }
        let partitions = partitions(connection, id, &name)?;
        if partitions.len() != count as usize {
            return Err(damaged(format!(
                "topic {name:?} has {} of its {count} partitions",
                partitions.len()
            )));
        }
        topics.push(Topic::new(name, partitions, is_kept));
    }
    let expected: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
    let found: usize =
        connection.query_row("SELECT count(*) FROM partitions", [], |row| row.get(0))?;
    if found != expected {
        return Err(damaged(format!("{found} partitions, of which topics have {expected}")));
    }
    Ok(topics)
}

fn partitions(
    connection: &Connection,
    topic: i64,
    name: &Arc<str>,
) -> Result<Vec<Arc<Partition>>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, number, beginning, ending, bytes, checksum FROM partitions WHERE topic = ?1
         ORDER BY number",
    )?;
    let mut rows = statement.query([topic])?;
    let mut partitions = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, number) = (row.get(0)?, row.get(1)?);
        let mut extent =
            Extent { beginning: row.get(2)?, end: row.get(3)?, bytes: row.get(4)?, oldest: 0 };
        let name = TopicPartition::new(name.clone(), number);
        if row.get::<_, u32>(5)? != partition_checksum(id, topic, number, &extent)
            || number as usize != partitions.len()
        {
            return Err(damaged(format!("the row of partition {name} fails its checksum")));
        }
        extent.oldest = check_ends(connection, id, &name, &extent)?;
        partitions.push(Arc::new(Partition::new(id, topic, name, extent)));
    }
    Ok(partitions)
}

/// Compares the ends of a partition with its first and last record. Tells when the first was written.
fn check_ends(
    connection: &Connection,
    id: u32,
    name: &TopicPartition,
    extent: &Extent,
) -> Result<u64, StoreError> {
    let end = |order| {
        connection
            .prepare_cached(&format!(
                "SELECT position, written FROM records WHERE position >= ?1 AND position < ?2
                 ORDER BY position {order} LIMIT 1"
            ))?
            .query_row([position(id, 0), position(id + 1, 0)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
    };
    let first: Option<(i64, u64)> = end("ASC")?;
    let last: Option<(i64, u64)> = end("DESC")?;
    let range =
        |(first, _): (i64, u64), (last, _): (i64, u64)| (offset_of(first), offset_of(last) + 1);
    let found = first.zip(last).map(|(first, last)| range(first, last));
    let expected = (extent.beginning < extent.end).then_some((extent.beginning, extent.end));
    if found != expected {
        return Err(damaged(format!(
            "partition {name} should hold the offsets {:?} and holds {:?}",
            expected.map(|(from, to)| from..to),
            found.map(|(from, to)| from..to),
        )));
    }
    Ok(first.map_or(0, |(_, written)| written))
}

/// Creates a topic that is not there; `None`: there is no room for so many partitions. One that is kept is left alone
/// by retention.
pub(super) fn create_topic(
    connection: &Connection,
    name: &Arc<str>,
    count: u32,
    is_kept: bool,
) -> Result<Option<Topic>, StoreError> {
    let used: u32 =
        connection
            .query_row("SELECT coalesce(max(id) + 1, 0) FROM partitions", [], |row| row.get(0))?;
    if count > PARTITIONS - used.min(PARTITIONS) {
        return Ok(None);
    }
    let id: i64 =
        connection
            .query_row("SELECT coalesce(max(id) + 1, 1) FROM topics", [], |row| row.get(0))?;
    connection.execute(
        "INSERT INTO topics (id, name, partitions, checksum) VALUES (?1, ?2, ?3, ?4)",
        params![id, name, count, topic_checksum(id, name, count, is_kept)],
    )?;
    if is_kept {
        connection.execute("INSERT INTO kept (topic) VALUES (?1)", [id])?;
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO partitions (id, topic, number, beginning, ending, bytes, checksum)
         VALUES (?1, ?2, ?3, 0, 0, 0, ?4)",
    )?;
    let empty = Extent { beginning: 0, end: 0, bytes: 0, oldest: 0 };
    let mut partitions = Vec::new();
    for number in 0..count {
        let partition = used + number;
        insert.execute(params![
            partition,
            id,
            number,
            partition_checksum(partition, id, number, &empty)
        ])?;
        let name = TopicPartition::new(name.clone(), number);
        partitions.push(Arc::new(Partition::new(partition, id, name, empty)));
    }
    Ok(Some(Topic::new(name.clone(), partitions, is_kept)))
}

/// Writes one record at `offset`; `body` is room to encode it in. Tells how many bytes it takes.
pub(super) fn append(
    connection: &Connection,
    partition: &Partition,
    offset: u64,
    (timestamp, written): (u64, u64),
    record: &NewRecord,
    body: &mut Vec<u8>,
) -> Result<u64, StoreError> {
    let position = position(partition.id, offset);
    let stamp = Stamp { position, timestamp: timestamp as i64, written: written as i64 };
    codec::encode(body, stamp, record);
    connection
        .prepare_cached(
            "INSERT INTO records (position, timestamp, written, body) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![stamp.position, stamp.timestamp, stamp.written, &*body])?;
    Ok(body.len() as u64)
}

/// Writes down what a partition holds now.
pub(super) fn set_extent(
    connection: &Connection,
    partition: &Partition,
    extent: &Extent,
) -> Result<(), StoreError> {
    let number = partition.name.partition;
    let checksum = partition_checksum(partition.id, partition.topic_id, number, extent);
    let changed = connection
        .prepare_cached(
            "UPDATE partitions SET beginning = ?2, ending = ?3, bytes = ?4, checksum = ?5 WHERE id = ?1",
        )?
        .execute(params![partition.id, extent.beginning, extent.end, extent.bytes, checksum])?;
    if changed == 1 { Ok(()) } else { Err(damaged(format!("no row of {}", partition.name))) }
}

/// Records from `from` on and below `end`, `limit` and about `bytes` at most, at least one where there is one.
/// The first is later than `from` only where retention has removed what was there.
pub(super) fn read(
    connection: &Connection,
    partition: &Partition,
    (from, end): (u64, u64),
    limit: usize,
    bytes: usize,
) -> Result<Vec<Record>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT position, timestamp, written, body FROM records
         WHERE position >= ?1 AND position < ?2 ORDER BY position LIMIT ?3",
    )?;
    let range = (position(partition.id, from), position(partition.id, end.max(from)));
    let mut rows = statement.query(params![range.0, range.1, limit])?;
    let (mut records, mut size) = (Vec::new(), 0);
    let mut expected = from;
    while let Some(row) = rows.next()? {
        let record = record(partition, row)?;
        if record.offset != expected
            && !(records.is_empty() && removed(connection, partition, record.offset)?)
        {
            return Err(damaged(format!(
                "{} is missing the offsets {expected} to {}",
                partition.name,
                record.offset - 1
            )));
        }
        expected = record.offset + 1;
        size += record.size();
        records.push(record);
        if size >= bytes {
            return Ok(records);
        }
    }
    if expected < end && records.len() < limit && !removed(connection, partition, end)? {
        return Err(damaged(format!(
            "{} is missing the offsets {expected} to {}",
            partition.name,
            end - 1
        )));
    }
    Ok(records)
}

/// The offset of the first record of a partition that is from `timestamp` or later; its end where there is none. Looks
/// at one record after the other, for their timestamps are their writers' and need not ascend.
pub(super) fn first_since(
    connection: &Connection,
    partition: &Partition,
    timestamp: u64,
) -> Result<u64, StoreError> {
    let Extent { beginning, end, .. } = partition.extent();
    let range = (position(partition.id, beginning), position(partition.id, end));
    let timestamp = i64::try_from(timestamp).unwrap_or(i64::MAX);
    let found = connection
        .prepare_cached(
            "SELECT position FROM records WHERE position >= ?1 AND position < ?2 AND timestamp >= ?3
             ORDER BY position LIMIT 1",
        )?
        .query_row([range.0, range.1, timestamp], |row| row.get(0))
        .optional()?;
    Ok(found.map_or(end, offset_of))
}

/// Whether retention has removed everything below `offset`. What a reader misses in its snapshot was removed before,
/// so it does not matter that this looks later.
fn removed(
    connection: &Connection,
    partition: &Partition,
    offset: u64,
) -> Result<bool, StoreError> {
    let beginning: u64 = connection
        .prepare_cached("SELECT beginning FROM partitions WHERE id = ?1")?
        .query_row([partition.id], |row| row.get(0))?;
    Ok(offset <= beginning)
}

fn record(partition: &Partition, row: &Row<'_>) -> Result<Record, StoreError> {
    let stamp = Stamp { position: row.get(0)?, timestamp: row.get(1)?, written: row.get(2)? };
    let offset = offset_of(stamp.position);
    let body = row.get_ref(3)?.as_blob().map_err(|error| damaged(error.to_string()))?;
    let payload = codec::decode(stamp, body).ok_or_else(|| {
        damaged(format!("the record {}@{offset} fails its checksum", partition.name))
    })?;
    Ok(Record {
        topic: partition.name.topic.clone(),
        partition: partition.name.partition,
        offset,
        timestamp: Some(stamp.timestamp as u64),
        key: payload.key,
        value: payload.value,
        headers: payload.headers,
    })
}

/// The oldest records of a partition as retention sees them: when each was written, and its bytes.
pub(super) fn oldest(
    connection: &Connection,
    partition: &Partition,
    limit: usize,
) -> Result<Vec<(u64, u64)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT written, length(body) FROM records WHERE position >= ?1 AND position < ?2
         ORDER BY position LIMIT ?3",
    )?;
    let Extent { beginning, end, .. } = partition.extent();
    let range = (position(partition.id, beginning), position(partition.id, end));
    let rows = statement
        .query_map(params![range.0, range.1, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Removes the records from `beginning` up to `to`.
pub(super) fn remove(
    connection: &Connection,
    partition: &Partition,
    beginning: u64,
    to: u64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM records WHERE position >= ?1 AND position < ?2")?
        .execute([position(partition.id, beginning), position(partition.id, to)])?;
    Ok(())
}

/// Writes something that does not matter and removes it again, to see whether there is room for a record of usual
/// size.
pub(super) fn probe(connection: &Connection) -> Result<(), StoreError> {
    connection
        .execute("INSERT OR REPLACE INTO probe (id, room) VALUES (1, zeroblob(131072))", [])?;
    connection.execute("DELETE FROM probe", [])?;
    Ok(())
}
