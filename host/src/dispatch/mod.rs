//! One group's life in this process: member events become lanes, lanes become runs for the handler, outcomes become
//! output, dead letters and commits.
//!
//! [`Group`] is all that the gateway sees; [`OffsetMap`] is the format that other programs read and write, too. Within,
//! `lanes`, `offsets`, `retry`, `batch` and `parked` are plain data structures that decide, `figures` and `timeline` are what
//! is shown of them, `pauses` is what operators want held back, `flow` and `width` bound what is under way, `member` is the
//! loop that acts, `partition` is what it knows of one partition, `output` writes, and `give_back` handles what was parked.
//! Nothing here knows which broker or what kind of plugin it works with.
//!
//! Invariants: records of one lane are handled one at a time and in offset order, retries included; a committed offset never
//! passes a record that is neither handled, dead-lettered, parked nor dropped by policy; a revoked partition is neither
//! handled nor committed once its release was acknowledged.

mod batch;
mod figures;
mod flow;
mod give_back;
mod group;
mod lanes;
mod member;
mod offsets;
mod output;
mod parked;
mod partition;
mod pauses;
mod retry;
mod status;
mod timeline;
mod width;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

pub use group::{Group, SeekError};
pub use offsets::{OffsetMap, Unread};
pub use output::note_seek;
pub use pauses::{Pause, PausedAsAWhole, Pauses, Scope};
pub use retry::{Verdict, judge};
pub use status::{GroupStatus, HotKey, MemberState, MemberStatus, PartitionStatus};

/// How long a partition that is let go may take to finish what is in flight, at the most, where the handler fails every call,
/// so that what is in flight only waits for it.
const DRAIN_IN_TROUBLE: Duration = Duration::from_secs(1);
/// How long the last commit of a member that leaves may take.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// What a group has done since this process started.
#[derive(Debug, Default)]
struct Counters {
    handled: Counter,
    retried: Counter,
    dead_lettered: Counter,
    parked: Counter,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
