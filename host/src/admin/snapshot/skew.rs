//! How the records of a topic are shared out among its partitions.

use serde::{Deserialize, Serialize};

use super::Payload;
use crate::produce;

/// What one process has written to a topic in the last one to two minutes. Under exactly-once a record counts when its
/// transaction is committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Skew {
    /// Records.
    pub records: u64,
    /// Bytes of their keys, values and headers.
    pub bytes: u64,
    /// What each partition got, by number.
    pub partitions: Vec<PartitionShare>,
    /// The keys that were written most often, the hottest first, as far as it is known: 64 are counted, and when many records
    /// come only one in 32 is looked at.
    pub hottest: Vec<WrittenKey>,
    /// The keys that callers gave most often, in the same way, where a key selector decided; `null`: none did.
    pub hottest_of_callers: Option<Vec<WrittenKey>>,
    /// Set while one partition gets most records.
    pub warning: Option<SkewWarning>,
}

/// What a partition got.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionShare {
    /// The partition.
    pub partition: u32,
    /// Records.
    pub records: u64,
    /// Bytes of their keys, values and headers.
    pub bytes: u64,
    /// Its share of all records, in percent.
    pub percent: f64,
}

/// A key, and how often it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenKey {
    /// Its first 256 bytes.
    pub key: Payload,
    /// Records with it, at the most.
    pub records: u64,
    /// Records with it, at the least.
    pub at_least: u64,
}

/// A partition that gets most records of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkewWarning {
    /// The partition.
    pub partition: u32,
    /// Its share of all records, by their keys or a partition that was given, in percent.
    pub percent: f64,
}

/// How records are shared out among so many partitions; `None`: there are none.
pub(super) fn skew(skew: &produce::Skew, partitions: usize) -> Option<Skew> {
    let of = |at| skew.partitions.get(at).copied().unwrap_or_default();
    let shares: Vec<_> = (0..partitions.max(skew.partitions.len())).map(of).collect();
    let records: u64 = shares.iter().map(|share| share.records).sum();
    let share = |(partition, share): (u32, &produce::Share)| PartitionShare {
        partition,
        records: share.records,
        bytes: share.bytes,
        percent: percent(share.records as f64 / records as f64),
    };
    let keys = |keys: &[produce::Hot]| keys.iter().map(key).collect::<Vec<_>>();
    (records > 0).then(|| Skew {
        records,
        bytes: shares.iter().map(|share| share.bytes).sum(),
        partitions: (0..).zip(&shares).map(share).collect(),
        hottest: keys(&skew.hottest),
        hottest_of_callers: skew.hottest_of_callers.as_deref().map(keys),
        warning: skew.skewed.map(|skewed| SkewWarning {
            partition: skewed.partition,
            percent: percent(skewed.share),
        }),
    })
}

fn key(hot: &produce::Hot) -> WrittenKey {
    WrittenKey { key: Payload::from(&hot.key), records: hot.most, at_least: hot.least }
}

/// To a tenth.
fn percent(share: f64) -> f64 {
    (share * 1000.0).round() / 10.0
}
