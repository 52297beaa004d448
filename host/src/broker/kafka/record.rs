//! librdkafka's messages and offsets as the gateway's own, and the other way round.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use rdkafka::{
    Offset, TopicPartitionList,
    error::KafkaResult,
    message::{BorrowedMessage, Header as KafkaHeader, Headers as _, Message, OwnedHeaders},
    producer::BaseRecord,
    topic_partition_list::TopicPartitionListElem,
    util::IntoOpaque,
};

use crate::{
    broker::{Committed, OffsetCommit, ProduceError, Produced},
    record::{Arena, Header, NewRecord, Record},
};

/// The message as a record that owns its bytes.
pub(super) fn owned(topic: &Arc<str>, message: &BorrowedMessage<'_>, arena: &mut Arena) -> Record {
    Record {
        topic: Arc::clone(topic),
        partition: message.partition() as u32,
        offset: message.offset() as u64,
        timestamp: message.timestamp().to_millis().and_then(|time| u64::try_from(time).ok()),
        key: message.key().map(|key| arena.copy(key)),
        value: message.payload().map(|value| arena.copy(value)),
        headers: headers(message),
    }
}

fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    headers
        .map(|header| Header {
            key: header.key.to_owned(),
            value: header.value.map(Bytes::copy_from_slice),
        })
        .collect()
}

/// Offsets to commit, in librdkafka's form.
pub(super) fn commits(offsets: &[OffsetCommit]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for OffsetCommit { partition, committed } in offsets {
        let mut element = list.add_partition(&partition.topic, partition.partition as i32);
        element.set_offset(Offset::Offset(committed.offset as i64))?;
        if !committed.metadata.is_empty() {
            element.set_metadata(&committed.metadata);
        }
    }
    Ok(list)
}

/// Stands for metadata that is not text.
const NOT_TEXT: &str = "\u{fffd}";

/// What is committed for a partition; `None`: nothing.
pub(super) fn committed(element: &TopicPartitionListElem<'_>) -> Option<Committed> {
    match element.offset() {
        Offset::Offset(offset) => {
            Some(Committed { offset: offset as u64, metadata: metadata(element) })
        }
        _ => None,
    }
}

/// What another client has committed need not be UTF-8. rdkafka panics then, and has no other way to the bytes.
fn metadata(element: &TopicPartitionListElem<'_>) -> String {
    let text = std::panic::catch_unwind(AssertUnwindSafe(|| element.metadata().to_owned()));
    text.unwrap_or_else(|_| NOT_TEXT.to_owned())
}

/// The time that a record to write says it is from, in milliseconds since the Unix epoch.
pub(super) fn timestamp(record: &NewRecord) -> Result<i64, ProduceError> {
    i64::try_from(record.timestamp.unwrap_or_else(now)).map_err(|_too_large| {
        ProduceError::Refused { reason: "its timestamp is larger than Kafka can keep".to_owned() }
    })
}

/// A record to write as librdkafka wants it; `delivery` comes back with its delivery report.
pub(super) fn outgoing<D: IntoOpaque>(
    record: &NewRecord,
    timestamp: i64,
    delivery: D,
) -> BaseRecord<'_, [u8], [u8], D> {
    BaseRecord {
        topic: &record.topic,
        partition: record.partition.map(|partition| partition as i32),
        payload: record.value.as_deref(),
        key: record.key.as_deref(),
        timestamp: Some(timestamp),
        headers: owned_headers(record),
        delivery_opaque: delivery,
    }
}

fn owned_headers(record: &NewRecord) -> Option<OwnedHeaders> {
    if record.headers.is_empty() {
        return None;
    }
    let headers = OwnedHeaders::new_with_capacity(record.headers.len());
    Some(record.headers.iter().fold(headers, |headers, header| {
        headers.insert(KafkaHeader { key: &header.key, value: header.value.as_deref() })
    }))
}

/// What became of a record that a delivery report says was written.
pub(super) fn produced(message: &impl Message) -> Result<Produced, ProduceError> {
    // librdkafka takes "duplicate sequence number" for success, without an offset. Mostly it is a batch whose first answer
    // was lost; but a new leader that took a later batch first says the same of one that it never wrote.
    let offset = u64::try_from(message.offset()).map_err(|_unknown| ProduceError::Indefinite {
        reason: "Kafka acknowledged the record without telling its offset".into(),
    })?;
    Ok(Produced {
        partition: message.partition() as u32,
        offset,
        timestamp: message.timestamp().to_millis().unwrap_or_default().max(0) as u64,
    })
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64 // good for 580 million years
}
