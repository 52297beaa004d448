//! What groups have committed, as rows with a checksum. Owns no connection and no transaction.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    catalog::{Partition, Topic},
    error::StoreError,
    store::{checksum, damaged},
};
use crate::{broker::Committed, record::TopicPartition};

/// What a group commits, by partition.
pub(super) type Offsets = Vec<(Arc<Partition>, Committed)>;

/// Keeps what a group committed.
pub(super) fn keep_all(
    connection: &Connection,
    group: &str,
    offsets: &[(Arc<Partition>, Committed)],
) -> Result<(), StoreError> {
    offsets
        .iter()
        .try_for_each(|(partition, committed)| keep(connection, group, partition, committed))
}

fn keep(
    connection: &Connection,
    group: &str,
    partition: &Partition,
    committed: &Committed,
) -> Result<(), StoreError> {
    let checksum = row_checksum(group, partition.id, committed);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO commits (consumer_group, partition, committed, metadata, checksum)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![group, partition.id, committed.offset, committed.metadata, checksum])?;
    Ok(())
}

/// What a group committed for one partition.
pub(super) fn committed(
    connection: &Connection,
    group: &str,
    partition: &Partition,
) -> Result<Option<Committed>, StoreError> {
    let found: Option<(Committed, u32)> = connection
        .prepare_cached(
            "SELECT committed, metadata, checksum FROM commits
             WHERE consumer_group = ?1 AND partition = ?2",
        )?
        .query_row(params![group, partition.id], |row| {
            Ok((Committed { offset: row.get(0)?, metadata: row.get(1)? }, row.get(2)?))
        })
        .optional()?;
    match found {
        Some((committed, checksum))
            if checksum != row_checksum(group, partition.id, &committed) =>
        {
            Err(damaged(format!(
                "what {group:?} committed for {} fails its checksum",
                partition.name
            )))
        }
        found => Ok(found.map(|(committed, _)| committed)),
    }
}

/// Verifies everything that was ever committed: a row whose key is damaged would not be found, nor missed.
pub(super) fn check(connection: &Connection) -> Result<(), StoreError> {
    let mut statement = connection
        .prepare("SELECT consumer_group, partition, committed, metadata, checksum FROM commits")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (group, partition): (String, u32) = (row.get(0)?, row.get(1)?);
        let committed = Committed { offset: row.get(2)?, metadata: row.get(3)? };
        if row.get::<_, u32>(4)? != row_checksum(&group, partition, &committed) {
            return Err(damaged(format!("what {group:?} committed fails its checksum")));
        }
    }
    Ok(())
}

/// Everything that a group committed.
pub(super) fn of_group(
    connection: &Connection,
    group: &str,
    topics: &[Arc<Topic>],
) -> Result<Vec<(TopicPartition, Committed)>, StoreError> {
    let mut found = Vec::new();
    for partition in topics.iter().flat_map(|topic| &topic.partitions) {
        if let Some(committed) = committed(connection, group, partition)? {
            found.push((partition.name.clone(), committed));
        }
    }
    Ok(found)
}

/// The groups that have committed something.
pub(super) fn groups(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT DISTINCT consumer_group FROM commits ORDER BY 1")?;
    let groups = statement.query_map([], |row| row.get(0))?;
    Ok(groups.collect::<Result<_, _>>()?)
}

fn row_checksum(group: &str, partition: u32, committed: &Committed) -> u32 {
    checksum(&[
        group.as_bytes(),
        &partition.to_le_bytes(),
        &committed.offset.to_le_bytes(),
        committed.metadata.as_bytes(),
    ])
}
