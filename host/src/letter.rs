//! Dead letters as records: how one is written, and what is read back from one.
//!
//! A letter is a record that was given up on: its key, value and headers as they were, and behind those the headers of
//! [`Letter::headers`], which say where it came from and why. What becomes of a letter later is written behind it, in its
//! own partition, as a *mark*: a record without a value that names the letter. That a group was moved is written there,
//! too ([`Entry::Sought`]). So a topic of letters tells its whole story to whoever reads it from its beginning, and needs
//! nothing beside it. What a record is, its last header says: a
//! letter keeps all others, even those of a letter that was given up on once more. Pure: the one place that knows the
//! format, for those who write it and those who read it.

use std::time::SystemTime;

use crate::record::{Header, NewRecord, Place, Record, TopicPartition};

const SOURCE: &str = "keyway.source";
const GROUP: &str = "keyway.group";
const HANDLER: &str = "keyway.handler";
const ATTEMPTS: &str = "keyway.attempts";
const REASON: &str = "keyway.reason";
const REJECTED_AT: &str = "keyway.rejected-at";
/// The headers of a letter, in their order.
const LETTER: [&str; 6] = [SOURCE, GROUP, HANDLER, ATTEMPTS, REASON, REJECTED_AT];

const REDRIVEN: &str = "keyway.redriven";
const RELEASED: &str = "keyway.released";
const HELD: &str = "keyway.held";
const SOUGHT: &str = "keyway.sought";

/// What a letter says of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Where the record was read.
    pub source: Place,
    /// The group that gave it up.
    pub group: String,
    /// The generation that handled it last, `NAME@DIGEST`.
    pub handler: String,
    /// How often it was handled; 0 for a record that was parked behind another.
    pub attempts: u32,
    /// Why it was given up, in the handler's words or the gateway's.
    pub reason: String,
    /// When, to the millisecond.
    pub rejected_at: SystemTime,
}

/// What happened to a letter after it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What.
    pub kind: MarkKind,
    /// The letter's own place.
    pub letter: Place,
    /// Where its record was read.
    pub source: Place,
}

/// What a [`Mark`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// The letter is done with: its record was written back to its source, or was handled after all.
    Redriven,
    /// Its lane is to be given back; of meaning for parked records.
    Released,
    /// Its lane, given back, was given up on again and is parked as before.
    Held,
}

/// What a record of a topic of letters is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record that was given up on.
    Letter(Letter),
    /// What became of one.
    Mark(Mark),
    /// The group was moved to this place by an operator, and handles what is there and behind it again. So of the letters
    /// before this one, those about these records are done with.
    Sought(Place),
}

impl Entry {
    /// Whether this, written at offset `at`, is the end of a letter about `source` at offset `letter`.
    pub fn supersedes(&self, at: u64, source: &Place, letter: u64) -> bool {
        match self {
            Self::Sought(place) => {
                place.partition == source.partition && place.offset <= source.offset && letter < at
            }
            Self::Letter(_) | Self::Mark(_) => false,
        }
    }
}

impl Letter {
    /// The headers that go behind the record's own.
    pub fn headers(&self) -> Vec<Header> {
        let values = [
            self.source.to_string(),
            self.group.clone(),
            self.handler.clone(),
            self.attempts.to_string(),
            self.reason.clone(),
            humantime::format_rfc3339_millis(self.rejected_at).to_string(),
        ];
        LETTER.into_iter().zip(values).map(|(key, value)| header(key, value)).collect()
    }

    /// Reads what was written by [`Letter::headers`].
    fn read(headers: &[Header]) -> Option<Self> {
        let ours = headers.get(headers.len().checked_sub(LETTER.len())?..)?;
        let text = |index: usize| -> Option<&str> {
            let header: &Header = &ours[index];
            let text = std::str::from_utf8(header.value.as_ref()?).ok()?;
            (header.key == LETTER[index]).then_some(text)
        };
        Some(Self {
            source: text(0)?.parse().ok()?,
            group: text(1)?.to_owned(),
            handler: text(2)?.to_owned(),
            attempts: text(3)?.parse().ok()?,
            reason: text(4)?.to_owned(),
            rejected_at: humantime::parse_rfc3339(text(5)?).ok()?,
        })
    }
}

impl Mark {
    /// The record that says so. It has the letter's key, so that a reader knows the lane without the letter.
    pub fn record(&self, letter: &Record) -> NewRecord {
        let kind = match self.kind {
            MarkKind::Redriven => REDRIVEN,
            MarkKind::Released => RELEASED,
            MarkKind::Held => HELD,
        };
        NewRecord {
            topic: self.letter.partition.topic.clone(),
            partition: Some(self.letter.partition.partition),
            timestamp: None,
            key: letter.key.clone(),
            value: None,
            headers: vec![
                header(SOURCE, self.source.to_string()),
                header(kind, self.letter.to_string()),
            ],
        }
    }

    fn read(headers: &[Header]) -> Option<Self> {
        let [source, mark] = headers else { return None };
        let kind = match mark.key.as_str() {
            REDRIVEN => MarkKind::Redriven,
            RELEASED => MarkKind::Released,
            HELD => MarkKind::Held,
            _ => return None,
        };
        let place =
            |header: &Header| std::str::from_utf8(header.value.as_ref()?).ok()?.parse().ok();
        let is_ours = source.key == SOURCE;
        is_ours.then_some(Self { kind, letter: place(mark)?, source: place(source)? })
    }
}

/// The record that says [`Entry::Sought`], in this partition of a topic of letters.
pub fn sought(at: &TopicPartition, place: &Place) -> NewRecord {
    NewRecord {
        topic: at.topic.clone(),
        partition: Some(at.partition),
        timestamp: None,
        key: None,
        value: None,
        headers: vec![header(SOUGHT, place.to_string())],
    }
}

fn read_sought(headers: &[Header]) -> Option<Place> {
    let [sought] = headers else { return None };
    let place = std::str::from_utf8(sought.value.as_ref()?).ok()?;
    (sought.key == SOUGHT).then(|| place.parse().ok())?
}

/// What a record of a topic of letters is; `None`: nothing of these, so not Keyway's.
pub fn read(record: &Record) -> Option<Entry> {
    let letter = || Letter::read(&record.headers).map(Entry::Letter);
    let mark = || Mark::read(&record.headers).map(Entry::Mark);
    letter().or_else(mark).or_else(|| read_sought(&record.headers).map(Entry::Sought))
}

/// The headers that a letter's record had before it became one.
pub fn original_headers(letter: &Record) -> &[Header] {
    &letter.headers[..letter.headers.len().saturating_sub(LETTER.len())]
}

/// The record as it was when it was read from its source.
pub fn original(letter: &Letter, record: &Record) -> Record {
    let TopicPartition { topic, partition } = letter.source.partition.clone();
    Record {
        topic,
        partition,
        offset: letter.source.offset,
        headers: original_headers(record).to_vec(),
        ..record.clone()
    }
}

fn header(key: &str, value: String) -> Header {
    Header { key: key.into(), value: Some(value.into()) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn letter() -> Letter {
        Letter {
            source: Place { partition: TopicPartition::new("t.x-y_z", 2), offset: 17 },
            group: "a group/of @ours".into(),
            handler: "print@a1b2c3d4e5f6".into(),
            attempts: 5,
            reason: "no such user: \u{1f984}\nsecond line".into(),
            rejected_at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        }
    }

    fn record(headers: Vec<Header>) -> Record {
        Record {
            topic: "t.dead-letters".into(),
            partition: 2,
            offset: 4,
            timestamp: None,
            key: Some("k".into()),
            value: Some("v".into()),
            headers,
        }
    }

    #[test]
    fn a_letter_is_read_as_it_was_written_and_its_own_headers_are_left() {
        let own = vec![
            Header { key: "a".into(), value: None },
            header("keyway.source", "the record's own".into()),
            header("a", "again".into()),
        ];
        let written = record([own.clone(), letter().headers()].concat());
        assert_eq!(read(&written), Some(Entry::Letter(letter())));
        assert_eq!(original_headers(&written), own);
    }

    #[test]
    fn a_letter_about_a_letter_or_about_a_mark_is_a_letter() {
        let of_a_letter = record([letter().headers(), letter().headers()].concat());
        assert_eq!(read(&of_a_letter), Some(Entry::Letter(letter())));
        assert_eq!(original_headers(&of_a_letter), letter().headers());
        let mark = Mark {
            kind: MarkKind::Redriven,
            letter: Place { partition: TopicPartition::new("t.dead-letters", 2), offset: 4 },
            source: letter().source,
        };
        let headers = mark.record(&record(Vec::new())).headers;
        let of_a_mark = record([headers, letter().headers()].concat());
        assert_eq!(read(&of_a_mark), Some(Entry::Letter(letter())));
    }

    #[test]
    fn a_mark_goes_behind_its_letter_with_the_same_key_and_is_read_back() {
        for kind in [MarkKind::Redriven, MarkKind::Released, MarkKind::Held] {
            let of = record(letter().headers());
            let mark = Mark { kind, letter: of.place(), source: letter().source };
            let written = mark.record(&of);
            assert_eq!(
                (&*written.topic, written.partition, written.key.as_deref(), &written.value),
                ("t.dead-letters", Some(2), Some(b"k".as_slice()), &None)
            );
            assert_eq!(read(&record(written.headers)), Some(Entry::Mark(mark)));
        }
    }

    #[test]
    fn a_seek_is_the_end_of_the_letters_before_it_about_what_comes_again() {
        let place = Place { partition: TopicPartition::new("t.x-y_z", 2), offset: 17 };
        let written = sought(&TopicPartition::new("g.parked", 2), &place);
        assert_eq!((&*written.topic, written.partition), ("g.parked", Some(2)));
        let entry = read(&record(written.headers)).unwrap();
        assert_eq!(entry, Entry::Sought(place.clone()));
        assert!(entry.supersedes(8, &place, 7));
        assert!(!entry.supersedes(8, &place, 9), "it was parked since");
        assert!(!entry.supersedes(8, &Place { offset: 16, ..place.clone() }, 7));
        let elsewhere = Place { partition: TopicPartition::new("t.x-y_z", 3), ..place };
        assert!(!entry.supersedes(8, &elsewhere, 7));
    }

    #[test]
    fn what_somebody_else_wrote_is_neither() {
        for headers in [
            Vec::new(),
            vec![header("keyway.source", "t/0@1".into())],
            letter().headers()[1..].to_vec(),
            vec![header("keyway.source", "t/0@1".into()), header("keyway.redriven", "t".into())],
        ] {
            assert_eq!(read(&record(headers)), None);
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_reading_fail(
            keys in prop::collection::vec(
                prop_oneof![prop::sample::select(LETTER.to_vec()), Just(REDRIVEN), Just("x")], 0..9
            ),
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        ) {
            let value: Option<bytes::Bytes> = value.map(Into::into);
            let headers = keys.iter().map(|key| Header { key: (*key).into(), value: value.clone() });
            let record = record(headers.collect());
            read(&record);
            prop_assert!(original_headers(&record).len() <= record.headers.len());
        }
    }
}
