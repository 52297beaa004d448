//! What a handler and a key selector are to the rest of the gateway, whoever implements them.
//!
//! `plugin` implements these two traits over WebAssembly components, `dispatch` and `produce` use them, and neither
//! knows the other. Nothing here decides what becomes of a failed record: a plugin says what happened, the
//! operator's configuration says what follows.

mod beginnings;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub(crate) use beginnings::Beginnings;

use crate::record::{NewRecord, Record, TopicPartition};

/// One loaded version of a plugin. It shows as `NAME@first-12-hex-of-digest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Generation {
    /// The plugin's name: its file name without `.wasm`.
    pub plugin: Arc<str>,
    /// SHA-256 of the component's bytes.
    pub digest: [u8; 32],
}

impl Generation {
    /// The first twelve hexadecimal digits of the digest: how a generation is named on screens and in the API.
    pub fn short(&self) -> String {
        hex(&self.digest[..6])
    }

    /// The whole digest as 64 hexadecimal digits.
    pub fn long(&self) -> String {
        hex(&self.digest)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.plugin, self.short())
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// A record on its way to a handler.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The record.
    pub record: Record,
    /// 1 the first time this record is handled, 2 after the first retry.
    pub attempt: u32,
}

/// What a handler made of one record.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Done; these records are to be written, in order, before the offset may be committed.
    Handled(Vec<NewRecord>),
    /// Not now: something the handler needs is not there.
    Retry {
        /// In the handler's own words.
        reason: String,
        /// How long to wait at least; `None`: the group's backoff.
        after: Option<Duration>,
    },
    /// Never: the handler refuses this record.
    Reject {
        /// In the handler's own words.
        reason: String,
    },
    /// The handler broke a rule or itself. Counts as a retry with this cause as its reason.
    Failed(Failure),
}

/// Why a call into a plugin ended without an answer of the plugin's own. The instance that ran it is thrown away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It trapped: a panic, an unreachable instruction, an access out of bounds, a stack overflow.
    #[error("trap: {0}")]
    Trap(String),
    /// It ran past its time limit.
    #[error("ran longer than its limit of {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// It asked for more memory than its limit, in bytes.
    #[error("wanted more memory than its limit of {}", bytesize::ByteSize(*.0))]
    Memory(u64),
    /// It emitted more records, or more bytes, than its limit allows.
    #[error("emitted {given} {unit}, the limit is {limit}")]
    Emit {
        /// What was counted: `records` or `bytes`.
        unit: &'static str,
        /// How many it emitted.
        given: u64,
        /// How many it may.
        limit: u64,
    },
    /// It wanted to hold, or to hand over, more of something than it may at once.
    #[error("wanted more {what} than its limit of {limit}")]
    Held {
        /// Of what, in words.
        what: &'static str,
        /// How many it may hold.
        limit: u64,
    },
    /// It emitted something it may not: a topic off the allow-list, or no topic where there is no `output-topic`.
    #[error("{0}")]
    Forbidden(String),
    /// No instance could be made: `init` failed, or there is no room for another.
    #[error("no instance: {0}")]
    Instance(String),
}

/// What came of a run of records.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// The generation that handled them.
    pub generation: Generation,
    /// Whether that generation is only tried, beside the one that serves.
    pub on_trial: bool,
    /// The records of the run, all of them, as they were given.
    pub deliveries: Vec<Delivery>,
    /// What came of the first `outcomes.len()` of them. The run ends after the first outcome that is not
    /// [`Outcome::Handled`]: the records after it were not handled.
    pub outcomes: Vec<Outcome>,
}

impl RunReport {
    /// Of a run of which no record was attempted.
    pub fn not_begun(generation: Generation, deliveries: Vec<Delivery>) -> Self {
        Self { generation, on_trial: false, deliveries, outcomes: Vec::new() }
    }
}

/// What came of runs of several lanes that were handed over together.
pub struct RunReports {
    /// Of all of them but the one that waits, in the order they were given; those with no outcome were not begun.
    pub over: Vec<RunReport>,
    /// The place, among those that were given, of one that has to wait for something, and what will come of it. Dropping
    /// that ends the run where it is.
    pub waiting: Option<(usize, BoxFuture<'static, RunReport>)>,
    /// How many had their turn and did not have to wait: so many may well be handed over together again.
    pub quick: usize,
}

/// That a generation handled, or as a key selector decided, a record of a partition which came before all others that it has
/// handled or decided of it, as far as this process knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The group that handles the partition; `None`: it was decided on the way to the broker.
    pub group: Option<Arc<str>>,
    /// The partition.
    pub partition: TopicPartition,
    /// The record's offset.
    pub offset: u64,
    /// The generation.
    pub generation: Generation,
    /// When that was seen.
    pub at: SystemTime,
}

/// Handles records.
pub trait Handler: Send + Sync + 'static {
    /// Handles a run of records of one lane, one at a time and in order, on threads of its own. The whole run sees
    /// one generation. Never fails as a call: whatever goes wrong is an [`Outcome`]. At least one record is
    /// attempted, so that every run makes progress.
    fn handle(&self, run: Vec<Delivery>) -> BoxFuture<'static, RunReport>;

    /// Handles runs of several lanes, one after another: for calls that are quick, one hop between threads for all of
    /// them. As soon as one has to wait the others come back, handled or not, so that none is held up by another; and so
    /// they do when they have taken long together, or when one breaks the handler.
    ///
    /// Without an implementation of its own, a handler may wait in every run, and handles [one](one_of).
    fn handle_runs(&self, runs: Vec<Vec<Delivery>>) -> BoxFuture<'static, RunReports> {
        one_of(self, runs)
    }

    /// The generation that serves now.
    fn generation(&self) -> Generation;

    /// What is wrong, in words, while it fails every call and so lets records wait before it tries another.
    fn trouble(&self) -> Option<String> {
        None
    }
}

/// Handles the first of these runs, for which the others do not wait.
pub(crate) fn one_of<H: Handler + ?Sized>(
    handler: &H,
    mut runs: Vec<Vec<Delivery>>,
) -> BoxFuture<'static, RunReports> {
    let generation = handler.generation();
    let rest = runs.split_off(runs.len().min(1)).into_iter();
    let over: Vec<_> = rest.map(|run| RunReport::not_begun(generation.clone(), run)).collect();
    let first = runs.pop().map(|run| handler.handle(run));
    Box::pin(async move {
        match first {
            Some(first) if over.is_empty() => {
                RunReports { over: vec![first.await], waiting: None, quick: 0 }
            }
            first => RunReports { over, waiting: first.map(|first| (0, first)), quick: 0 },
        }
    })
}

/// Where a key selector wants a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Without a key, spread over all partitions.
    Spread,
    /// With this key; its murmur2 hash picks the partition.
    Key(Bytes),
    /// On this partition, with the caller's key. In range: the implementation checks it.
    Partition(u32),
}

/// A key selector's decision, and whose it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Where the record goes.
    pub target: Target,
    /// The generation that decided.
    pub generation: Generation,
}

/// Why a key selector gave no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// The selector refuses this record; the text is meant for the caller.
    #[error("{generation} refused the record: {reason}")]
    Refused {
        /// The generation that refused.
        generation: Generation,
        /// In the selector's own words.
        reason: String,
    },
    /// The selector broke.
    #[error("{generation} failed: {failure}")]
    Failed {
        /// The generation that failed.
        generation: Generation,
        /// How.
        failure: Failure,
    },
    /// It named a partition that the topic does not have.
    #[error("{generation} chose partition {given}, the topic has {partitions} (0 to {})", .partitions - 1)]
    ImpossiblePartition {
        /// The generation that chose.
        generation: Generation,
        /// The partition it named.
        given: u32,
        /// How many the topic has.
        partitions: u32,
    },
    /// Every instance is busy and as many callers as are allowed wait already.
    #[error("the key selector is at its bound of calls in flight")]
    Busy,
}

/// Decides keys and partitions.
pub trait Selector: Send + Sync + 'static {
    /// Decides where `candidate` goes, of a topic with `partitions` partitions.
    fn select<'a>(
        &'a self,
        candidate: &'a NewRecord,
        partitions: u32,
    ) -> BoxFuture<'a, Result<Selection, SelectError>>;

    /// The generation that serves now.
    fn generation(&self) -> Generation;
}
