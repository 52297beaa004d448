//! What a replay tells.

use serde::{Deserialize, Serialize};

use super::{Header, Payload};
use crate::record;

/// One line of what a replay tells while it goes on. The last one is [`ReplayLine::End`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum ReplayLine {
    /// It begins.
    Begin {
        /// The generation that serves now, `NAME@DIGEST`.
        handler: String,
        /// Where the output goes.
        into: String,
        /// What is to be handled, in this order.
        ranges: Vec<Range>,
    },
    /// So far it has come with a partition: what is below this offset is done with.
    Progress {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The next offset.
        next: u64,
        /// Records handled in all.
        handled: u64,
        /// Records written in all, or that would have been.
        written: u64,
    },
    /// A record that would be written.
    WouldWrite {
        /// The place of the record that it came from.
        source: String,
        /// The record.
        record: Output,
    },
    /// A record that was not handled.
    NotHandled {
        /// Its place.
        record: String,
        /// Why.
        reason: String,
    },
    /// That was all, or it could not go on.
    End {
        /// Records handled.
        handled: u64,
        /// Records written, or that would have been.
        written: u64,
        /// Records that were not handled.
        not_handled: u64,
        /// Why it ended before its end; `null` when it did not. What was written is written.
        error: Option<String>,
    },
}

/// Part of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The first offset.
    pub from: u64,
    /// One past the last.
    pub to: u64,
}

/// A record on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The partition that the handler chose; `null`: none.
    pub partition: Option<u32>,
    /// The key; `null` when it has none. A key selector may give it another.
    pub key: Option<Payload>,
    /// The value; `null` is a tombstone.
    pub value: Option<Payload>,
    /// Headers in order.
    pub headers: Vec<Header>,
}

impl From<&record::NewRecord> for Output {
    fn from(record: &record::NewRecord) -> Self {
        Self {
            partition: record.partition,
            key: record.key.as_ref().map(Payload::from),
            value: record.value.as_ref().map(Payload::from),
            headers: super::topic::headers(&record.headers),
        }
    }
}
