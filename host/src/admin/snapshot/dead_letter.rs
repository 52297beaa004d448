//! Dead letters and parked records, as they are listed and as they are given back.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::topic::{Header, Payload, headers};
use crate::{
    letter::{self, Letter},
    record::{Place, Record},
};

/// A look at what was given up on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetters {
    /// By topic, partition and offset. What was redriven is not among them.
    pub dead_letters: Vec<DeadLetter>,
    /// Where the next look goes on, to be given as `from`; `null`: that was all.
    pub next: Option<String>,
}

/// A record that was given up on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The topic that keeps it.
    pub topic: String,
    /// Its partition there.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
    /// Whether it is parked: its lane waits behind it, or it waits in its lane.
    pub parked: bool,
    /// Where it was read.
    pub source: Source,
    /// The group that gave it up.
    pub group: String,
    /// The generation that handled it last.
    pub handler: String,
    /// How often it was handled; 0 where it was parked behind another.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// When, in RFC 3339.
    pub rejected_at: String,
    /// The key; `null` when it has none.
    pub key: Option<Payload>,
    /// The value; `null` is a tombstone.
    pub value: Option<Payload>,
    /// The headers that it had before.
    pub headers: Vec<Header>,
}

/// Where a record was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
}

/// One line of what a redrive tells while it goes on. The last one is [`RedriveLine::End`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum RedriveLine {
    /// A dead letter was written back.
    Redriven {
        /// The letter's place.
        letter: String,
        /// Where its record is now; without an offset in a dry run.
        to: String,
    },
    /// A dead letter was handled by the handler that was named.
    Handled {
        /// The letter's place.
        letter: String,
        /// The plugin.
        handler: String,
        /// Where what it emitted is now.
        written: Vec<String>,
    },
    /// A parked lane is to be given back by the member that owns it.
    Released {
        /// The place of its first letter.
        letter: String,
        /// How many records are parked in it.
        records: u64,
    },
    /// A letter could not be written back, or was given up on again; it stays what it is.
    Refused {
        /// The letter's place.
        letter: String,
        /// Why.
        reason: String,
    },
    /// That was all, or it could not go on.
    End {
        /// Records written back, handled, or in lanes that are given back.
        records: u64,
        /// Letters that could not be.
        refused: u64,
        /// Why it ended before its end; `null` when it did not. What was done is done: the next redrive goes on.
        error: Option<String>,
    },
}

/// A letter as it is shown.
pub fn dead_letter(letter: &Letter, record: &Record, parked: bool) -> DeadLetter {
    let Place { partition, offset } = letter.source.clone();
    DeadLetter {
        topic: record.topic.to_string(),
        partition: record.partition,
        offset: record.offset,
        parked,
        source: Source {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            offset,
        },
        group: letter.group.clone(),
        handler: letter.handler.clone(),
        attempts: letter.attempts,
        reason: letter.reason.clone(),
        rejected_at: rfc_3339(letter.rejected_at),
        key: record.key.as_ref().map(Payload::from),
        value: record.value.as_ref().map(Payload::from),
        headers: headers(letter::original_headers(record)),
    }
}

fn rfc_3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::record;

    #[test]
    fn a_dead_letter_is_shown_with_its_cause_and_the_record_as_it_was() {
        let letter = Letter {
            source: "my-topic/2@17".parse().unwrap(),
            group: "g".into(),
            handler: "print@0a0a0a0a0a0a".into(),
            attempts: 5,
            reason: "no such user".into(),
            rejected_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        };
        let own = record::Header { key: "a".into(), value: Some("b".into()) };
        let record = Record {
            topic: "my-topic.dead-letters".into(),
            partition: 2,
            offset: 4,
            timestamp: None,
            key: Some("k".into()),
            value: None,
            headers: [vec![own], letter.headers()].concat(),
        };
        assert_eq!(
            serde_json::to_value(dead_letter(&letter, &record, false)).unwrap(),
            serde_json::json!({
                "topic": "my-topic.dead-letters", "partition": 2, "offset": 4, "parked": false,
                "source": {"topic": "my-topic", "partition": 2, "offset": 17},
                "group": "g", "handler": "print@0a0a0a0a0a0a", "attempts": 5, "reason": "no such user",
                "rejected_at": "2023-11-14T22:13:20.123Z",
                "key": "k", "value": null, "headers": [{"key": "a", "value": "b"}],
            })
        );
    }
}
