//! Which topics there are and how many partitions each has, from memory; and whoever waits to know.
//!
//! A record for a topic that is known goes on at once. One for a topic or partition that is not waits for the next look
//! at the cluster, and so do all that come after it: the new topics are published only when the waiting records have
//! gone on, so that records of one partition keep their order. Asking Kafka is the observer's part; nothing here blocks.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use crate::{
    broker::{Acknowledge, BrokerError, ProduceError},
    record::NewRecord,
};

/// Bounds on what may wait for one look at the cluster.
const WAITERS: usize = 10_000;
const WAITING_BYTES: usize = 64 << 20;

/// Partitions by topic.
pub(super) type Topics = HashMap<Arc<str>, u32>;

#[derive(Debug, Default)]
pub(super) struct Directory {
    topics: ArcSwap<Topics>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Waiter>,
    bytes: usize,
    /// When the last look that saw the cluster ended.
    seen: Option<Instant>,
}

#[derive(Debug)]
enum Waiter {
    Record(NewRecord, Acknowledge),
    Question(Arc<str>, oneshot::Sender<Result<u32, BrokerError>>),
}

/// A record on its way, and how many partitions its topic has.
pub(super) struct Ready {
    pub(super) record: NewRecord,
    pub(super) acknowledge: Acknowledge,
    pub(super) partitions: u32,
}

impl Directory {
    /// Every topic as last seen; never from before an answer that this directory has given.
    pub(super) fn topics(&self) -> Arc<Topics> {
        let _settled = self.waiting(); // answers are given before the topics are published, both under this lock
        self.topics.load_full()
    }

    /// How many partitions a topic has; `None`: there was none of that name at the last look.
    pub(super) fn partitions(&self, topic: &str) -> Option<u32> {
        self.topics.load().get(topic).copied()
    }

    /// The same, where the last look is not older than `age`; `None` leaves open whether there is such a topic.
    pub(super) fn partitions_lately(&self, topic: &str, age: Duration) -> Option<u32> {
        let waiting = self.waiting();
        waiting.seen.filter(|seen| seen.elapsed() <= age).and_then(|_| self.partitions(topic))
    }

    /// Hands a record to `send`, now or after the next look. Says whether a look is needed.
    pub(super) fn admit(
        &self,
        record: NewRecord,
        acknowledge: Acknowledge,
        send: impl Fn(Ready),
    ) -> bool {
        if let Some(partitions) = self.fits(&record) {
            send(Ready { record, acknowledge, partitions });
            return false;
        }
        let mut waiting = self.waiting();
        // Another look may have ended since; what waited for it has gone on before it was published.
        if let Some(partitions) = self.fits(&record) {
            send(Ready { record, acknowledge, partitions });
            return false;
        }
        if waiting.queue.len() >= WAITERS || waiting.bytes + record.size() > WAITING_BYTES {
            acknowledge.send(Err(unavailable("too many records wait for Kafka's list of topics")));
            return true;
        }
        waiting.bytes += record.size();
        waiting.queue.push_back(Waiter::Record(record, acknowledge));
        true
    }

    /// How many partitions a topic has, as the next look will say.
    pub(super) fn ask(&self, topic: &str) -> oneshot::Receiver<Result<u32, BrokerError>> {
        let (answer, receiver) = oneshot::channel();
        let mut waiting = self.waiting();
        if waiting.queue.len() >= WAITERS {
            let reason = "too many questions wait for Kafka's list of topics";
            answer.send(Err(BrokerError::Unavailable(reason.into()))).ok(); // whoever asked may be gone
        } else {
            waiting.queue.push_back(Waiter::Question(topic.into(), answer));
        }
        receiver
    }

    /// How many wait; given back to [`Directory::settle`] when the look that begins now has ended.
    pub(super) fn waiters(&self) -> usize {
        self.waiting().queue.len()
    }

    /// A look has ended: the first `asked` of those who wait get their answer, and whoever came since goes on where the
    /// answer is good for them too.
    pub(super) fn settle(&self, asked: usize, look: Result<Topics, String>, send: impl Fn(Ready)) {
        let mut waiting = self.waiting();
        let queue = std::mem::take(&mut waiting.queue);
        waiting.bytes = 0;
        for (index, waiter) in queue.into_iter().enumerate() {
            if let Some(waiter) = settle_one(waiter, &look, index < asked, &send) {
                if let Waiter::Record(record, _) = &waiter {
                    waiting.bytes += record.size();
                }
                waiting.queue.push_back(waiter);
            }
        }
        if let Ok(topics) = look {
            self.topics.store(Arc::new(topics));
            waiting.seen = Some(Instant::now());
        }
    }

    fn fits(&self, record: &NewRecord) -> Option<u32> {
        let partitions = self.partitions(&record.topic)?;
        record.partition.is_none_or(|partition| partition < partitions).then_some(partitions)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers one waiter, or gives it back to wait for the next look. `last`: this look began after it came, so "there is
/// no such topic" is true for it.
fn settle_one(
    waiter: Waiter,
    look: &Result<Topics, String>,
    last: bool,
    send: &impl Fn(Ready),
) -> Option<Waiter> {
    match (waiter, look) {
        (waiter, Err(_)) if !last => return Some(waiter),
        (Waiter::Record(_, acknowledge), Err(reason)) => acknowledge.send(Err(unavailable(reason))),
        (Waiter::Question(_, answer), Err(reason)) => {
            answer.send(Err(BrokerError::Unavailable(reason.clone()))).ok(); // nobody waits any more
        }
        (Waiter::Record(record, acknowledge), Ok(topics)) => {
            match (topics.get(&record.topic).copied(), record.partition) {
                (Some(partitions), Some(partition)) if partition >= partitions => {
                    if !last {
                        return Some(Waiter::Record(record, acknowledge));
                    }
                    let topic = record.topic;
                    acknowledge.send(Err(ProduceError::UnknownPartition {
                        topic,
                        partition,
                        partitions,
                    }));
                }
                (Some(partitions), _) => send(Ready { record, acknowledge, partitions }),
                (None, _) if last => {
                    acknowledge.send(Err(ProduceError::UnknownTopic { topic: record.topic }));
                }
                (None, _) => return Some(Waiter::Record(record, acknowledge)),
            }
        }
        (Waiter::Question(topic, answer), Ok(topics)) => match topics.get(&topic) {
            Some(partitions) => {
                answer.send(Ok(*partitions)).ok(); // nobody waits any more
            }
            None if last => {
                answer.send(Err(BrokerError::UnknownTopic(topic.to_string()))).ok(); // as above
            }
            None => return Some(Waiter::Question(topic, answer)),
        },
    }
    None
}

fn unavailable(reason: &str) -> ProduceError {
    ProduceError::Unavailable { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::broker::Acknowledgement;

    fn topics(entries: &[(&str, u32)]) -> Topics {
        entries.iter().map(|(name, partitions)| ((*name).into(), *partitions)).collect()
    }

    fn record(topic: &str, value: &str, partition: Option<u32>) -> NewRecord {
        NewRecord { partition, ..NewRecord::new(topic, value.to_owned()) }
    }

    #[test]
    fn records_that_waited_go_before_those_that_come_when_the_topic_is_known() {
        let directory = Directory::default();
        let sent = RefCell::new(Vec::new());
        let send = |ready: Ready| sent.borrow_mut().push(ready.record.value.unwrap_or_default());
        let admit = |value| {
            let (acknowledge, _waiting) = Acknowledgement::pair();
            directory.admit(record("t", value, None), acknowledge, send)
        };
        assert!(admit("1"));
        let asked = directory.waiters();
        assert!(admit("2"), "a look that began before it may not know the topic");
        directory.settle(asked, Ok(topics(&[("t", 3)])), send);
        assert!(!admit("3"));
        assert_eq!(*sent.borrow(), ["1", "2", "3"]);
    }

    #[tokio::test]
    async fn only_a_look_that_began_later_says_that_a_topic_or_partition_is_missing() {
        let directory = Directory::default();
        let admit = |topic, partition| {
            let (acknowledge, acknowledgement) = Acknowledgement::pair();
            directory
                .admit(record(topic, "", partition), acknowledge, |_| panic!("not to be sent"));
            acknowledgement
        };
        let early = admit("none", None);
        let asked = directory.waiters();
        let late = admit("t", Some(3));
        directory.settle(asked, Ok(topics(&[("t", 3)])), |_| panic!("not to be sent"));
        assert_eq!(early.await, Err(ProduceError::UnknownTopic { topic: "none".into() }));
        directory.settle(directory.waiters(), Ok(topics(&[("t", 3)])), |_| panic!("nor now"));
        let expected =
            ProduceError::UnknownPartition { topic: "t".into(), partition: 3, partitions: 3 };
        assert_eq!(late.await, Err(expected));
    }

    #[test]
    fn what_was_seen_lately_is_known_without_another_look() {
        let directory = Directory::default();
        let (day, never) = (Duration::from_secs(86_400), Duration::ZERO);
        assert_eq!(directory.partitions_lately("t", day), None);
        directory.settle(0, Ok(topics(&[("t", 3)])), |_| {});
        assert_eq!(directory.partitions_lately("t", day), Some(3));
        assert_eq!(directory.partitions_lately("none", day), None);
        std::thread::sleep(Duration::from_millis(1)); // so that it is older than nothing at all
        assert_eq!(directory.partitions_lately("t", never), None);
        directory.settle(0, Err("down".into()), |_| {});
        assert_eq!(directory.partitions_lately("t", never), None, "a look that failed saw nothing");
    }

    #[tokio::test]
    async fn a_look_that_fails_fails_only_those_who_waited_for_it() {
        let directory = Directory::default();
        let early = directory.ask("t");
        let asked = directory.waiters();
        let late = directory.ask("t");
        directory.settle(asked, Err("down".into()), |_| {});
        assert_eq!(early.await, Ok(Err(BrokerError::Unavailable("down".into()))));
        assert_eq!(directory.waiters(), 1);
        directory.settle(1, Ok(topics(&[("t", 2)])), |_| {});
        assert_eq!(late.await, Ok(Ok(2)));
    }
}
