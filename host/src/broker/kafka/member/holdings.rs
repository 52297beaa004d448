//! The partitions that a member has, each with its own queue of fetched records.
//!
//! A partition that is paused, revoked or about to be sought is simply not drained: what librdkafka fetched for it stays
//! in its queue (which bounds itself), and no other partition waits behind it.

use std::{sync::Arc, time::Duration};

use rdkafka::{consumer::base_consumer::PartitionQueue, error::KafkaError};

use super::{super::record, MemberConsumer, context::MemberContext};
use crate::record::{Record, TopicPartition};

/// The size of one run of records; one larger record makes a run of its own.
const RUN_RECORDS: usize = 1000;
const RUN_BYTES: usize = 1 << 20;

/// One partition in the member's hands.
pub(super) struct Holding {
    pub(super) partition: TopicPartition,
    queue: PartitionQueue<MemberContext>,
    pub(super) paused: bool,
    /// Revoked, and not yet released.
    pub(super) revoking: bool,
    /// Where a seek that has not taken effect leads.
    pub(super) seeking: Option<u64>,
}

#[derive(Default)]
pub(super) struct Holdings {
    held: Vec<Holding>,
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
    /// Takes a partition whose records are to come to a queue of their own. To be done before it is assigned: what is
    /// fetched earlier would go to the common queue. `None`: a partition that librdkafka cannot have.
    pub(super) fn add(
        &mut self,
        consumer: &Arc<MemberConsumer>,
        partition: TopicPartition,
        nonempty: impl Fn() + Send + Sync + 'static,
    ) -> Option<()> {
        self.remove(std::slice::from_ref(&partition));
        let number = partition.partition as i32;
        let mut queue = consumer.split_partition_queue(&partition.topic, number)?;
        queue.set_nonempty_callback(nonempty);
        self.held.push(Holding { partition, queue, paused: false, revoking: false, seeking: None });
        Some(())
    }

    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) {
        self.held.retain(|holding| !partitions.contains(&holding.partition));
    }

    pub(super) fn get_mut(&mut self, partition: &TopicPartition) -> Option<&mut Holding> {
        self.held.iter_mut().find(|holding| holding.partition == *partition)
    }

    pub(super) fn contains(&self, partition: &TopicPartition) -> bool {
        self.held.iter().any(|holding| holding.partition == *partition)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Holding> {
        self.held.iter_mut()
    }

    /// Lets go of everything. Queues must be gone before their consumer can.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    /// Drains what has been fetched, up to the size of one run.
    pub(super) fn drain(&mut self) -> Run {
        let mut run = Run::default();
        let mut bytes = 0;
        let count = self.held.len();
        for index in 0..count {
            let at = (self.turn + index) % count;
            let holding = &self.held[at];
            while run.records.len() < RUN_RECORDS && bytes < RUN_BYTES && holding.flows() {
                match holding.queue.poll(Duration::ZERO) {
                    Some(Ok(message)) => {
                        let record = record::owned(&holding.partition.topic, &message);
                        bytes += record.size();
                        run.records.push(record);
                    }
                    Some(Err(error)) => run.errors.push((holding.partition.clone(), error)),
                    None => break,
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
