//! The bytes in which members of a classic group are told their partitions: Kafka's `ConsumerProtocolAssignment`.

use crate::record::TopicPartition;

/// The partitions in an assignment, or `None` where the bytes are of another protocol. An empty one is no partition.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut reader = Reader(bytes);
    let _version = reader.i16()?; // fields are only ever added behind those of version 0
    let mut partitions = Vec::new();
    for _ in 0..reader.count()? {
        let topic = reader.string()?;
        for _ in 0..reader.count()? {
            let partition = u32::try_from(reader.i32()?).ok()?;
            partitions.push(TopicPartition::new(topic, partition));
        }
    }
    Some(partitions)
}

/// Reads big-endian fields from the front; every method gives `None` where there are too few bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }

    fn count(&mut self) -> Option<u32> {
        u32::try_from(self.i32()?).ok()
    }

    fn string(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.i16()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_TOPICS: &[u8] =
        b"\0\x01\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x02\0\x02bc\0\0\0\x01\0\0\0\x07\xff\xff\xff\xff";

    #[test]
    fn an_assignment_lists_its_partitions_by_topic() {
        let expected =
            [("a", 0), ("a", 2), ("bc", 7)].map(|(topic, p)| TopicPartition::new(topic, p));
        assert_eq!(decode(TWO_TOPICS), Some(expected.to_vec()));
        assert_eq!(decode(b""), Some(vec![]));
    }

    #[test]
    fn bytes_that_end_early_or_lie_about_a_length_are_no_assignment() {
        for end in 1..TWO_TOPICS.len() - 4 {
            assert_eq!(decode(&TWO_TOPICS[..end]), None, "cut at {end}");
        }
        assert_eq!(decode(b"\0\0\x7f\xff\xff\xff"), None);
        assert_eq!(decode(b"\0\0\xff\xff\xff\xff"), None);
    }
}
