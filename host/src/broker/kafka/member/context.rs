//! What librdkafka tells a member's consumer, kept until the driver looks: partitions given and taken, and trouble.
//!
//! librdkafka hands out its rebalances as events of the consumer's queue and then waits for `incremental_assign` or
//! `incremental_unassign`, however long that takes. So nothing is done in the callback; the driver does it when it is
//! time. Only while the consumer is being closed is there no driver any more, and a rebalance is answered at once.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};

use super::super::{error, reach, wake::Served};
use crate::record::TopicPartition;

/// Notices that may wait; librdkafka gives no second rebalance before the first is answered, so only trouble adds up.
const NOTICES: usize = 64;

/// Something that librdkafka told.
#[derive(Debug)]
pub(super) enum Notice {
    /// These partitions are given; `incremental_assign` is waited for.
    Assign(Vec<TopicPartition>),
    /// These are taken; `incremental_unassign` is waited for.
    Revoke(Vec<TopicPartition>),
    /// These were taken without asking, and may be another member's already; `incremental_unassign` is waited for.
    Lost(Vec<TopicPartition>),
    /// Something is wrong that librdkafka gets over.
    Trouble(String),
    /// Something is wrong that this consumer does not get over.
    Fatal(String),
}

#[derive(Debug, Default)]
pub(super) struct MemberContext {
    notices: Mutex<VecDeque<Notice>>,
    served: Served,
    closing: AtomicBool,
}

impl MemberContext {
    /// Whether the last poll served an event, so that the queue may hold more.
    pub(super) fn served(&self) -> bool {
        self.served.take()
    }

    pub(super) fn next(&self) -> Option<Notice> {
        self.notices().pop_front()
    }

    /// From now on rebalances are answered at once.
    pub(super) fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    fn notice(&self, notice: Notice) {
        let mut notices = self.notices();
        if matches!(notice, Notice::Trouble(_)) && notices.len() >= NOTICES {
            return; // the next one says the same
        }
        notices.push_back(notice);
    }

    fn notices(&self) -> MutexGuard<'_, VecDeque<Notice>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.served.set();
        reach::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.served.set();
        let text = format!("{}: {reason}", error::text(&error));
        self.notice(match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId) => {
                Notice::Fatal(text)
            }
            Some(RDKafkaErrorCode::PartitionEOF) => return,
            _ => Notice::Trouble(text),
        });
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        self.served.set();
        let given = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Relaxed) {
            return answer(consumer, given);
        }
        let partitions = partitions(list);
        self.notice(if given {
            Notice::Assign(partitions)
        } else if consumer.assignment_lost() {
            Notice::Lost(partitions)
        } else {
            Notice::Revoke(partitions)
        });
    }
}

/// Answers a rebalance. The list is always empty: fetching is another client's part, and to this one no partition is ever
/// assigned. librdkafka keeps what the group has given the member apart from that.
pub(super) fn answer(consumer: &BaseConsumer<MemberContext>, given: bool) {
    let nothing = TopicPartitionList::new();
    let answered = if given {
        consumer.incremental_assign(&nothing)
    } else {
        consumer.incremental_unassign(&nothing)
    };
    if let Err(error) = answered {
        tracing::warn!(%error, "Kafka took a rebalance back before it was answered.");
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let elements = list.elements();
    let mut topics: Vec<Arc<str>> = Vec::new();
    let partitions = elements.iter().map(|element| {
        let known = topics.iter().find(|topic| topic.as_ref() == element.topic()).cloned();
        let topic = known.unwrap_or_else(|| {
            let topic: Arc<str> = element.topic().into();
            topics.push(Arc::clone(&topic));
            topic
        });
        TopicPartition { topic, partition: element.partition() as u32 }
    });
    partitions.collect()
}
