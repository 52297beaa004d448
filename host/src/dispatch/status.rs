//! What a running group shows of itself: plain data, taken at one moment.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use super::Pauses;
use crate::{handler::Generation, record::TopicPartition};

/// A group as this process runs it. The members of other processes are not in it: the broker knows those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group's id.
    pub id: Arc<str>,
    /// What operators have paused of it in this process.
    pub pauses: Arc<Pauses>,
    /// What is wrong with the handler, where it fails every call and records wait.
    pub trouble: Option<String>,
    /// This process's members.
    pub members: Vec<MemberStatus>,
    /// Records given up on and dropped by policy, since this process started.
    pub dropped: u64,
    /// Records written to the dead-letter topic, since this process started.
    pub dead_lettered: u64,
    /// Records parked, since this process started.
    pub parked: u64,
    /// Records handled, since this process started.
    pub handled: u64,
    /// Attempts that failed and were put off, since this process started.
    pub retried: u64,
}

/// One member of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// The id that the broker gave it; `None` before it has joined.
    pub id: Option<Arc<str>>,
    /// How it does.
    pub state: MemberState,
    /// What is wrong, where something is, in words.
    pub trouble: Option<String>,
    /// What it reads.
    pub partitions: Vec<PartitionStatus>,
    /// The keys for which the most of its records wait, at most five, most first.
    pub hottest: Vec<HotKey>,
}

/// A lane in which records of one key wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotKey {
    /// The partition.
    pub partition: TopicPartition,
    /// The key.
    pub key: Bytes,
    /// Records that wait for the handler.
    pub waiting: usize,
}

/// How a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It waits to be told what it reads.
    Joining,
    /// It reads its partitions.
    Active,
    /// It has joined and there is no partition for it.
    Inactive,
    /// It gives partitions up.
    Rebalancing,
    /// It could not go on; the group starts it again after a while.
    Failed,
}

/// One partition in a member's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Which.
    pub partition: TopicPartition,
    /// Records handed to the handler and not finished.
    pub in_flight: usize,
    /// Records read and not yet handed to the handler.
    pub waiting: usize,
    /// Lanes that these records are in.
    pub lanes: usize,
    /// Of them, those that wait for another attempt of their first record.
    pub deferred: usize,
    /// When the oldest record was written that was read and is not finished, in milliseconds since the Unix epoch, by
    /// its timestamp; `None`: there is none, or it carries none. Coarser than 50 ms where a partition stands still for
    /// long.
    pub oldest: Option<u64>,
    /// The offset that was committed last by this member; `None` before its first commit.
    pub committed: Option<u64>,
    /// The generation that handled its last record.
    pub generation: Option<Generation>,
    /// Set when the partition stands still by the policy `stop`, with the cause and the offset in words.
    pub stopped: Option<String>,
    /// Lanes that are parked.
    pub parked_lanes: usize,
    /// Records in them.
    pub parked_records: usize,
}

impl PartitionStatus {
    /// Milliseconds from the writing of the oldest record that is not finished to `now`; none where its clock is ahead.
    pub fn age(&self, now: SystemTime) -> Option<u64> {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        self.oldest.map(|oldest| now.saturating_sub(oldest))
    }
}
