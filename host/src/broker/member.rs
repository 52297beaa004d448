//! A member of a group as two ends of a pair of bounded channels: [`Member`] for whoever handles the records,
//! [`MemberDriver`] for the broker that runs it.
//!
//! Who waits for whom is fixed, so that the two can never wait for each other: a driver always serves commands, and
//! holds *records* back while the channel of events is full; whoever holds a [`Member`] may wait for a command to be
//! taken, but keeps taking events whatever its handlers do, and pushes back by pausing partitions.
//!
//! Events are in order, and that order is the fence: records of a partition that come after its
//! [`MemberEvent::Assigned`], [`MemberEvent::Sought`] or [`MemberEvent::Rewound`] are from the new position, those
//! before it are from the old.
//!
//! A member that works in transactions has one under way at the most, and after one that failed it rewinds before it
//! begins another: what was handled since the last that was committed is handled again.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{Produced, TransactError};
use crate::record::{NewRecord, Record, TopicPartition};

/// Events that may wait to be taken. A run of records is one event, so this bounds memory by runs.
const EVENTS: usize = 8;
/// Commands that may wait to be served.
const COMMANDS: usize = 64;

/// The handling end of a member.
#[derive(Debug)]
pub struct Member {
    /// What happens to it. The channel closes after it left or failed.
    pub events: mpsc::Receiver<MemberEvent>,
    /// What it is told to do.
    pub commands: Commands,
}

/// What happens to a member.
#[derive(Debug)]
pub enum MemberEvent {
    /// These partitions are the member's from now on, besides those it has. May be empty: the group has settled,
    /// and there is nothing (more) for this member.
    Assigned {
        /// The member's id, as the broker gave it.
        member_id: Arc<str>,
        /// The new partitions.
        partitions: Vec<Assigned>,
    },
    /// These partitions go to another member as soon as [`Commands::release`] says that they may. Until then they
    /// are the member's: what is in flight may finish and be committed. The driver hands over no more of their
    /// records. The others go on.
    Revoking(Vec<TopicPartition>),
    /// These partitions are another member's already: nothing may be committed.
    Lost(Vec<TopicPartition>),
    /// Records, in offset order within each partition, at least one.
    Records(Vec<Record>),
    /// A [`Commands::seek`] has taken effect: the partition's records from here on begin at `offset`.
    Sought {
        /// The partition.
        partition: TopicPartition,
        /// Where it begins now.
        offset: u64,
    },
    /// A [`Commands::rewind`] has taken effect: the partition's records from here on begin at what its group has
    /// committed, or where the member began when that is nothing.
    Rewound(Assigned),
    /// Something is wrong that the driver will get over by itself, such as a broker that is down.
    Troubled(String),
    /// The member cannot go on; the channel closes after this.
    Failed(String),
}

/// A partition that became a member's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: TopicPartition,
    /// What its group committed last; `None`: nothing, and it begins where [`crate::config::Start`] says.
    pub committed: Option<Committed>,
}

/// A committed offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The offset of the next record to handle.
    pub offset: u64,
    /// Whatever was committed with it, 4,096 characters at most on Kafka's default settings.
    pub metadata: String,
}

/// An offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// Whose.
    pub partition: TopicPartition,
    /// The offset and what goes with it.
    pub committed: Committed,
}

/// Why a commit did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A partition is not this member's any more: nothing was committed, and it must not be tried again.
    #[error("not this member's any more: {0}")]
    NotOwned(String),
    /// The broker takes no metadata of this length: nothing of this partition was committed. Shorter metadata, or none,
    /// may be.
    #[error("its metadata is too long: {0}")]
    MetadataTooLong(String),
    /// It did not work now; the member may still own the partitions, and try again.
    #[error("{0}")]
    Unavailable(String),
}

/// What a member is told to do, in order.
#[derive(Debug)]
pub enum Command {
    /// Commit these offsets, all or none on the embedded broker, each on its own on Kafka.
    Commit {
        /// At most one for each partition.
        offsets: Vec<OffsetCommit>,
        /// Told when they are durable, or are not.
        done: oneshot::Sender<Result<(), CommitError>>,
    },
    /// Write these records and commit these offsets, all of it or nothing.
    Transact {
        /// In the order in which those of one partition are to be written.
        records: Vec<NewRecord>,
        /// At most one for each partition.
        offsets: Vec<OffsetCommit>,
        /// Told when it is durable, and where each record went then, in the order given; or that it is not.
        done: oneshot::Sender<Result<Vec<Produced>, TransactError>>,
    },
    /// Go on with these partitions where their group has committed; answered by one [`MemberEvent::Rewound`] for each.
    /// Of a partition that is not the member's, or is being revoked: ignored.
    Rewind(Vec<TopicPartition>),
    /// Hand over no more records of these partitions; runs that are on their way may still come.
    Pause(Vec<TopicPartition>),
    /// Go on with them from where they were paused.
    Resume(Vec<TopicPartition>),
    /// Go on at another offset; answered by [`MemberEvent::Sought`]. Of a partition that is not the member's:
    /// ignored.
    Seek {
        /// The partition.
        partition: TopicPartition,
        /// The offset of the next record to hand over.
        offset: u64,
    },
    /// These partitions, all of which were in a [`MemberEvent::Revoking`], are finished with.
    Release(Vec<TopicPartition>),
    /// Leave the group, so that others take over without waiting for a session to expire. The channel of events
    /// closes when it is done. Dropping the [`Member`] does the same.
    Leave,
}

/// The way to give commands; cheap to clone. Every method waits only until the driver takes the command. A driver
/// that is gone takes nothing: the closed channel of events says so, so it is no error here.
#[derive(Clone, Debug)]
pub struct Commands(mpsc::Sender<Command>);

impl Commands {
    /// Commits offsets and waits until they are durable.
    pub async fn commit(&self, offsets: Vec<OffsetCommit>) -> Result<(), CommitError> {
        let gone = || CommitError::Unavailable("the member has left its group".into());
        let (done, answer) = oneshot::channel();
        self.0.send(Command::Commit { offsets, done }).await.map_err(|_closed| gone())?;
        answer.await.map_err(|_closed| gone())?
    }

    /// Writes records and commits offsets in one transaction, and waits until it is durable: whoever reads only what is
    /// committed sees all of it or nothing. Tells where each record went.
    pub async fn transact(
        &self,
        records: Vec<NewRecord>,
        offsets: Vec<OffsetCommit>,
    ) -> Result<Vec<Produced>, TransactError> {
        let (done, answer) = oneshot::channel();
        let gone = "the member has left its group";
        let command = Command::Transact { records, offsets, done };
        self.0.send(command).await.map_err(|_closed| TransactError::Aborted(gone.into()))?;
        answer.await.map_err(|_closed| TransactError::Indefinite(gone.into()))?
    }

    /// Goes back to what is committed.
    pub async fn rewind(&self, partitions: Vec<TopicPartition>) {
        self.send(Command::Rewind(partitions)).await;
    }

    /// Holds partitions back.
    pub async fn pause(&self, partitions: Vec<TopicPartition>) {
        self.send(Command::Pause(partitions)).await;
    }

    /// Lets partitions go on.
    pub async fn resume(&self, partitions: Vec<TopicPartition>) {
        self.send(Command::Resume(partitions)).await;
    }

    /// Goes on at another offset.
    pub async fn seek(&self, partition: TopicPartition, offset: u64) {
        self.send(Command::Seek { partition, offset }).await;
    }

    /// Gives revoked partitions up.
    pub async fn release(&self, partitions: Vec<TopicPartition>) {
        self.send(Command::Release(partitions)).await;
    }

    /// Leaves the group.
    pub async fn leave(&self) {
        self.send(Command::Leave).await;
    }

    async fn send(&self, command: Command) {
        self.0.send(command).await.ok();
    }
}

/// The broker's end of a member.
#[derive(Debug)]
pub struct MemberDriver {
    /// Where events go.
    pub events: mpsc::Sender<MemberEvent>,
    /// Where commands come from; closed: the same as [`Command::Leave`].
    pub commands: mpsc::Receiver<Command>,
}

impl Member {
    /// Two connected ends.
    pub fn pair() -> (Self, MemberDriver) {
        let (event_sender, events) = mpsc::channel(EVENTS);
        let (command_sender, commands) = mpsc::channel(COMMANDS);
        let member = Self { events, commands: Commands(command_sender) };
        (member, MemberDriver { events: event_sender, commands })
    }
}
