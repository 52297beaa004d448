//! The produce path, for callers and for handlers' output alike: the topic's key selector chooses, the broker writes.
//!
//! An explicit partition wins; else the topic's key selector decides (it sees the caller's key); else the caller's
//! key; else the record is spread. Owns no queue: the broker's is the bound.

use std::{collections::HashMap, future::Future, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::{
    broker::{Acknowledgement, Broker, BrokerError, ProduceError},
    handler::{Generation, SelectError, Selector, Target},
    record::NewRecord,
};

/// Key selectors, by the topic that they decide for.
pub type Selectors = HashMap<Arc<str>, Arc<dyn Selector>>;

/// Writes records, choosing where they go. Cheap to clone.
#[derive(Clone)]
pub struct Producer {
    broker: Arc<dyn Broker>,
    selectors: Arc<ArcSwap<Selectors>>,
}

/// A record on its way to the broker.
#[derive(Debug)]
pub struct Sent {
    /// Resolves when the record is durable.
    pub acknowledgement: Acknowledgement,
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
        Self { broker, selectors: Arc::new(ArcSwap::from_pointee(selectors)) }
    }

    /// Asks other selectors from the next record on, in every clone.
    pub fn set_selectors(&self, selectors: Selectors) {
        self.selectors.store(Arc::new(selectors));
    }

    /// Chooses where the record goes and hands it to the broker. The acknowledgement is still to be waited for.
    pub async fn send(&self, mut record: NewRecord) -> Result<Sent, SendError> {
        let selected_by = self.choose(&mut record).await?;
        let topic = record.topic.clone();
        let key = record.key.clone();
        let acknowledgement = self.broker.produce(record);
        Ok(Sent { acknowledgement, topic, key, selected_by })
    }

    /// Chooses where the record goes, and leaves it at that: it comes to have its key and its partition as they are to be
    /// written.
    pub async fn choose(&self, record: &mut NewRecord) -> Result<SelectedBy, SendError> {
        let selector = self.selectors.load().get(&record.topic).cloned();
        let topic = record.topic.clone();
        let partitions = async {
            self.broker.partitions(&topic).await.map_err(|error| match error {
                BrokerError::UnknownTopic(_) => ProduceError::UnknownTopic { topic: topic.clone() },
                other => ProduceError::Unavailable { reason: other.to_string() },
            })
        };
        decide(record, selector.as_deref(), partitions).await
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
