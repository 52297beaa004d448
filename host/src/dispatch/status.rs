//! What a running group shows of itself: plain data, taken at one moment.

use std::sync::Arc;

use super::Pauses;
use crate::{handler::Generation, record::TopicPartition};

/// A group as this process runs it. The members of other processes are not in it: the broker knows those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group's id.
    pub id: Arc<str>,
    /// What operators have paused of it in this process.
    pub pauses: Arc<Pauses>,
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
    /// The offset that was committed last by this member; `None` before its first commit.
    pub committed: Option<u64>,
    /// The generation that handled its last record.
    pub generation: Option<Generation>,
    /// For each generation that handled records of this partition while this member had it, oldest first, the first
    /// offset it was given; the last 16.
    pub first_offsets: Vec<(Generation, u64)>,
    /// Set when the partition stands still by the policy `stop`, with the cause and the offset in words.
    pub stopped: Option<String>,
    /// Lanes that are parked.
    pub parked_lanes: usize,
    /// Records in them.
    pub parked_records: usize,
}
