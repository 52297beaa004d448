//! librdkafka's messages and offsets as the gateway's own.

use std::{panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use rdkafka::{
    Offset, TopicPartitionList,
    error::KafkaResult,
    message::{BorrowedMessage, Headers as _, Message as _},
    topic_partition_list::TopicPartitionListElem,
};

use crate::{
    broker::{Committed, OffsetCommit},
    record::{Header, Record},
};

/// The message as a record that owns its bytes: one allocation for key and value together.
pub(super) fn owned(topic: &Arc<str>, message: &BorrowedMessage<'_>) -> Record {
    let (key, value) = (message.key(), message.payload());
    let mut bytes = Vec::with_capacity(key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len));
    bytes.extend_from_slice(key.unwrap_or_default());
    bytes.extend_from_slice(value.unwrap_or_default());
    let bytes = Bytes::from(bytes);
    let split = key.map_or(0, <[u8]>::len);
    Record {
        topic: Arc::clone(topic),
        partition: message.partition() as u32,
        offset: message.offset() as u64,
        timestamp: message.timestamp().to_millis().and_then(|time| u64::try_from(time).ok()),
        key: key.map(|_| bytes.slice(..split)),
        value: value.map(|_| bytes.slice(split..)),
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
