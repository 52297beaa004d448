//! Where records would go under one key selector and under another.

use serde::{Deserialize, Serialize};

use super::Payload;

/// What a look at records has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPreview {
    /// The topic.
    pub topic: String,
    /// Who decides now: `NAME@GENERATION`, or `caller`.
    pub serving: String,
    /// Who would decide: `NAME@GENERATION`, or `caller`.
    pub other: String,
    /// Whether the other has a configuration of its own.
    pub reconfigured: bool,
    /// Records that both were asked for.
    pub previewed: usize,
    /// Of them, those whose partition would be another. One that is spread has a partition under neither: it moves where the
    /// other gives it one.
    pub moved: usize,
    /// Those whose key would be another.
    pub rekeyed: usize,
    /// Those that one of both refuses, or fails at; they count as neither moved nor rekeyed.
    pub refused: usize,
    /// How many each partition gets.
    pub partitions: Vec<PreviewedPartition>,
    /// How many are spread over all partitions, by the one that decides now.
    pub serving_spread: usize,
    /// How many are, by the other.
    pub other_spread: usize,
    /// Why it ended before all records were looked at; `null`: it did not.
    pub ended_early: Option<String>,
    /// The records, in the order given, or by time.
    pub records: Vec<PreviewedRecord>,
}

/// What a partition gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewedPartition {
    /// The partition.
    pub partition: u32,
    /// Records, by the one that decides now.
    pub serving: usize,
    /// Records, by the other.
    pub other: usize,
}

/// A record, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewedRecord {
    /// Where it is, as `TOPIC/PARTITION@OFFSET`; `null`: it was given.
    pub place: Option<String>,
    /// The key that the selectors see: the caller's. A record that is in a topic has the one that it was written with.
    pub key: Option<Payload>,
    /// Where it goes now.
    pub serving: Place,
    /// Where it would go.
    pub other: Place,
    /// Whether that is another partition; `null` where one of both refuses it.
    pub moves: Option<bool>,
}

/// Where a record goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The key that it is written with.
    pub key: Option<Payload>,
    /// The partition; `null`: it is spread.
    pub partition: Option<u32>,
    /// Why it goes nowhere; `null`: it does.
    pub error: Option<String>,
}
