//! Dead letters and parked records: which topics keep them, which are meant, and how their topics are read.
//!
//! A topic of letters is read from its beginning to its end, because what became of a letter is written behind it. Used
//! by the routes, and by the command line where it asks Kafka itself.

mod list;
mod redrive;
mod routes;
mod through;
mod write_back;

use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use list::list;
pub use redrive::{Order, redrive, redrive_through};
pub(super) use routes::routes;
pub use through::{Through, Unhandled};

use crate::{
    broker::{Broker, BrokerError, PartitionOffsets},
    config::{Config, Group},
    letter::Letter,
    record::{Record, TopicPartition},
};

/// Records of one question to the broker, which gives fewer where they are large.
const FETCH: usize = 10_000;
/// Which letters are meant; what is not given is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The topic that their records came from, or the one that keeps them.
    pub topic: Option<String>,
    /// The group that gave them up.
    pub group: Option<String>,
    /// The plugin that handled them last, or one generation of it, `NAME@DIGEST`.
    pub handler: Option<String>,
    /// Text in their reason.
    pub reason: Option<String>,
    /// Their key, as text.
    pub key: Option<String>,
    /// The earliest time at which they were given up, in RFC 3339, or an age such as `2h`.
    pub since: Option<Since>,
    /// Only those that are parked, or only those that are not.
    pub parked: Option<bool>,
}

/// A time in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since(pub SystemTime);

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ago = |age: Duration| SystemTime::now().checked_sub(age);
        let time = match humantime::parse_duration(text) {
            Ok(age) => ago(age),
            Err(_) => humantime::parse_rfc3339_weak(text).ok(),
        };
        time.map(Self).ok_or_else(|| {
            format!(
                "{text:?} is no time; give one such as 2030-01-31T12:00:00Z, or an age such as 2h"
            )
        })
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(self.0).fmt(f)
    }
}

impl Filter {
    /// What is given, as parameters of `/api/v1/dead-letters`.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let Self { topic, group, handler, reason, key, since, parked } = self;
        let texts = [
            ("topic", topic),
            ("group", group),
            ("handler", handler),
            ("reason", reason),
            ("key", key),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.clone()?)));
        let since = since.map(|since| ("since", since.to_string()));
        let parked = parked.map(|parked| ("parked", parked.to_string()));
        texts.chain(since).chain(parked).collect()
    }

    /// Whether a letter is meant.
    fn wants(&self, letter: &Letter, record: &Record) -> bool {
        let Self { topic, group, handler, reason, key, since, parked: _ } = self;
        let is = |wanted: &Option<String>, given: &dyn Fn(&str) -> bool| {
            wanted.as_deref().is_none_or(given)
        };
        is(topic, &|topic| topic == &*letter.source.partition.topic || topic == &*record.topic)
            && is(group, &|group| group == letter.group)
            && is(handler, &|handler| {
                letter.handler == handler
                    || letter.handler.split_once('@').is_some_and(|(plugin, _)| plugin == handler)
            })
            && is(reason, &|reason| letter.reason.contains(reason))
            && is(key, &|key| record.key.as_deref() == Some(key.as_bytes()))
            && since.is_none_or(|Since(since)| letter.rejected_at >= since)
    }
}

/// A partition that keeps letters.
#[derive(Clone, Debug)]
struct Shelf {
    at: TopicPartition,
    offsets: PartitionOffsets,
    /// Whose parked records it keeps; `None`: it keeps dead letters.
    parked_by: Option<Group>,
}

/// Every partition that may keep letters that are meant, by topic and number: those of the groups that are configured.
async fn shelves(
    broker: &dyn Broker,
    config: &Config,
    filter: &Filter,
) -> Result<Vec<Shelf>, BrokerError> {
    let mut topics: BTreeMap<Arc<str>, Option<&Group>> = BTreeMap::new();
    for group in &config.groups {
        if filter.parked != Some(true) {
            let names = group.topics.iter().map(|topic| group.dead_letter_topic_of(topic));
            topics.extend(names.map(|name| (name, None)));
        }
        let is_meant = filter.group.as_deref().is_none_or(|id| *id == *group.id);
        if filter.parked != Some(false) && is_meant {
            topics.insert(group.parked_topic(), Some(group));
        }
    }
    let mut shelves = Vec::new();
    for (name, parked_by) in topics {
        let topic = match broker.topic(&name).await {
            Ok(topic) => topic,
            Err(BrokerError::UnknownTopic(_)) => continue,
            Err(error) => return Err(error),
        };
        shelves.extend((0..).zip(topic.partitions).map(|(partition, offsets)| Shelf {
            at: TopicPartition { topic: name.clone(), partition },
            offsets,
            parked_by: parked_by.cloned(),
        }));
    }
    Ok(shelves)
}

impl Shelf {
    /// The same with all that was written to it before this call. What is behind a transaction that is open cannot be
    /// read, so that one is waited for.
    async fn settled(&self, broker: &dyn Broker) -> Result<Self, BrokerError> {
        Ok(Self { offsets: broker.settled(&self.at).await?, ..self.clone() })
    }

    /// The next records from `from` on, up to the end that was seen first; none: that was all.
    async fn read(&self, broker: &dyn Broker, from: u64) -> Result<Vec<Record>, BrokerError> {
        if from >= self.offsets.end {
            return Ok(Vec::new());
        }
        let mut records = broker.records(&self.at, from, FETCH).await?;
        records.retain(|record| record.offset < self.offsets.end);
        Ok(records)
    }
}
