//! What there is, in memory: every topic and partition, with the ends of each and who waits for more.
//!
//! The writer alone changes it, after the change is durable; everyone else reads. So an offset that shows here can
//! be read from the file.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{
    broker::{PartitionOffsets, TopicInfo},
    record::TopicPartition,
};

/// Every topic by name.
#[derive(Debug, Default)]
pub(super) struct Catalog(RwLock<BTreeMap<Arc<str>, Arc<Topic>>>);

/// One topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) partitions: Vec<Arc<Partition>>,
    /// Whether retention leaves its records alone.
    pub(super) is_kept: bool,
    next: AtomicU32,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    /// Its number in the file, of all partitions of all topics.
    pub(super) id: u32,
    /// Its topic's number in the file.
    pub(super) topic_id: i64,
    /// Its name.
    pub(super) name: TopicPartition,
    beginning: AtomicU64,
    end: AtomicU64,
    bytes: AtomicU64,
    oldest: AtomicU64,
    waiting: Mutex<Vec<Arc<Notify>>>,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The offset of its oldest record.
    pub(super) beginning: u64,
    /// The offset that its next record gets.
    pub(super) end: u64,
    /// Bytes of its records' bodies.
    pub(super) bytes: u64,
    /// When its oldest record was written, in milliseconds since the Unix epoch; of no meaning when it is empty.
    pub(super) oldest: u64,
}

impl Catalog {
    pub(super) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) fn topics(&self) -> Vec<Arc<Topic>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(super) fn partition(&self, name: &TopicPartition) -> Option<Arc<Partition>> {
        self.topic(&name.topic)?.partitions.get(name.partition as usize).cloned()
    }

    pub(super) fn insert(&self, topic: Topic) {
        let mut topics = self.0.write().unwrap_or_else(PoisonError::into_inner);
        topics.insert(topic.name.clone(), Arc::new(topic));
    }
}

impl Topic {
    pub(super) fn new(name: Arc<str>, partitions: Vec<Arc<Partition>>, is_kept: bool) -> Self {
        Self { name, partitions, is_kept, next: AtomicU32::new(0) }
    }

    /// How many partitions it has.
    pub(super) fn count(&self) -> u32 {
        self.partitions.len() as u32 // it was a u32 when the topic was made
    }

    /// The partition of the next record that has neither a key nor a partition: each in its turn, so that even a
    /// few records show on all.
    pub(super) fn next_in_turn(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed) % self.count()
    }

    pub(super) fn info(&self) -> TopicInfo {
        let offsets = |partition: &Arc<Partition>| {
            let Extent { beginning, end, .. } = partition.extent();
            PartitionOffsets { beginning, end }
        };
        TopicInfo {
            name: self.name.clone(),
            partitions: self.partitions.iter().map(offsets).collect(),
        }
    }
}

impl Partition {
    pub(super) fn new(id: u32, topic_id: i64, name: TopicPartition, extent: Extent) -> Self {
        Self {
            id,
            topic_id,
            name,
            beginning: extent.beginning.into(),
            end: extent.end.into(),
            bytes: extent.bytes.into(),
            oldest: extent.oldest.into(),
            waiting: Mutex::default(),
        }
    }

    pub(super) fn extent(&self) -> Extent {
        // The beginning first: it may move on meanwhile, but never past the end that is read after it.
        let beginning = self.beginning.load(Ordering::Acquire);
        Extent {
            beginning,
            end: self.end.load(Ordering::Acquire),
            bytes: self.bytes.load(Ordering::Relaxed),
            oldest: self.oldest.load(Ordering::Relaxed),
        }
    }

    /// Shows what has become durable, and wakes who waits for it.
    pub(super) fn publish(&self, extent: Extent) {
        self.oldest.store(extent.oldest, Ordering::Relaxed);
        self.bytes.store(extent.bytes, Ordering::Relaxed);
        self.end.store(extent.end, Ordering::Release);
        self.beginning.store(extent.beginning, Ordering::Release);
        for waiting in self.waiting().iter() {
            waiting.notify_one();
        }
    }

    /// Has `reader` woken by every [`Partition::publish`] from now on.
    pub(super) fn wake(&self, reader: &Arc<Notify>) {
        self.waiting().push(reader.clone());
    }

    /// The end of [`Partition::wake`].
    pub(super) fn forget(&self, reader: &Arc<Notify>) {
        self.waiting().retain(|waiting| !Arc::ptr_eq(waiting, reader));
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
