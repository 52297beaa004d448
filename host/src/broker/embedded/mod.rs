//! The embedded broker: a log, groups and offsets in one SQLite file, for one machine and one process.
//!
//! One thread writes (`writer`): requests in flight form a batch, which is one transaction with one fsync. A few
//! connections read (`readers`). `catalog` is what both sides know in memory. Groups are decided by pure code
//! (`group` over `assignment`), told to members by the `coordinator`, and each member is a task of its own (`member`).
//!
//! Invariants: nothing is acknowledged before it is durable; offsets of a partition have no gap and never restart;
//! what is read passes its checksum or is an error.

mod assignment;
mod catalog;
mod checkpoint;
mod codec;
mod commits;
mod coordinator;
mod error;
mod group;
mod lock;
mod member;
mod placement;
mod positions;
mod queue;
mod readers;
mod retention;
mod schema;
mod store;
mod transactions;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
pub use error::OpenError;
use tokio::{
    sync::{oneshot, watch},
    task,
    time::timeout,
};

use self::{
    catalog::{Catalog, Partition},
    checkpoint::Checkpointer,
    coordinator::Coordinator,
    error::StoreError,
    lock::DirectoryLock,
    member::Driver,
    placement::place,
    queue::{Append, Queue, Refused, Request},
    readers::Readers,
    retention::Trimmer,
    transactions::{Holder, Holders},
    writer::{Writer, WriterStatus},
};
use super::{
    Acknowledgement, Broker, BrokerError, EnsuredTopic, GroupInfo, GroupState, Health, Member,
    MemberSpec, OffsetCommit, TopicInfo, TopicSpec, Transactions,
};
use crate::{
    config::{Retention, SESSION},
    record::{NewRecord, Record, TopicPartition},
};

/// Bytes that one look at records returns, about.
const LOOK_BYTES: usize = 8 << 20;
/// The longest name of a topic, as on Kafka.
const LONGEST_NAME: usize = 249;
/// What a broker may use up, besides what retention says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long a member may hold what is revoked before it is taken from it.
    pub session: Duration,
    /// Pages of 4 KiB that the file may have; `None`: as many as there is room for. At the bound it is as on a full
    /// disk.
    pub pages: Option<u32>,
}

impl Default for Bounds {
    /// The session of Kafka's defaults, and the whole disk.
    fn default() -> Self {
        Self { session: SESSION, pages: None }
    }
}

/// A broker that is part of this process. Dropped without [`Broker::close`], it still writes what it was given.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    closed: watch::Receiver<bool>,
}

/// What members, readers and whoever asks have in common.
#[derive(Debug)]
struct Shared {
    catalog: Arc<Catalog>,
    queue: Arc<Queue>,
    status: Arc<WriterStatus>,
    readers: Readers,
    coordinator: Coordinator,
    holders: Holders,
    session: Duration,
}

impl Embedded {
    /// Opens the log in the directory `path`, making both when they are missing. Blocks while it recovers what a
    /// crash has left.
    ///
    /// # Errors
    /// See [`OpenError`]. A file that is not understood is left as it is.
    pub fn open(path: &Path, retention: Retention) -> Result<Self, OpenError> {
        Self::open_within(path, retention, Bounds::default())
    }

    /// [`Embedded::open`] within other bounds.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_within(
        path: &Path,
        retention: Retention,
        bounds: Bounds,
    ) -> Result<Self, OpenError> {
        std::fs::create_dir_all(path)
            .map_err(|source| OpenError::Directory { path: path.into(), source })?;
        let lock = DirectoryLock::take(path)?;
        let file = schema::file(path);
        let connection = schema::open(&file, bounds.pages)?;
        let opening = |error| schema::opening(&file, error);
        let catalog = Arc::new(Catalog::default());
        for topic in store::topics(&connection).map_err(opening)? {
            catalog.insert(topic);
        }
        commits::check(&connection).map_err(opening)?;
        let queue = Arc::new(Queue::default());
        let status = Arc::new(WriterStatus::default());
        let (closing, closed) = watch::channel(false);
        let writer = Writer {
            connection,
            path: file.clone(),
            catalog: catalog.clone(),
            queue: queue.clone(),
            status: status.clone(),
            trimmer: Trimmer::new(retention),
            checkpointer: Checkpointer::start(file.clone()).map_err(opening)?,
            closed: closing,
            lock,
        };
        writer.start().map_err(|error| opening(StoreError::Unavailable(error.to_string())))?;
        let coordinator = Coordinator::new(catalog.clone(), queue.clone());
        let readers = Readers::new(file);
        let shared = Shared {
            catalog,
            queue,
            status,
            readers,
            coordinator,
            holders: Holders::default(),
            session: bounds.session,
        };
        Ok(Self { shared: Arc::new(shared), closed })
    }

    /// Transactions written so far, each with one fsync: fewer than records where many are written at once.
    pub fn transactions(&self) -> u64 {
        self.shared.status.transactions()
    }

    /// Runs `read` where it may block.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let shared = self.shared.clone();
        let done = task::spawn_blocking(move || read(&shared)).await;
        Ok(done.map_err(|error| BrokerError::Unavailable(error.to_string()))??)
    }
}

#[async_trait]
impl Broker for Embedded {
    fn produce(&self, record: NewRecord) -> Acknowledgement {
        let placed = match place(&self.shared.catalog, record) {
            Ok(placed) => placed,
            Err(error) => return Acknowledgement::failed(error),
        };
        let (acknowledge, acknowledgement) = Acknowledgement::pair();
        let append = Append { placed, acknowledge };
        if let Err(Refused(request, error)) = self.shared.queue.push(Request::Append(append)) {
            request.fail(&error);
        }
        acknowledgement
    }

    async fn partitions(&self, topic: &str) -> Result<u32, BrokerError> {
        let found = self.shared.catalog.topic(topic).map(|topic| topic.count());
        found.ok_or_else(|| BrokerError::UnknownTopic(topic.into()))
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>, BrokerError> {
        Ok(self.shared.catalog.topics().iter().map(|topic| topic.info()).collect())
    }

    async fn topic(&self, name: &str) -> Result<TopicInfo, BrokerError> {
        let found = self.shared.catalog.topic(name).map(|topic| topic.info());
        found.ok_or_else(|| BrokerError::UnknownTopic(name.into()))
    }

    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<EnsuredTopic, BrokerError> {
        check_name(&spec.name)?;
        if spec.partitions == 0 {
            let reason = format!("topic {:?} needs at least one partition", spec.name);
            return Err(BrokerError::Fatal(reason));
        }
        let (answer, answered) = oneshot::channel();
        let TopicSpec { name, partitions, keep_forever, .. } = spec.clone();
        let request = Request::EnsureTopic { name, partitions, keep_forever, answer };
        self.shared.queue.push(request).map_err(|Refused(_, error)| error)?;
        let closed = |_| BrokerError::Unavailable("the broker is closed".into());
        let ensured = answered.await.map_err(closed)??;
        self.shared.coordinator.topic_created(&spec.name);
        Ok(ensured)
    }

    async fn records(
        &self,
        at: &TopicPartition,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Record>, BrokerError> {
        let topic = self.shared.catalog.topic(&at.topic);
        let topic = topic.ok_or_else(|| BrokerError::UnknownTopic(at.topic.to_string()))?;
        let partition = topic.partitions.get(at.partition as usize).cloned();
        let partition = partition.ok_or_else(|| BrokerError::UnknownPartition(at.clone()))?;
        let extent = partition.extent();
        let range = (offset.max(extent.beginning), extent.end);
        if limit == 0 || range.0 >= range.1 {
            return Ok(Vec::new());
        }
        self.read(move |shared| {
            shared.readers.with(|file| store::read(file, &partition, range, limit, LOOK_BYTES))
        })
        .await
    }

    /// Must be called within a Tokio runtime: the member is a task of it.
    fn join(&self, spec: MemberSpec) -> Result<Member, BrokerError> {
        if *self.closed.borrow() {
            return Err(BrokerError::Unavailable("the broker is closed".into()));
        }
        let ticket = self.shared.coordinator.join(&spec);
        let (member, ends) = Member::pair();
        tokio::spawn(Driver::new(self.shared.clone(), ticket, &spec).drive(ends));
        Ok(member)
    }

    async fn transactions(&self, id: &str) -> Result<Box<dyn Transactions>, BrokerError> {
        Ok(Box::new(Holder::take(self.shared.clone(), id)))
    }

    async fn group(&self, id: &str) -> Result<GroupInfo, BrokerError> {
        let live = self.shared.coordinator.describe(id);
        let group = id.to_owned();
        let committed = self
            .read(move |shared| {
                let topics = shared.catalog.topics();
                shared.readers.with(|file| commits::of_group(file, &group, &topics))
            })
            .await?;
        if live.is_none() && committed.is_empty() {
            return Err(BrokerError::UnknownGroup(id.into()));
        }
        let (state, members) = live.unwrap_or((GroupState::Empty, Vec::new()));
        Ok(GroupInfo { id: id.into(), state, members, committed })
    }

    async fn offsets_at(&self, topic: &str, timestamp: u64) -> Result<Vec<u64>, BrokerError> {
        let found = self.shared.catalog.topic(topic);
        let topic = found.ok_or_else(|| BrokerError::UnknownTopic(topic.into()))?;
        self.read(move |shared| {
            let first = |partition: &Arc<Partition>| {
                shared.readers.with(|file| store::first_since(file, partition, timestamp))
            };
            topic.partitions.iter().map(first).collect()
        })
        .await
    }

    async fn set_committed(
        &self,
        group: &str,
        offsets: Vec<OffsetCommit>,
    ) -> Result<(), BrokerError> {
        let (done, committed) = oneshot::channel();
        self.shared.coordinator.commit_without_members(group, offsets, done)?;
        let closed = |_| BrokerError::Unavailable("the broker is closed".into());
        committed
            .await
            .map_err(closed)?
            .map_err(|error| BrokerError::Unavailable(error.to_string()))
    }

    async fn groups(&self) -> Result<Vec<String>, BrokerError> {
        let mut names = self.shared.coordinator.names();
        names.extend(self.read(|shared| shared.readers.with(commits::groups)).await?);
        Ok(names.into_iter().collect())
    }

    fn health(&self) -> Health {
        if *self.closed.borrow() {
            return Health::Unavailable("the broker is closed".into());
        }
        if self.closed.has_changed().is_err() {
            return Health::Unavailable("the thread that writes the log is gone".into());
        }
        self.shared.status.trouble().map_or(Health::Ready, Health::Unavailable)
    }

    async fn close(&self, deadline: Duration) {
        self.shared.readers.close();
        self.shared.queue.close();
        let mut closed = self.closed.clone();
        let is_closed = timeout(deadline, closed.wait_for(|closed| *closed)).await;
        if is_closed.is_err() {
            tracing::warn!(
                ?deadline,
                "The log was not closed in time; it is closed when it is done."
            );
        }
        self.shared.readers.close();
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.readers.close();
        self.shared.queue.close();
    }
}

/// Kafka's rule, so that a topic of this broker can be one there.
fn check_name(name: &str) -> Result<(), BrokerError> {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_name = !matches!(name, "" | "." | "..") && name.chars().all(is_legal);
    if is_name && name.len() <= LONGEST_NAME {
        return Ok(());
    }
    Err(BrokerError::Fatal(format!(
        "{name:?} cannot name a topic; letters, digits, '.', '_' and '-' can, up to {LONGEST_NAME} of them"
    )))
}
