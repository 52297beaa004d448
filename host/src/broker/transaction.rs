//! Transactions: records that become visible together, or never. A member's include the offsets of what they came of.

use async_trait::async_trait;

use super::{CommitError, ProduceError, Produced};
use crate::record::NewRecord;

/// Why a transaction was not committed, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactError {
    /// Another has what this one had: a partition of the offsets, or the transactional id. Whoever wrote this must not
    /// go on, and must not try it again.
    #[error("{0}")]
    Fenced(String),
    /// Nothing of it happened, because of these records, which would be refused again. The others are well.
    #[error("{}", refused(.0))]
    Refused(Vec<Refusal>),
    /// Nothing of it happened, and nothing will with metadata that long.
    #[error("the metadata of an offset is too long: {0}")]
    MetadataTooLong(String),
    /// Nothing of it happened, and nothing is wrong with it: later it may work.
    #[error("the transaction was aborted: {0}")]
    Aborted(String),
    /// Nothing of it happened, because it took longer than a transaction may: a smaller one may be in time.
    #[error("the transaction took too long and was aborted: {0}")]
    TimedOut(String),
    /// The connection broke, or the time was up, while it was being committed. What became of it is settled before
    /// anything that comes after it; what was committed can be read then.
    #[error("{0}; whether the transaction was committed is not known")]
    Indefinite(String),
}

/// A record that a transaction cannot be committed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which, from 0, in the order given.
    pub record: usize,
    /// Why.
    pub error: ProduceError,
}

fn refused(refusals: &[Refusal]) -> String {
    let first = refusals.first().map(|refusal| refusal.error.to_string()).unwrap_or_default();
    match refusals.len() {
        0 | 1 => format!("the transaction was aborted: {first}"),
        count => {
            format!("the transaction was aborted for {count} of its records, the first: {first}")
        }
    }
}

/// Writes transactions without offsets, in the name of a transactional id.
#[async_trait]
pub trait Transactions: Send {
    /// Writes records so that they become visible together, and waits until they are durable; tells where each went.
    /// Records of one partition are written in the order given. One more than Kafka's `transaction.timeout.ms` can
    /// take is aborted there, so a long list is better cut into several.
    async fn write(&mut self, records: Vec<NewRecord>) -> Result<Vec<Produced>, TransactError>;
}

impl From<CommitError> for TransactError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::NotOwned(_) => Self::Fenced(error.to_string()),
            CommitError::MetadataTooLong(reason) => Self::MetadataTooLong(reason),
            CommitError::Unavailable(reason) => Self::Aborted(reason),
        }
    }
}
