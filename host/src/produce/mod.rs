//! The produce path, for callers and for handlers' output alike: the topic's key selector chooses, the broker writes.
//!
//! An explicit partition wins; else the topic's key selector decides (it sees the caller's key); else the caller's
//! key; else the record is spread. Owns no queue: the broker's is the bound. What was written is counted on the way back
//! (`tallies`): how each topic's records are shared out (`skew`, with the hottest keys by a `sketch`), and where each
//! generation of a key selector began.

mod sketch;
mod skew;
mod tallies;

use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::time::Instant;

pub use sketch::Hot;
pub use skew::{Share, Skew, Skewed};
use tallies::Tallies;
pub use tallies::{Counted, Pending};

use crate::{
    broker::{Broker, BrokerError, ProduceError, Produced},
    handler::{Beginning, Generation, SelectError, Selector, Target},
    record::NewRecord,
};

/// How long the broker may take to say how many partitions a topic has that is judged.
const ASK: Duration = Duration::from_secs(1);

/// Key selectors, by the topic that they decide for.
pub type Selectors = HashMap<Arc<str>, Arc<dyn Selector>>;

/// Writes records, choosing where they go. Cheap to clone.
#[derive(Clone)]
pub struct Producer {
    broker: Arc<dyn Broker>,
    selectors: Arc<ArcSwap<Selectors>>,
    tallies: Arc<Tallies>,
}

/// A record on its way to the broker.
#[derive(Debug)]
pub struct Sent {
    /// Resolves when the record is durable.
    pub acknowledgement: Counted,
    /// The topic it is written to.
    pub topic: Arc<str>,
    /// The key it is written with.
    pub key: Option<Bytes>,
    /// Whose decision that was.
    pub selected_by: SelectedBy,
}

/// Who decided where a record goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectedBy {
    /// The caller, by a key or a partition.
    Caller,
    /// Nobody: the record was spread.
    Nobody,
    /// The topic's key selector.
    Selector(Generation),
}

/// Why a record was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The key selector gave no target.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The broker did not take the record.
    #[error(transparent)]
    Produce(#[from] ProduceError),
}

impl Producer {
    /// A producer over `broker` that asks `selectors`.
    pub fn new(broker: Arc<dyn Broker>, selectors: Selectors) -> Self {
        let selectors = Arc::new(ArcSwap::from_pointee(selectors));
        Self { broker, selectors, tallies: Arc::default() }
    }

    /// Asks other selectors from the next record on, in every clone.
    pub fn set_selectors(&self, selectors: Selectors) {
        self.selectors.store(Arc::new(selectors));
    }

    /// Chooses where the record goes and hands it to the broker. The acknowledgement is still to be waited for.
    pub async fn send(&self, mut record: NewRecord) -> Result<Sent, SendError> {
        let (selected_by, pending) = self.place(&mut record).await?;
        let (topic, key) = (record.topic.clone(), record.key.clone());
        let acknowledgement = self.broker.produce(record);
        let acknowledgement = Counted::new(acknowledgement, self.tallies.clone(), pending);
        Ok(Sent { acknowledgement, topic, key, selected_by })
    }

    /// How the records of a topic are shared out that were sent and acknowledged, or [counted](Self::count), in the last one
    /// to two minutes; `None`: there are none.
    pub fn skew(&self, topic: &str) -> Option<Skew> {
        self.tallies.skew(topic)
    }

    /// The same of each topic of which there are any.
    pub fn skews(&self) -> Vec<(Arc<str>, Skew)> {
        let skew = |topic: Arc<str>| Some((topic.clone(), self.skew(&topic)?));
        self.tallies.topics().into_iter().filter_map(skew).collect()
    }

    /// Lets time pass for [`Self::skew`], and logs which topics have come to be skewed, or to be so no more. To be called
    /// every second or so.
    pub async fn judge(&self) {
        self.tallies.turn(Instant::now());
        for topic in self.tallies.topics() {
            // A broker that does not answer leaves the judgement as it is.
            let partitions = tokio::time::timeout(ASK, self.broker.partitions(&topic)).await;
            if let Ok(Ok(partitions)) = partitions {
                self.tallies.judge(&topic, partitions);
            }
        }
    }

    /// Where generations of key selectors began, as far as was seen since this was asked last.
    pub fn take_beginnings(&self) -> Vec<Beginning> {
        self.tallies.beginnings.take()
    }

    /// Chooses where the record goes, and leaves it at that: it comes to have its key and its partition as they are to be
    /// written. Whoever writes it may have it [counted](Self::count) then.
    pub async fn choose(&self, record: &mut NewRecord) -> Result<Pending, SendError> {
        self.place(record).await.map(|(_, pending)| pending)
    }

    /// Counts a record that was chosen a place, and was written there for good.
    pub fn count(&self, pending: &Pending, produced: &Produced) {
        self.tallies.count(pending, produced);
    }

    async fn place(&self, record: &mut NewRecord) -> Result<(SelectedBy, Pending), SendError> {
        let of_caller = record.key.clone();
        let selector = self.selectors.load().get(&record.topic).cloned();
        let topic = record.topic.clone();
        let partitions = async {
            self.broker.partitions(&topic).await.map_err(|error| match error {
                BrokerError::UnknownTopic(_) => ProduceError::UnknownTopic { topic: topic.clone() },
                other => ProduceError::Unavailable { reason: other.to_string() },
            })
        };
        let selected_by = decide(record, selector.as_deref(), partitions).await?;
        let selected = match &selected_by {
            SelectedBy::Selector(generation) => Some((generation.clone(), of_caller)),
            _ => None,
        };
        let pending = Pending {
            topic,
            key: record.key.clone(),
            spread: record.key.is_none() && record.partition.is_none(),
            bytes: record.size(),
            selected,
        };
        Ok((selected_by, pending))
    }
}

/// The rule of the module, for one record: it comes to have its key and its partition as they are to be written. How many
/// partitions the topic has is asked only where a selector wants to know.
pub async fn decide<E>(
    record: &mut NewRecord,
    selector: Option<&dyn Selector>,
    partitions: impl Future<Output = Result<u32, E>>,
) -> Result<SelectedBy, SendError>
where
    SendError: From<E>,
{
    if record.partition.is_some() {
        return Ok(SelectedBy::Caller);
    }
    let Some(selector) = selector else {
        return Ok(if record.key.is_some() { SelectedBy::Caller } else { SelectedBy::Nobody });
    };
    let selection = selector.select(record, partitions.await?).await?;
    match selection.target {
        Target::Spread => record.key = None,
        Target::Key(key) => record.key = Some(key),
        Target::Partition(partition) => record.partition = Some(partition),
    }
    Ok(SelectedBy::Selector(selection.generation))
}
