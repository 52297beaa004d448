//! What a member asks of Kafka and must wait for, on a thread beside the driver's, in order: commits, transactions, and
//! where partitions begin that are newly assigned or rewound. So a broker that does not answer holds back neither records nor commands.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use tokio::sync::oneshot;

use super::{
    super::{
        error, query, record,
        transactions::{Offsets, Transactor},
        wake::Wakeup,
    },
    MemberConsumer,
};
use crate::{
    broker::{CommitError, Committed, OffsetCommit, Produced, TransactError},
    config::Start,
    record::{NewRecord, TopicPartition},
};

/// Errands that may wait.
const WAITING: usize = 64;
/// How long the broker may take to say what is committed.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the transactional client is served while there is nothing to do.
const IDLE: Duration = Duration::from_secs(1);

/// Where newly assigned partitions begin.
#[derive(Debug)]
pub(super) struct Beginnings {
    /// The member's id, as the broker gave it.
    pub(super) member_id: Arc<str>,
    /// For each partition what was committed, and the offset to begin at.
    pub(super) partitions: Vec<(TopicPartition, Option<Committed>, Offset)>,
}

/// Partitions to go back in, and what is committed for each.
pub(super) type Rewound = Vec<(TopicPartition, Option<Committed>)>;

/// Where logs begin or end, as far as Kafka tells.
pub(super) type Limits = Vec<(TopicPartition, u64)>;

/// What became of an errand that the driver waits for.
pub(super) enum Answer {
    Begin(Result<Beginnings, String>),
    Rewind(Result<Rewound, String>),
    Ends(Limits),
    /// Another has the member's place: it must end.
    Fenced(String),
}

/// One transaction.
pub(super) struct Transaction {
    pub(super) records: Vec<NewRecord>,
    pub(super) offsets: Offsets,
    pub(super) done: oneshot::Sender<Result<Vec<Produced>, TransactError>>,
}

enum Errand {
    Commit(Vec<OffsetCommit>, oneshot::Sender<Result<(), CommitError>>),
    Transact(Transaction),
    Begin(Vec<TopicPartition>),
    Rewind(Vec<TopicPartition>),
    Ends(Vec<TopicPartition>),
}

/// The thread that runs errands. It ends once this is dropped and all of them are done.
pub(super) struct Errands {
    errands: Option<SyncSender<Errand>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
}

/// Who the errands are for.
pub(super) struct Errandee {
    pub(super) consumer: Arc<MemberConsumer>,
    pub(super) fetcher: Arc<MemberConsumer>,
    /// Topics whose leaders the fetcher knows.
    pub(super) led: HashSet<Arc<str>>,
    pub(super) group: Arc<str>,
    pub(super) client_id: String,
    pub(super) start: Start,
    pub(super) transactor: Transactor,
    /// Whether another member may come to have this one's transactional id.
    pub(super) is_static: bool,
    pub(super) wakeup: Arc<Wakeup>,
}

impl Errands {
    pub(super) fn start(errandee: Errandee) -> Self {
        let (errands, waiting) = mpsc::sync_channel(WAITING);
        let (sender, answers) = mpsc::channel();
        let run = move || errandee.run(&waiting, &sender);
        let thread = thread::Builder::new().name("kafka-errands".into()).spawn(run).ok();
        Self { errands: Some(errands), answers, thread }
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

    /// Commits a transaction; its `done` is told the outcome.
    pub(super) fn transact(&self, transaction: Transaction) {
        if let Err(Errand::Transact(transaction)) = self.take(Errand::Transact(transaction)) {
            let reason = "too many commits wait for Kafka".to_owned();
            transaction.done.send(Err(TransactError::Aborted(reason))).ok(); // nobody waits any more
        }
    }

    /// Asks where partitions begin. Says whether the errand was taken.
    pub(super) fn begin(&self, partitions: Vec<TopicPartition>) -> bool {
        self.take(Errand::Begin(partitions)).is_ok()
    }

    /// Asks what is committed, after whatever became of the last transaction is settled. Says whether the errand was
    /// taken.
    pub(super) fn rewind(&self, partitions: Vec<TopicPartition>) -> bool {
        self.take(Errand::Rewind(partitions)).is_ok()
    }

    /// Asks where the logs of partitions end. Where too much waits it is left for another time.
    pub(super) fn ends(&self, partitions: Vec<TopicPartition>) {
        self.take(Errand::Ends(partitions)).ok();
    }

    /// The next answer, in the order of the errands.
    pub(super) fn answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
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
    fn run(mut self, errands: &Receiver<Errand>, answers: &Sender<Answer>) {
        loop {
            let errand = match errands.recv_timeout(IDLE) {
                Ok(errand) => errand,
                Err(RecvTimeoutError::Timeout) => {
                    self.transactor.idle();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let answer = match errand {
                Errand::Commit(offsets, done) => {
                    done.send(self.commit(&offsets)).ok(); // nobody waits any more
                    continue;
                }
                Errand::Transact(transaction) => match self.transact(transaction) {
                    Some(reason) => Answer::Fenced(reason),
                    None => continue,
                },
                Errand::Begin(partitions) => Answer::Begin(self.begin(partitions)),
                Errand::Rewind(partitions) => Answer::Rewind(self.rewind(partitions)),
                Errand::Ends(partitions) => Answer::Ends(self.ends(&partitions)),
            };
            answers.send(answer).ok(); // the driver is closing
            self.wakeup.wake();
        }
    }

    fn commit(&self, offsets: &[OffsetCommit]) -> Result<(), CommitError> {
        let list = record::commits(offsets).map_err(|error| error::commit(&error))?;
        self.consumer.commit(&list, CommitMode::Sync).map_err(|error| error::commit(&error))
    }

    /// Tells why the member must end, if it must.
    fn transact(&mut self, transaction: Transaction) -> Option<String> {
        let Transaction { records, offsets, done } = transaction;
        let result = self.transactor.commit(&records, Some(&offsets));
        let fenced = match &result {
            Err(TransactError::Fenced(reason)) if self.is_static => Some(reason.clone()),
            _ => None,
        };
        done.send(result).ok(); // nobody waits any more
        fenced
    }

    fn rewind(&mut self, partitions: Vec<TopicPartition>) -> Result<Rewound, String> {
        let unsettled = |error| {
            let text = error::text(&error);
            format!("Kafka does not settle the last transaction: {text}")
        };
        self.transactor.settle().map_err(unsettled)?;
        let offsets = self.committed(&partitions).map_err(|error| untold(&error))?;
        Ok(partitions.into_iter().zip(offsets).collect())
    }

    fn begin(&mut self, partitions: Vec<TopicPartition>) -> Result<Beginnings, String> {
        self.find_leaders(&partitions);
        let member_id = query::member_id(&self.consumer, &self.group, &self.client_id);
        let offsets = self.offsets(&partitions).map_err(|error| untold(&error))?;
        let partitions = partitions
            .into_iter()
            .zip(offsets)
            .map(|(partition, (committed, offset))| (partition, committed, offset))
            .collect();
        // Groups of the new protocol are not described to librdkafka: there the client id has to do.
        let member_id = member_id.unwrap_or_else(|| self.client_id.clone()).into();
        Ok(Beginnings { member_id, partitions })
    }

    /// Has the fetcher know whom to fetch from. By itself it looks for leaders of topics that are new to it once a second.
    fn find_leaders(&mut self, partitions: &[TopicPartition]) {
        for TopicPartition { topic, .. } in partitions {
            if !self.led.contains(topic)
                && self.fetcher.fetch_metadata(Some(topic), PATIENCE).is_ok()
            {
                self.led.insert(topic.clone());
            }
        }
    }

    /// Where these end; nothing when Kafka does not tell.
    fn ends(&self, partitions: &[TopicPartition]) -> Limits {
        self.limits(partitions, Offset::End).unwrap_or_default()
    }

    /// Where these begin or end, in one question; nothing of those of which Kafka does not tell it. As Kafka's
    /// `ListOffsets` has them, the raw values of [`Offset::Beginning`] and [`Offset::End`] are the times to ask for.
    fn limits(&self, partitions: &[TopicPartition], limit: Offset) -> KafkaResult<Limits> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for at in partitions {
            list.add_partition_offset(&at.topic, at.partition as i32, limit)?;
        }
        let list = self.consumer.offsets_for_times(list, PATIENCE)?;
        let limit = |at: &TopicPartition| {
            let element = list.find_partition(&at.topic, at.partition as i32)?;
            match (element.error(), element.offset()) {
                (Ok(()), Offset::Offset(limit)) => Some((at.clone(), limit as u64)),
                _ => None,
            }
        };
        Ok(partitions.iter().filter_map(limit).collect())
    }

    /// What is committed, and the offset to begin at. All of them are told as numbers: a partition that librdkafka had to
    /// look up first would wait until the fetch of another, which may have nothing for it, has run its time.
    fn offsets(
        &self,
        partitions: &[TopicPartition],
    ) -> KafkaResult<Vec<(Option<Committed>, Offset)>> {
        let committed = self.committed(partitions)?;
        let fresh = partitions.iter().zip(&committed).filter(|(_, committed)| committed.is_none());
        let fresh: Vec<_> = fresh.map(|(at, _)| at.clone()).collect();
        let start = match self.start {
            Start::Earliest => Offset::Beginning,
            // The end as it is now: what comes after the member is told of the partition is handed over.
            Start::Latest => Offset::End,
        };
        let starts: HashMap<_, _> = if fresh.is_empty() {
            HashMap::new()
        } else {
            self.limits(&fresh, start)?.into_iter().collect()
        };
        let offset = |(at, committed): (&TopicPartition, Option<Committed>)| {
            let offset = committed.as_ref().map(|committed| committed.offset);
            match offset.or_else(|| starts.get(at).copied()) {
                Some(offset) => Ok((committed, Offset::Offset(offset as i64))),
                None => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::LeaderNotAvailable)),
            }
        };
        partitions.iter().zip(committed).map(offset).collect()
    }

    /// What is committed. While a transaction is open that would commit other offsets, by this member or by the one that
    /// had the partitions before, Kafka does not tell (`UNSTABLE_OFFSET_COMMIT`); librdkafka asks again until the time
    /// is up, and so does the driver after that.
    fn committed(&self, partitions: &[TopicPartition]) -> KafkaResult<Vec<Option<Committed>>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for at in partitions {
            list.add_partition(&at.topic, at.partition as i32);
        }
        let list = self.consumer.committed_offsets(list, PATIENCE)?;
        let committed = |at: &TopicPartition| {
            let Some(element) = list.find_partition(&at.topic, at.partition as i32) else {
                return Ok(None);
            };
            element.error()?;
            Ok(record::committed(&element))
        };
        partitions.iter().map(committed).collect()
    }
}

fn untold(error: &KafkaError) -> String {
    format!("Kafka does not tell the group's committed offsets: {}", error::text(error))
}
