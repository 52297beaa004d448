//! The one thread that writes. What waits when it is free becomes one transaction with one fsync, and only then is
//! anyone answered: everything in a batch is durable, or nothing of it is.
//!
//! A request that reaches the writer has been checked, so what fails here is the disk, and concerns all of a batch.
//! After a failure it tries a write every second, so that the broker is ready again as soon as the disk is.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::watch;

use super::{
    catalog::{Catalog, Extent, Partition, Topic},
    checkpoint::{Checkpointer, checkpoint},
    commits,
    error::StoreError,
    lock::DirectoryLock,
    placement::{self, Placed},
    queue::{Queue, Request, Taken},
    retention::Trimmer,
    store,
    transactions::Transaction,
};
use crate::broker::{EnsuredTopic, Produced};

/// How often a disk that failed is tried.
const PROBE: Duration = Duration::from_secs(1);
/// Bytes that a transaction costs besides its records: the pages that it touches, about.
const TRANSACTION: u64 = 16 << 10;
/// A write-ahead log of this many bytes is emptied by the writer, though that holds everyone up: constant load can
/// keep the checkpointer from ever reaching its end.
const LARGEST_WAL: u64 = 256 << 20;

/// What the writer shows of itself.
#[derive(Debug, Default)]
pub(super) struct WriterStatus {
    trouble: Mutex<Option<String>>,
    transactions: AtomicU64,
}

/// The writer, before it is a thread.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) catalog: Arc<Catalog>,
    pub(super) queue: Arc<Queue>,
    pub(super) status: Arc<WriterStatus>,
    pub(super) trimmer: Trimmer,
    pub(super) checkpointer: Checkpointer,
    /// Set once the file is closed.
    pub(super) closed: watch::Sender<bool>,
    /// The last to go.
    pub(super) lock: DirectoryLock,
}

/// Lets nobody wait for a writer that is gone, however it went.
struct Ending(Arc<Queue>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.close();
        drop(self.0.take(None)); // a request that is dropped says that its outcome is not known
    }
}

/// What a transaction wrote, not to be seen before it is durable.
#[derive(Default)]
struct Written {
    extents: BTreeMap<u32, (Arc<Partition>, Extent)>,
    topics: BTreeMap<Arc<str>, Topic>,
    /// Offset and timestamp of each record, in the order of the batch.
    produced: Vec<Produced>,
    bytes: u64,
}

impl WriterStatus {
    /// Why nothing can be written now; `None`: it can.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Transactions so far.
    pub(super) fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    fn failed(&self, error: &StoreError) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_none() {
            tracing::error!(%error, "The log cannot be written. Nothing is acknowledged until it can.");
        }
        *trouble = Some(error.to_string());
    }

    fn worked(&self) {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        if trouble.is_some() {
            tracing::info!("The log can be written again.");
        }
    }
}

impl Writer {
    /// Becomes a thread, which ends after the queue is closed and everything in it is served.
    pub(super) fn start(self) -> std::io::Result<()> {
        let ending = Ending(self.queue.clone());
        thread::Builder::new().name("keyway-log".into()).spawn(move || {
            let _ending = ending;
            self.run();
        })?;
        Ok(())
    }

    fn run(mut self) {
        loop {
            let patience = match self.status.trouble() {
                Some(_) => Some(PROBE),
                None => self.trimmer.next_look(),
            };
            match self.queue.take(patience) {
                Taken::Requests(batch) => self.serve(batch),
                // While requests come, they show whether writing works.
                Taken::Nothing if self.status.trouble().is_some() => self.probe(),
                Taken::Nothing => {}
                Taken::Closed => break,
            }
            self.trim(); // on a full disk all the more
        }
        let Self { connection, checkpointer, lock, closed, .. } = self;
        drop(checkpointer);
        if let Err(error) = checkpoint(&connection, "TRUNCATE") {
            tracing::warn!(%error, "The write-ahead log could not be emptied; it is when the log is opened next.");
        }
        if let Err((_, error)) = connection.close() {
            tracing::warn!(%error, "The log was not closed cleanly; it is recovered when it is opened.");
        }
        drop(lock);
        closed.send_replace(true);
    }

    fn serve(&mut self, batch: Vec<Request>) {
        match self.write(&batch) {
            Ok(written) => {
                let bytes = written.bytes;
                let produced = self.publish(written);
                self.answer(batch, produced);
                self.checkpoint(bytes);
            }
            Err(error) => {
                self.status.failed(&error);
                for request in batch {
                    request.fail(&error);
                }
            }
        }
    }

    fn write(&mut self, batch: &[Request]) -> Result<Written, StoreError> {
        let mut written = Written::default();
        if !batch.iter().any(|request| self.changes(request)) {
            return Ok(written);
        }
        let now = placement::now();
        let mut body = Vec::new();
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for request in batch {
            match request {
                Request::Append(append) => {
                    written.append(&transaction, &append.placed, now, &mut body)?;
                }
                Request::Commit { group, offsets, .. } => {
                    commits::keep_all(&transaction, group, offsets)?;
                }
                Request::Transact(Transaction { records, commit, .. }) => {
                    for placed in records {
                        written.append(&transaction, placed, now, &mut body)?;
                    }
                    if let Some((group, offsets)) = commit {
                        commits::keep_all(&transaction, group, offsets)?;
                    }
                }
                Request::EnsureTopic { name, partitions, keep_forever, .. } => {
                    let is_new =
                        self.catalog.topic(name).is_none() && !written.topics.contains_key(name);
                    let create =
                        || store::create_topic(&transaction, name, *partitions, *keep_forever);
                    if is_new && let Some(topic) = create()? {
                        written.topics.insert(name.clone(), topic);
                    }
                }
                Request::Committed { .. } => {}
            }
        }
        for (partition, extent) in written.extents.values() {
            store::set_extent(&transaction, partition, extent)?;
        }
        transaction.commit()?;
        self.status.transactions.fetch_add(1, Ordering::Relaxed);
        self.status.worked();
        written.bytes += TRANSACTION;
        Ok(written)
    }

    fn changes(&self, request: &Request) -> bool {
        match request {
            Request::Append(_) | Request::Commit { .. } | Request::Transact(_) => true,
            Request::EnsureTopic { name, .. } => self.catalog.topic(name).is_none(),
            Request::Committed { .. } => false,
        }
    }

    fn publish(&mut self, written: Written) -> (Vec<Produced>, Vec<Arc<str>>) {
        for (partition, extent) in written.extents.into_values() {
            partition.publish(extent);
            self.trimmer.grown(&extent);
        }
        let created = written.topics.keys().cloned().collect();
        for topic in written.topics.into_values() {
            self.catalog.insert(topic);
        }
        (written.produced, created)
    }

    /// Answers everyone. Whoever does not wait any more is not told.
    fn answer(&self, batch: Vec<Request>, (produced, mut created): (Vec<Produced>, Vec<Arc<str>>)) {
        let mut produced = produced.into_iter();
        for request in batch {
            match request {
                Request::Append(append) => append
                    .acknowledge
                    .send(Ok(produced.next().expect("each record of the batch was written"))),
                Request::Commit { done, .. } => drop(done.send(Ok(()))),
                Request::Transact(Transaction { records, done, .. }) => {
                    // Nobody waits: nobody to tell.
                    drop(done.send(Ok(produced.by_ref().take(records.len()).collect())));
                }
                Request::Committed { group, partitions, answer } => {
                    let committed = partitions
                        .iter()
                        .map(|partition| commits::committed(&self.connection, &group, partition))
                        .collect();
                    answer.send(committed).ok();
                }
                Request::EnsureTopic { name, partitions, answer, .. } => {
                    let is_new = created.iter().position(|created| *created == name);
                    let found = match (is_new, self.catalog.topic(&name)) {
                        (Some(index), _) => {
                            created.swap_remove(index); // the first to ask made it
                            Ok(EnsuredTopic::Created)
                        }
                        (None, Some(topic)) if topic.count() == partitions => {
                            Ok(EnsuredTopic::Existed)
                        }
                        (None, Some(topic)) => {
                            Ok(EnsuredTopic::Differs { partitions: topic.count() })
                        }
                        (None, None) => Err(StoreError::Unavailable(format!(
                            "no room for {partitions} more partitions: the embedded broker takes {} in all",
                            store::PARTITIONS
                        ))),
                    };
                    answer.send(found).ok();
                }
            }
        }
    }

    fn checkpoint(&mut self, bytes: u64) {
        if !self.checkpointer.wrote(bytes) {
            return;
        }
        let wal = self.path.with_extension("db-wal");
        let is_large = fs::metadata(wal).is_ok_and(|file| file.len() > LARGEST_WAL);
        if is_large && let Err(error) = checkpoint(&self.connection, "TRUNCATE") {
            tracing::warn!(%error, "Could not empty the write-ahead log; it goes on growing.");
        }
    }

    fn trim(&mut self) {
        match self.trimmer.step(&mut self.connection, &self.catalog, Instant::now()) {
            Ok(bytes) => self.checkpoint(bytes),
            Err(error) => self.status.failed(&error),
        }
    }

    fn probe(&mut self) {
        // On a full disk the room of the write-ahead log is better used for records.
        checkpoint(&self.connection, "TRUNCATE").ok(); // the write that follows shows what is wrong
        match store::probe(&self.connection) {
            Ok(()) => self.status.worked(),
            Err(error) => self.status.failed(&error),
        }
    }
}

impl Written {
    fn append(
        &mut self,
        connection: &Connection,
        placed: &Placed,
        now: u64,
        body: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let Placed { partition, timestamp, record } = placed;
        let (_, extent) = self
            .extents
            .entry(partition.id)
            .or_insert_with(|| (partition.clone(), partition.extent()));
        let times = (*timestamp, now);
        let size = store::append(connection, partition, extent.end, times, record, body)?;
        if extent.beginning == extent.end {
            extent.oldest = now;
        }
        self.produced.push(Produced {
            partition: partition.name.partition,
            offset: extent.end,
            timestamp: *timestamp,
        });
        extent.end += 1;
        extent.bytes += size;
        self.bytes += size;
        Ok(())
    }
}
