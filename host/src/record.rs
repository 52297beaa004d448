//! Records as the whole gateway passes them on: owned bytes, no type of any client library.
//!
//! Absent and empty are different everywhere: a `None` key is "no key", a `None` value a tombstone. A field that is
//! not here does not survive the gateway, so whatever Kafka keeps of a record has its place below.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::{Bytes, BytesMut};

/// One header; keys may repeat and their order is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The header's name.
    pub key: String,
    /// Its value; `None` is Kafka's null.
    pub value: Option<Bytes>,
}

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition, from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Where one record is. It shows, and is read, as `TOPIC/PARTITION@OFFSET`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset in it.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

/// What was read is no place of a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not TOPIC/PARTITION@OFFSET")]
pub struct NotAPlace(String);

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        // A topic's name holds neither of the two separators.
        let parts = || {
            let (topic, rest) = text.split_once('/')?;
            let (partition, offset) = rest.split_once('@')?;
            let partition = TopicPartition::new(topic, partition.parse().ok()?);
            (!topic.is_empty()).then_some(Self { partition, offset: offset.parse().ok()? })
        };
        parts().ok_or_else(|| NotAPlace(text.into()))
    }
}

/// A record that was read from a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The topic it was read from.
    pub topic: Arc<str>,
    /// The partition it was read from.
    pub partition: u32,
    /// Its offset in that partition.
    pub offset: u64,
    /// Milliseconds since the Unix epoch; `None` when the record carries none.
    pub timestamp: Option<u64>,
    /// The key; `None` when it has none.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in the order they were written.
    pub headers: Vec<Header>,
}

impl Record {
    /// The partition it came from.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        Place { partition: self.topic_partition(), offset: self.offset }
    }

    /// Bytes of key, value and headers: what the record counts against a bound on memory.
    pub fn size(&self) -> usize {
        payload_size(&self.key, &self.value, &self.headers)
    }
}

/// A record to write. Where it goes is decided in this order: `partition`, then the murmur2 hash of `key`, then
/// spread over all partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// The topic to write to.
    pub topic: Arc<str>,
    /// The partition, when it is decided already.
    pub partition: Option<u32>,
    /// Milliseconds since the Unix epoch; `None`: the time at which the gateway writes it.
    pub timestamp: Option<u64>,
    /// The key; `None` when it has none.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in order.
    pub headers: Vec<Header>,
}

impl NewRecord {
    /// A record with only a value, for `topic`.
    pub fn new(topic: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            timestamp: None,
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    /// Bytes of key, value and headers: what the record counts against a bound on memory.
    pub fn size(&self) -> usize {
        payload_size(&self.key, &self.value, &self.headers)
    }
}

/// Owned bytes of small records, in allocations that they share: one for each, made on one thread and freed on another,
/// costs more than copying. What is kept for long keeps its whole allocation.
#[derive(Debug, Default)]
pub struct Arena(BytesMut);

impl Arena {
    /// Bytes of one allocation.
    const SHARED: usize = 4 << 10;
    /// More bytes than this get an allocation of their own.
    const SMALL: usize = Self::SHARED / 4;

    /// A copy of these bytes.
    pub fn copy(&mut self, bytes: &[u8]) -> Bytes {
        let Self(room) = self;
        if bytes.len() > Self::SMALL {
            return Bytes::copy_from_slice(bytes);
        }
        if room.capacity() < bytes.len() {
            *room = BytesMut::with_capacity(Self::SHARED);
        }
        room.extend_from_slice(bytes);
        room.split().freeze()
    }

    /// These bytes: the same where they are many, a copy where they are few.
    pub fn keep(&mut self, bytes: Vec<u8>) -> Bytes {
        if bytes.len() > Self::SMALL { bytes.into() } else { self.copy(&bytes) }
    }
}

fn payload_size(key: &Option<Bytes>, value: &Option<Bytes>, headers: &[Header]) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    length(key)
        + length(value)
        + headers.iter().map(|header| header.key.len() + length(&header.value)).sum::<usize>()
}

/// The partition that Kafka's default partitioner gives a key: `toPositive(murmur2(key)) % partitions`, as in
/// `org.apache.kafka.clients.producer.internals.BuiltInPartitioner.partitionForKey`.
///
/// # Panics
/// When `partitions` is 0: a topic has at least one.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// MurmurHash2 with Kafka's seed, as in `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut hash = SEED ^ data.len() as u32; // Kafka's array length is an `int`, so this cannot lose a bit
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_shown_and_nothing_else_is_one() {
        let place = Place { partition: TopicPartition::new("my-topic", 2), offset: 17 };
        assert_eq!(place.to_string(), "my-topic/2@17");
        assert_eq!("my-topic/2@17".parse(), Ok(place));
        for wrong in ["", "t", "t/0", "t@0", "/0@1", "t/-1@0", "t/0@", "t/0@1@2", "t/a/0@1"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_arena_gives_back_what_it_was_given_whatever_comes_after() {
        let mut arena = Arena::default();
        let given: Vec<_> = (0..3000).step_by(7).map(|size| vec![size as u8; size]).collect();
        let copies: Vec<_> = given.iter().map(|bytes| arena.copy(bytes)).collect();
        let kept: Vec<_> = given.iter().map(|bytes| arena.keep(bytes.clone())).collect();
        assert!(given == copies && given == kept);
    }

    #[test]
    fn murmur2_agrees_with_the_vectors_of_kafkas_own_tests() {
        // org.apache.kafka.common.utils.UtilsTest.testMurmur2
        for (data, hash) in [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ] {
            assert_eq!(murmur2(data.as_bytes()) as i32, hash, "{data}");
        }
    }
}
