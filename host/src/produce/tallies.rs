//! What was written to each topic: how it is shared out among partitions, and where generations of key selectors began.
//!
//! A record is counted when whoever sent it takes its acknowledgement, or when the transaction that it is in was committed:
//! so it is one that the broker has, at the place where it is. That costs some 50 ns a record, half of it for what has to be
//! remembered until then: the lock is held by nobody for long, and of many records one in 32 is looked at for its keys. Time
//! passes, and topics are judged, only when [`Tallies::turn`] is called.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::skew::{Skew, Skewed, Tally, Written};
use crate::{
    broker::{Acknowledgement, ProduceError, Produced},
    handler::{Beginning, Beginnings, Generation},
    record::TopicPartition,
};

/// How long a window is; what is told is of the last one and of the one that is open.
const WINDOW: Duration = Duration::from_secs(60);
/// Topics that are counted; records of more are not.
const TOPICS: usize = 1024;

/// What is known of all topics.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    topics: Mutex<HashMap<Arc<str>, Topic>>,
    /// When the open window began.
    began: Mutex<Option<Instant>>,
    pub(super) beginnings: Beginnings,
}

#[derive(Debug, Default)]
struct Topic {
    tally: Tally,
    /// The generation that decided a partition's last record, by its digest, and the lowest offset that it was seen at.
    decided: Vec<Option<([u8; 32], u64)>>,
}

/// What is remembered of a record until it is written for good.
#[derive(Clone, Debug)]
pub struct Pending {
    pub(super) topic: Arc<str>,
    /// As it is written.
    pub(super) key: Option<Bytes>,
    /// Nobody decided its partition.
    pub(super) spread: bool,
    pub(super) bytes: usize,
    /// Where a key selector decided: which, and the key that the caller gave.
    pub(super) selected: Option<(Generation, Option<Bytes>)>,
}

/// An [`Acknowledgement`] whose record is counted when it is taken.
#[derive(Debug)]
pub struct Counted {
    acknowledgement: Acknowledgement,
    pending: Option<(Arc<Tallies>, Pending)>,
}

impl Counted {
    pub(super) fn new(
        acknowledgement: Acknowledgement,
        tallies: Arc<Tallies>,
        pending: Pending,
    ) -> Self {
        Self { acknowledgement, pending: Some((tallies, pending)) }
    }
}

impl Future for Counted {
    type Output = Result<Produced, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.acknowledgement).poll(context));
        if let (Ok(produced), Some((tallies, pending))) = (&answer, self.pending.take()) {
            tallies.count(&pending, produced);
        }
        Poll::Ready(answer)
    }
}

impl Tallies {
    pub(super) fn count(&self, pending: &Pending, produced: &Produced) {
        let written = Written {
            partition: produced.partition,
            bytes: pending.bytes as u64,
            key: pending.key.as_deref(),
            spread: pending.spread,
            of_caller: pending.selected.as_ref().map(|(_, key)| key.as_deref()),
        };
        let is_news = {
            let mut topics = self.lock();
            let is_room = topics.len() < TOPICS;
            let topic = match topics.get_mut(&pending.topic) {
                Some(topic) => topic,
                None if is_room => topics.entry(pending.topic.clone()).or_default(),
                None => return,
            };
            topic.tally.count(&written, || fastrand::u64(..));
            let selected = pending.selected.as_ref();
            selected.is_some_and(|(generation, _)| topic.is_news(generation, produced))
        };
        if let Some((generation, _)) = pending.selected.as_ref().filter(|_| is_news) {
            self.beginnings.add(Beginning {
                group: None,
                partition: TopicPartition::new(pending.topic.clone(), produced.partition),
                offset: produced.offset,
                generation: generation.clone(),
                at: SystemTime::now(),
            });
        }
    }

    /// Topics that there is something to judge of.
    pub(super) fn topics(&self) -> Vec<Arc<str>> {
        self.lock().keys().cloned().collect()
    }

    /// Judges a topic that has so many partitions; what is another judgement than before is logged.
    pub(super) fn judge(&self, name: &str, partitions: u32) {
        let skewed = {
            let mut topics = self.lock();
            let Some(topic) = topics.get_mut(name) else { return };
            if !topic.tally.judge(partitions) {
                return;
            }
            topic.tally.skewed()
        };
        match skewed {
            Some(Skewed { partition, share }) => tracing::warn!(
                topic = name,
                partition,
                percent = (share * 100.0).round(),
                "Most records of a topic go to one of its partitions; `keyway topics` shows their keys."
            ),
            None => tracing::info!(
                topic = name,
                "No partition of a topic gets most of its records any more."
            ),
        }
    }

    /// Lets time pass: begins a new window where the last one is old enough.
    pub(super) fn turn(&self, now: Instant) {
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(*began.get_or_insert(now)) < WINDOW {
            return;
        }
        *began = Some(now);
        let mut topics = self.lock();
        topics.retain(|_, topic| topic.tally.records() > 0 || topic.tally.skewed().is_some());
        topics.values_mut().for_each(|topic| topic.tally.turn());
    }

    /// How a topic's records are shared out; `None`: none are counted.
    pub(super) fn skew(&self, topic: &str) -> Option<Skew> {
        self.lock().get(topic).map(|topic| topic.tally.skew())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Topic>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topic {
    /// Whether this generation was not seen on this partition last, or only further on.
    fn is_news(&mut self, generation: &Generation, at: &Produced) -> bool {
        let index = at.partition as usize;
        if self.decided.len() <= index {
            self.decided.resize(index + 1, None);
        }
        match &mut self.decided[index] {
            Some((digest, lowest)) if *digest == generation.digest => {
                let is_lower = at.offset < *lowest;
                *lowest = at.offset.min(*lowest);
                is_lower
            }
            decided => {
                *decided = Some((generation.digest, at.offset));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(byte: Option<u8>) -> Pending {
        let generation = |byte| Generation { plugin: "p".into(), digest: [byte; 32] };
        Pending {
            topic: "t".into(),
            key: Some("k".into()),
            spread: false,
            bytes: 1,
            selected: byte.map(|byte| (generation(byte), None)),
        }
    }

    #[test]
    fn the_first_offset_of_each_generation_on_each_partition_is_told_and_a_lower_one_corrects_it() {
        let tallies = Tallies::default();
        for (byte, partition, offset) in [
            (None, 0, 3),
            (Some(1), 0, 5),
            (Some(1), 0, 6),
            (Some(1), 0, 4),
            (Some(1), 1, 9),
            (Some(2), 0, 7),
            (Some(2), 0, 8),
            (None, 0, 2),
        ] {
            tallies.count(&pending(byte), &Produced { partition, offset, timestamp: 0 });
        }
        let told = tallies.beginnings.take().into_iter().map(|beginning| {
            assert!(beginning.group.is_none() && &*beginning.partition.topic == "t");
            (beginning.generation.digest[0], beginning.partition.partition, beginning.offset)
        });
        assert_eq!(told.collect::<Vec<_>>(), [(1, 0, 5), (1, 0, 4), (1, 1, 9), (2, 0, 7)]);
    }

    #[test]
    fn windows_turn_after_a_minute_and_quiet_topics_are_forgotten() {
        let tallies = Tallies::default();
        let begin = Instant::now();
        let minute = |number: u64| begin + WINDOW * u32::try_from(number).unwrap();
        tallies.turn(begin);
        tallies.count(&pending(None), &Produced { partition: 0, offset: 0, timestamp: 0 });
        tallies.turn(minute(1) - Duration::from_millis(1));
        let records = || tallies.skew("t").map(|skew| skew.partitions.len());
        assert_eq!(records(), Some(1));
        tallies.turn(minute(1));
        assert_eq!(records(), Some(1), "it is in the window before");
        tallies.turn(minute(2));
        assert_eq!(records(), Some(0));
        tallies.turn(minute(3));
        assert_eq!(records(), None);
    }
}
