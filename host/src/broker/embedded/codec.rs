//! The bytes that a record is kept as: key, value and headers, each behind its length, and a checksum at the end.
//!
//! A length is a LEB128 number; where null is possible it is the length plus one, and 0 is null. The checksum covers
//! the record's place and times too, so a body that turns up in another row does not pass.

use bytes::Bytes;

use crate::record::{Header, NewRecord};

/// What the other columns of a record's row say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Partition and offset in one number, see [`super::store::position`].
    pub(super) position: i64,
    /// The record's timestamp.
    pub(super) timestamp: i64,
    /// When it was written, in milliseconds since the Unix epoch.
    pub(super) written: i64,
}

/// What is in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<Header>,
}

const CHECKSUM: usize = 4;

/// Writes the body of `record` into `body`, replacing what is there.
pub(super) fn encode(body: &mut Vec<u8>, stamp: Stamp, record: &NewRecord) {
    body.clear();
    put_nullable(body, record.key.as_deref());
    put_nullable(body, record.value.as_deref());
    put_number(body, record.headers.len());
    for header in &record.headers {
        put_number(body, header.key.len());
        body.extend_from_slice(header.key.as_bytes());
        put_nullable(body, header.value.as_deref());
    }
    let checksum = checksum(stamp, body);
    body.extend_from_slice(&checksum.to_le_bytes());
}

/// Reads a body; `None` when it is not what was written with this stamp.
pub(super) fn decode(stamp: Stamp, body: &[u8]) -> Option<Payload> {
    let (content, expected) = body.split_last_chunk::<CHECKSUM>()?;
    if checksum(stamp, content) != u32::from_le_bytes(*expected) {
        return None;
    }
    // One copy for the record; key, value and header values are slices of it.
    let mut rest = Cursor(Bytes::copy_from_slice(content));
    let key = rest.nullable()?;
    let value = rest.nullable()?;
    let count = rest.number()?;
    let mut headers = Vec::with_capacity(count.min(rest.0.len()));
    for _ in 0..count {
        let length = rest.number()?;
        let key = String::from_utf8(rest.bytes(length)?.into()).ok()?;
        headers.push(Header { key, value: rest.nullable()? });
    }
    rest.0.is_empty().then_some(Payload { key, value, headers })
}

fn checksum(stamp: Stamp, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for number in [stamp.position, stamp.timestamp, stamp.written] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(content);
    hasher.finalize()
}

fn put_number(body: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        body.push(number as u8 | 0x80); // the low seven bits
        number >>= 7;
    }
    body.push(number as u8);
}

fn put_nullable(body: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_number(body, bytes.map_or(0, |bytes| bytes.len() + 1));
    body.extend_from_slice(bytes.unwrap_or_default());
}

struct Cursor(Bytes);

impl Cursor {
    fn number(&mut self) -> Option<usize> {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = *self.0.first()?;
            self.0 = self.0.slice(1..);
            number |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn nullable(&mut self) -> Option<Option<Bytes>> {
        match self.number()? {
            0 => Some(None),
            length => self.bytes(length - 1).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAMP: Stamp = Stamp { position: 7 << 48 | 3, timestamp: 12, written: 13 };

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from))
    }

    fn record() -> impl Strategy<Value = NewRecord> {
        let header = (".{0,9}", bytes()).prop_map(|(key, value)| Header { key, value });
        (bytes(), bytes(), proptest::collection::vec(header, 0..4)).prop_map(
            |(key, value, headers)| NewRecord {
                key,
                value,
                headers,
                ..NewRecord::new("topic", Bytes::new())
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_encoded_decodes_to_the_same(record in record()) {
            let mut body = vec![1, 2, 3];
            encode(&mut body, STAMP, &record);
            let NewRecord { key, value, headers, .. } = record;
            prop_assert_eq!(decode(STAMP, &body), Some(Payload { key, value, headers }));
        }

        #[test]
        fn one_changed_bit_is_noticed(record in record(), bit in any::<prop::sample::Index>()) {
            let mut body = Vec::new();
            encode(&mut body, STAMP, &record);
            let bit = bit.index(body.len() * 8);
            body[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(STAMP, &body), None);
        }

        #[test]
        fn any_bytes_decode_to_nothing_without_a_panic(
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            prop_assert_eq!(decode(STAMP, &body), None);
        }
    }

    #[test]
    fn a_body_in_another_row_is_noticed() {
        let mut body = Vec::new();
        encode(&mut body, STAMP, &NewRecord::new("topic", "value"));
        assert_eq!(decode(Stamp { position: STAMP.position + 1, ..STAMP }, &body), None);
        assert_eq!(decode(Stamp { timestamp: 11, ..STAMP }, &body), None);
    }
}
