//! What this process does for a group: counts since it started, and what its members have in hand.

use serde::{Deserialize, Serialize};

use super::{
    super::{PausedPart, Payload, pause},
    Parked,
};
use crate::dispatch::{self, GroupStatus, PartitionStatus};

/// Keys that are shown as those of which the most records wait.
const HOTTEST: usize = 5;

/// A key of which records wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotKey {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The key.
    pub key: Payload,
    /// Its records that wait for the handler.
    pub waiting: usize,
}

/// What this process does for a group, and did since it started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThisProcess {
    /// Whether an operator has paused all of it here.
    pub paused: bool,
    /// What operators have paused of it here.
    pub pauses: Vec<PausedPart>,
    /// What is wrong with the handler, where it fails every call and records wait; else `null`.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Records handled.
    pub handled: u64,
    /// Attempts that failed and were put off.
    pub retried: u64,
    /// Records written to the dead-letter topic.
    pub dead_lettered: u64,
    /// Records parked.
    #[serde(default)]
    pub parked: u64,
    /// Records dropped by policy.
    pub dropped: u64,
    /// Records in the handler's hands now.
    #[serde(default)]
    pub in_flight: usize,
    /// Records read that wait for the handler now.
    #[serde(default)]
    pub waiting: usize,
    /// Lanes that these records are in.
    #[serde(default)]
    pub lanes: usize,
    /// Of them, those that wait for another attempt.
    #[serde(default)]
    pub deferred: usize,
    /// What is parked now.
    #[serde(default)]
    pub parked_now: Parked,
    /// The keys of which the most records wait, at most five, most first. Empty where not the key says what is handled
    /// in order.
    #[serde(default)]
    pub hottest: Vec<HotKey>,
}

pub(super) fn this_process(status: &GroupStatus) -> ThisProcess {
    let partitions = || status.members.iter().flat_map(|member| &member.partitions);
    let sum = |read: fn(&PartitionStatus) -> usize| partitions().map(read).sum();
    let mut hottest: Vec<_> = status.members.iter().flat_map(|member| &member.hottest).collect();
    hottest.sort_by(|a, b| {
        b.waiting.cmp(&a.waiting).then_with(|| (&a.partition, &a.key).cmp(&(&b.partition, &b.key)))
    });
    ThisProcess {
        paused: status.pauses.whole().is_some(),
        pauses: pause::parts(&status.pauses),
        trouble: status.trouble.clone(),
        handled: status.handled,
        retried: status.retried,
        dead_lettered: status.dead_lettered,
        parked: status.parked,
        dropped: status.dropped,
        in_flight: sum(|partition| partition.in_flight),
        waiting: sum(|partition| partition.waiting),
        lanes: sum(|partition| partition.lanes),
        deferred: sum(|partition| partition.deferred),
        parked_now: Parked {
            lanes: sum(|partition| partition.parked_lanes),
            records: sum(|partition| partition.parked_records),
        },
        hottest: hottest.into_iter().take(HOTTEST).map(hot_key).collect(),
    }
}

fn hot_key(hot: &dispatch::HotKey) -> HotKey {
    HotKey {
        topic: hot.partition.topic.to_string(),
        partition: hot.partition.partition,
        key: Payload::from(&hot.key),
        waiting: hot.waiting,
    }
}
