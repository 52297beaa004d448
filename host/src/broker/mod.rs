//! The port to whatever keeps the records: Kafka, or the embedded broker.
//!
//! This module owns the port's types and nothing else; [`embedded`] and [`kafka`] own the two implementations and
//! are the only places that name `rusqlite` and `rdkafka`. What the port promises is written down once, as the
//! conformance suite in `tests/`, and both implementations pass it.
//!
//! Invariant: an acknowledgement is given only when the record is durable by the broker's own strongest rule
//! (`acks=all` on Kafka, an fsync of the log on the embedded broker).

mod acknowledgement;
pub mod embedded;
pub mod kafka;
mod member;
mod transaction;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;

pub use acknowledgement::{Acknowledge, Acknowledgement};
pub use member::{
    Assigned, Command, Commands, CommitError, Committed, Member, MemberDriver, MemberEvent,
    OffsetCommit,
};
pub use transaction::{Refusal, TransactError, Transactions};

use crate::{
    config::Start,
    record::{NewRecord, Record, TopicPartition},
};

/// How long an open transaction is waited for, above the time after which Kafka aborts one of Keyway's, and how often it is
/// looked for.
const SETTLING: Duration = Duration::from_secs(30);
const SETTLING_TURN: Duration = Duration::from_millis(50);

/// A broker, as the rest of the gateway sees it.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Hands a record over to be written. Never waits: what cannot be taken now resolves to an error at once. Two
    /// records given one after the other for one partition are written in that order.
    fn produce(&self, record: NewRecord) -> Acknowledgement;

    /// How many partitions a topic has, from memory where it is known already: this is on the path of every
    /// record that a key selector sees.
    async fn partitions(&self, topic: &str) -> Result<u32, BrokerError>;

    /// Every topic (but the broker's own internal ones), by name, with its offsets.
    async fn topics(&self) -> Result<Vec<TopicInfo>, BrokerError>;

    /// One topic with its offsets.
    ///
    /// # Errors
    /// [`BrokerError::UnknownTopic`] when there is none of that name.
    async fn topic(&self, name: &str) -> Result<TopicInfo, BrokerError>;

    /// Creates a topic where it is missing. One that exists is left as it is.
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<EnsuredTopic, BrokerError>;

    /// Records of one partition from `offset` (or the first that is still there) on, `limit` at most and fewer where
    /// they are large, for looking at. None means that there is none. Not a consumer: no group, no position.
    async fn records(
        &self,
        at: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Record>, BrokerError>;

    /// The offset behind all that was written to a partition, in transactions that are still open too. The end that
    /// [`Self::topic`] tells is before the first of these, where there can be any.
    async fn written(&self, at: &TopicPartition) -> Result<u64, BrokerError> {
        let topic = self.topic(&at.topic).await?;
        let partition = topic.partitions.get(at.partition as usize);
        let unknown = || BrokerError::UnknownPartition(at.clone());
        partition.map(|offsets| offsets.end).ok_or_else(unknown)
    }

    /// The ends of a partition once all can be read that was written to it before this call: what is behind a transaction
    /// that is open cannot, so that one is waited for.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] when it is open for longer than Kafka lets one of Keyway's be.
    async fn settled(&self, at: &TopicPartition) -> Result<PartitionOffsets, BrokerError> {
        let written = self.written(at).await?;
        let deadline = Instant::now() + SETTLING;
        loop {
            let topic = self.topic(&at.topic).await?;
            let offsets = topic.partitions.get(at.partition as usize).copied();
            let offsets = offsets.ok_or_else(|| BrokerError::UnknownPartition(at.clone()))?;
            if offsets.end >= written {
                return Ok(offsets);
            }
            if Instant::now() >= deadline {
                return Err(BrokerError::Unavailable(format!(
                    "{at} cannot be read beyond offset {}, since a transaction there has been open for {} s",
                    offsets.end,
                    SETTLING.as_secs()
                )));
            }
            tokio::time::sleep(SETTLING_TURN).await;
        }
    }

    /// Joins a group as one more member. Returns at once; what happens next comes as the member's events.
    fn join(&self, spec: MemberSpec) -> Result<Member, BrokerError>;

    /// Takes a transactional id, for writing several records at once. Whoever had it before is fenced, and what they
    /// left open is aborted before this returns. A member needs none: its own are [`Commands::transact`].
    async fn transactions(&self, id: &str) -> Result<Box<dyn Transactions>, BrokerError>;

    /// One group with its members (of any process and any client) and committed offsets.
    ///
    /// # Errors
    /// [`BrokerError::UnknownGroup`] when there is none of that name.
    async fn group(&self, id: &str) -> Result<GroupInfo, BrokerError>;

    /// For each partition of a topic the offset of its first record with this timestamp (milliseconds since the Unix
    /// epoch) or a later one; its end where there is none.
    ///
    /// # Errors
    /// [`BrokerError::UnknownTopic`] when there is none of that name.
    async fn offsets_at(&self, topic: &str, timestamp: u64) -> Result<Vec<u64>, BrokerError>;

    /// Commits offsets in the name of a group that has no members, so that its next members begin there. A group that
    /// is not there comes to be.
    ///
    /// # Errors
    /// [`BrokerError::GroupHasMembers`]: they commit for themselves. [`BrokerError::UnknownTopic`] and
    /// [`BrokerError::UnknownPartition`], where the broker looks at that. Nothing is committed then.
    async fn set_committed(
        &self,
        group: &str,
        offsets: Vec<OffsetCommit>,
    ) -> Result<(), BrokerError>;

    /// The names of all groups that have members or committed offsets.
    async fn groups(&self) -> Result<Vec<String>, BrokerError>;

    /// Whether records can be written and read now, from the last that was seen of the broker. Cheap.
    fn health(&self) -> Health;

    /// Waits for what was handed over to be acknowledged, up to `deadline`, then closes. Members are left by their
    /// own command before this.
    async fn close(&self, deadline: Duration);
}

/// What became of a record that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// The partition it was written to.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
    /// Milliseconds since the Unix epoch, as the broker keeps it.
    pub timestamp: u64,
}

/// Why a record was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// There is no such topic, and this call does not make one.
    #[error("there is no topic {topic:?}")]
    UnknownTopic {
        /// The name that was given.
        topic: Arc<str>,
    },
    /// The topic has no such partition.
    #[error("topic {topic:?} has {partitions} partitions (0 to {}), not {partition}", .partitions.saturating_sub(1))]
    UnknownPartition {
        /// The topic.
        topic: Arc<str>,
        /// The partition that was given.
        partition: u32,
        /// How many it has.
        partitions: u32,
    },
    /// The record is larger than the broker takes.
    #[error("the record is {size} bytes, more than the {limit} that the broker takes")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The broker's bound in bytes, 0 where the broker does not tell it.
        limit: usize,
    },
    /// The record was definitely not written; nothing is wrong with it, and later it may be taken.
    #[error("{reason}")]
    Unavailable {
        /// What is in the way: a full queue, no connection, a full disk.
        reason: String,
    },
    /// It is not known whether the record was written: the connection broke or the deadline passed after it was sent.
    #[error("{reason}; whether the record was written is not known")]
    Indefinite {
        /// What happened.
        reason: String,
    },
    /// The broker refused the record, and would again: authorization, a policy, a record it calls invalid.
    #[error("the broker refused the record: {reason}")]
    Refused {
        /// In the broker's words.
        reason: String,
    },
}

/// Why a question to the broker, or joining a group, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// There is no such topic.
    #[error("there is no topic {0:?}")]
    UnknownTopic(String),
    /// The topic has no such partition.
    #[error("there is no partition {0}")]
    UnknownPartition(TopicPartition),
    /// There is no such group.
    #[error("there is no group {0:?}")]
    UnknownGroup(String),
    /// The group has members, and only they may do this.
    #[error("the group {0:?} has members")]
    GroupHasMembers(String),
    /// The broker cannot be asked now; later it may answer.
    #[error("{0}")]
    Unavailable(String),
    /// The broker refused, and would again; or what it keeps is damaged.
    #[error("{0}")]
    Fatal(String),
}

/// A topic to be created where it is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions, at least 1.
    pub partitions: u32,
    /// Copies of each partition, at least 1; `None`: as many as the broker makes by default. Of no meaning on the
    /// embedded broker.
    pub replication_factor: Option<u16>,
    /// Whether its records stay however old they are and however many: what is kept in it would be missed. Otherwise
    /// the broker's own rules hold.
    pub keep_forever: bool,
}

/// What [`Broker::ensure_topic`] found or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnsuredTopic {
    /// It was missing and was created.
    Created,
    /// It was there, with as many partitions as asked for.
    Existed,
    /// It was there with another number of partitions, which is left as it is.
    Differs {
        /// How many it has.
        partitions: u32,
    },
}

/// A topic and the offsets of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Its partitions, by number, from 0 without a gap.
    pub partitions: Vec<PartitionOffsets>,
}

/// The two ends of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionOffsets {
    /// The offset of the oldest record that is still there.
    pub beginning: u64,
    /// The offset that the next record will get.
    pub end: u64,
}

/// How a member joins.
#[derive(Clone, Debug)]
pub struct MemberSpec {
    /// The group's id.
    pub group: Arc<str>,
    /// The topics it reads.
    pub topics: Vec<Arc<str>>,
    /// Where a partition without a committed offset begins.
    pub start: Start,
    /// A number that tells the members of one process apart, from 0.
    pub index: u32,
    /// Static membership: the same id takes the same place after a restart.
    pub instance_id: Option<String>,
}

/// A group as the broker knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// The group's id.
    pub id: String,
    /// Whether its members have settled on who reads what.
    pub state: GroupState,
    /// Its members, of any process and any client.
    pub members: Vec<GroupMember>,
    /// What is committed, by partition.
    pub committed: Vec<(TopicPartition, Committed)>,
}

/// The state of a group, in Kafka's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// No members.
    Empty,
    /// Members come or go, or partitions change hands.
    Rebalancing,
    /// Everyone has what is theirs.
    Stable,
    /// No members and no offsets: the group is gone.
    Dead,
}

/// One member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the broker gave it.
    pub id: String,
    /// Which process it lives in, as `HOST:PID` where it is a Keyway, else its client id and host.
    pub process: String,
    /// What it reads.
    pub partitions: Vec<TopicPartition>,
}

/// Whether the broker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Ready,
    /// It does not, or not yet, for this reason.
    Unavailable(String),
}

/// This process as members of groups name it: `HOST:PID`.
pub fn process_name() -> String {
    format!("{}:{}", gethostname::gethostname().to_string_lossy(), std::process::id())
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Rebalancing => "rebalancing",
            Self::Stable => "stable",
            Self::Dead => "dead",
        })
    }
}
