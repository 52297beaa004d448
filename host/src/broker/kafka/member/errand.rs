//! What a member asks of Kafka and must wait for, on a thread beside the driver's, in order: commits, and where newly
//! assigned partitions begin. So a broker that does not answer holds back neither records nor commands.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::KafkaResult,
};
use tokio::sync::oneshot;

use super::{
    super::{error, query, record, wake::Wakeup},
    MemberConsumer,
};
use crate::{
    broker::{CommitError, Committed, OffsetCommit},
    config::Start,
    record::TopicPartition,
};

/// Errands that may wait.
const WAITING: usize = 64;
/// How long the broker may take to say what is committed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where newly assigned partitions begin.
#[derive(Debug)]
pub(super) struct Beginnings {
    /// The member's id, as the broker gave it.
    pub(super) member_id: Arc<str>,
    /// For each partition what was committed, and the offset to begin at.
    pub(super) partitions: Vec<(TopicPartition, Option<Committed>, Offset)>,
}

enum Errand {
    Commit(Vec<OffsetCommit>, oneshot::Sender<Result<(), CommitError>>),
    Begin(Vec<TopicPartition>),
}

/// The thread that runs errands. It ends once this is dropped and all of them are done.
pub(super) struct Errands {
    errands: Option<SyncSender<Errand>>,
    beginnings: Receiver<Result<Beginnings, String>>,
    thread: Option<JoinHandle<()>>,
}

/// Who the errands are for.
pub(super) struct Errandee {
    pub(super) consumer: Arc<MemberConsumer>,
    pub(super) group: Arc<str>,
    pub(super) client_id: String,
    pub(super) start: Start,
    pub(super) wakeup: Arc<Wakeup>,
}

impl Errands {
    pub(super) fn start(errandee: Errandee) -> Self {
        let (errands, waiting) = mpsc::sync_channel(WAITING);
        let (answers, beginnings) = mpsc::channel();
        let run = move || {
            for errand in waiting {
                match errand {
                    Errand::Commit(offsets, done) => {
                        done.send(errandee.commit(&offsets)).ok(); // nobody waits any more
                    }
                    Errand::Begin(partitions) => {
                        answers.send(errandee.begin(partitions)).ok(); // the driver is closing
                        errandee.wakeup.wake();
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("kafka-errands".into()).spawn(run).ok();
        Self { errands: Some(errands), beginnings, thread }
    }

    /// Commits; `done` is told the outcome.
    pub(super) fn commit(
        &self,
        offsets: Vec<OffsetCommit>,
        done: oneshot::Sender<Result<(), CommitError>>,
    ) {
        if let Err(Errand::Commit(_, done)) = self.take(Errand::Commit(offsets, done)) {
            let reason = "too many commits wait for Kafka".to_owned();
            done.send(Err(CommitError::Unavailable(reason))).ok(); // nobody waits any more
        }
    }

    /// Asks where partitions begin. Says whether the errand was taken.
    pub(super) fn begin(&self, partitions: Vec<TopicPartition>) -> bool {
        self.take(Errand::Begin(partitions)).is_ok()
    }

    pub(super) fn beginnings(&self) -> Option<Result<Beginnings, String>> {
        self.beginnings.try_recv().ok()
    }

    /// Waits until every errand is done, but not for ever.
    pub(super) fn finish(&mut self, patience: Duration) {
        self.errands = None;
        let turns = (patience.as_millis() / 5) as u32;
        for _ in 0..turns {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        tracing::warn!("Kafka did not answer a last commit in time.");
    }

    fn take(&self, errand: Errand) -> Result<(), Errand> {
        match &self.errands {
            None => Err(errand),
            Some(errands) => errands.try_send(errand).map_err(|refused| match refused {
                TrySendError::Full(errand) | TrySendError::Disconnected(errand) => errand,
            }),
        }
    }
}

impl Errandee {
    fn commit(&self, offsets: &[OffsetCommit]) -> Result<(), CommitError> {
        let list = record::commits(offsets).map_err(|error| error::commit(&error))?;
        self.consumer.commit(&list, CommitMode::Sync).map_err(|error| error::commit(&error))
    }

    fn begin(&self, partitions: Vec<TopicPartition>) -> Result<Beginnings, String> {
        let member_id = query::member_id(&self.consumer, &self.group, &self.client_id);
        let partitions = match self.offsets(&partitions) {
            Ok(offsets) => partitions
                .into_iter()
                .zip(offsets)
                .map(|(partition, (committed, offset))| (partition, committed, offset))
                .collect(),
            Err(error) => {
                let text = error::text(&error);
                return Err(format!("Kafka does not tell the group's committed offsets: {text}"));
            }
        };
        // Groups of the new protocol are not described to librdkafka: there the client id has to do.
        let member_id = member_id.unwrap_or_else(|| self.client_id.clone()).into();
        Ok(Beginnings { member_id, partitions })
    }

    fn offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> KafkaResult<Vec<(Option<Committed>, Offset)>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for at in partitions {
            list.add_partition(&at.topic, at.partition as i32);
        }
        let list = self.consumer.committed_offsets(list, PATIENCE)?;
        let offset = |at: &TopicPartition| {
            let element = list.find_partition(&at.topic, at.partition as i32);
            let committed = match element {
                Some(element) => {
                    element.error()?;
                    record::committed(&element)
                }
                None => None,
            };
            let offset = match (&committed, self.start) {
                (Some(committed), _) => Offset::Offset(committed.offset as i64),
                (None, Start::Earliest) => Offset::Beginning,
                // The end as it is now: what comes after the member is told of the partition is handed over.
                (None, Start::Latest) => {
                    let partition = at.partition as i32;
                    let ends = self.consumer.fetch_watermarks(&at.topic, partition, PATIENCE)?;
                    Offset::Offset(ends.1)
                }
            };
            Ok((committed, offset))
        };
        partitions.iter().map(offset).collect()
    }
}
