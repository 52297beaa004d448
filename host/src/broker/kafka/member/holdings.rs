//! The partitions that a member has, each with its own queue of fetched records.
//!
//! They are fetched by a client of their own, which is no member: librdkafka fetches nothing for a member while a
//! revocation is open, and here what stays goes on meanwhile.
//!
//! A partition that is paused, revoked or about to be sought is simply not drained: what librdkafka fetched for it stays
//! in its queue (which bounds itself), and no other partition waits behind it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer as _, base_consumer::PartitionQueue},
    error::{KafkaError, KafkaResult},
};

use super::{
    super::{record, wake::Wakeup},
    MemberConsumer,
    context::MemberContext,
    stall::Pulse,
};
use crate::{
    broker::MemberEvent,
    record::{Arena, Record, TopicPartition},
};

/// The size of one run of records; one larger record makes a run of its own.
const RUN_RECORDS: usize = 1000;
const RUN_BYTES: usize = 1 << 20;
/// How long librdkafka may take to take a seek; it asks nobody for it.
const SEEK: Duration = Duration::from_secs(1);

/// One partition in the member's hands.
pub(super) struct Holding {
    pub(super) partition: TopicPartition,
    queue: PartitionQueue<MemberContext>,
    pub(super) paused: bool,
    /// Revoked, and not yet released.
    pub(super) revoking: bool,
    /// Where the member began: where it goes back to while nothing is committed.
    pub(super) began: Offset,
    /// Where a seek leads that has not taken effect, and what is told when it has.
    pub(super) seeking: Option<(Offset, MemberEvent)>,
    pulse: Pulse,
}

pub(super) struct Holdings {
    held: Vec<Holding>,
    /// After the queues, which must be gone before it can.
    fetcher: Arc<MemberConsumer>,
    wakeup: Arc<Wakeup>,
    /// The holding that the next run begins with, so that none is always last.
    turn: usize,
}

/// What draining the queues gave.
#[derive(Default)]
pub(super) struct Run {
    pub(super) records: Vec<Record>,
    pub(super) errors: Vec<(TopicPartition, KafkaError)>,
}

impl Holdings {
    pub(super) fn new(fetcher: Arc<MemberConsumer>, wakeup: Arc<Wakeup>) -> Self {
        Self { held: Vec::new(), fetcher, wakeup, turn: 0 }
    }

    /// The client that fetches.
    pub(super) fn fetcher(&self) -> &MemberConsumer {
        &self.fetcher
    }

    /// Takes partitions, each from an offset on.
    pub(super) fn add(&mut self, partitions: &[(TopicPartition, Offset)]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (partition, offset) in partitions {
            let number = partition.partition as i32;
            list.add_partition_offset(&partition.topic, number, *offset)?;
            // Split off before it is fetched: what came earlier would go to the common queue.
            let split = self.fetcher.split_partition_queue(&partition.topic, number);
            let mut queue = split.ok_or_else(|| KafkaError::Subscription(partition.to_string()))?;
            let wakeup = Arc::clone(&self.wakeup);
            queue.set_nonempty_callback(move || wakeup.wake());
            let partition = partition.clone();
            self.held.push(Holding {
                partition,
                queue,
                paused: false,
                revoking: false,
                began: *offset,
                seeking: None,
                pulse: Pulse::new(Instant::now()),
            });
        }
        self.fetcher.incremental_assign(&list)
    }

    /// Lets partitions go, as far as they are held.
    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        let mut list = TopicPartitionList::new();
        self.held.retain(|holding| {
            let stays = !partitions.contains(&holding.partition);
            if !stays {
                list.add_partition(&holding.partition.topic, holding.partition.partition as i32);
            }
            stays
        });
        if list.count() > 0
            && let Err(error) = self.fetcher.incremental_unassign(&list)
        {
            tracing::warn!(%error, "Partitions that were let go had not been fetched.");
        }
    }

    /// Lets everything go.
    pub(super) fn clear(&mut self) {
        let all: Vec<_> = self.held.iter().map(|holding| holding.partition.clone()).collect();
        self.remove(&all);
    }

    /// Tries the seeks that wait, and gives what those that took effect have to tell. From there on no record comes that
    /// was fetched before.
    pub(super) fn seek(&mut self) -> Vec<MemberEvent> {
        let mut sought = Vec::new();
        for holding in &mut self.held {
            let Some((offset, _)) = &holding.seeking else { continue };
            let at = &holding.partition;
            match self.fetcher.seek(&at.topic, at.partition as i32, *offset, SEEK) {
                Ok(()) => sought.extend(holding.seeking.take().map(|(_, event)| event)),
                // Its fetching has not begun yet.
                Err(error) => tracing::debug!(partition = %at, %error, "A seek is tried again."),
            }
        }
        sought
    }

    pub(super) fn get_mut(&mut self, partition: &TopicPartition) -> Option<&mut Holding> {
        self.held.iter_mut().find(|holding| holding.partition == *partition)
    }

    pub(super) fn contains(&self, partition: &TopicPartition) -> bool {
        self.held.iter().any(|holding| holding.partition == *partition)
    }

    /// The partitions from which nothing has come for so long that Kafka is to be asked where they end.
    pub(super) fn suspicious(&self) -> Vec<TopicPartition> {
        let now = Instant::now();
        let silent = self.held.iter().filter(|holding| holding.pulse.is_suspicious(now));
        silent.map(|holding| holding.partition.clone()).collect()
    }

    /// Kafka says where these end. A partition of which the fetching has stalled.
    pub(super) fn stalled(&mut self, ends: &[(TopicPartition, u64)]) -> Option<TopicPartition> {
        let now = Instant::now();
        let mut judged = ends.iter().filter(|(at, end)| {
            self.get_mut(at).is_some_and(|holding| holding.pulse.judge(*end, now))
        });
        judged.next().map(|(at, _)| at.clone())
    }

    /// Drains what has been fetched, up to the size of one run.
    pub(super) fn drain(&mut self) -> Run {
        let mut run = Run::default();
        let (mut bytes, mut arena) = (0, Arena::default());
        let now = Instant::now();
        let count = self.held.len();
        for index in 0..count {
            let at = (self.turn + index) % count;
            let holding = &mut self.held[at];
            if !holding.flows() {
                holding.pulse.rest(now);
            }
            while run.records.len() < RUN_RECORDS && bytes < RUN_BYTES && holding.flows() {
                match holding.queue.poll(Duration::ZERO) {
                    Some(Ok(message)) => {
                        let topic = &holding.partition.topic;
                        let record = record::owned(topic, &message, &mut arena);
                        bytes += record.size();
                        run.records.push(record);
                        holding.pulse.rest(now);
                    }
                    Some(Err(error)) => run.errors.push((holding.partition.clone(), error)),
                    None => {
                        holding.pulse.empty(now);
                        break;
                    }
                }
            }
        }
        self.turn = if count == 0 { 0 } else { (self.turn + 1) % count };
        run
    }
}

impl Holding {
    fn flows(&self) -> bool {
        !self.paused && !self.revoking && self.seeking.is_none()
    }
}
