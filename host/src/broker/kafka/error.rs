//! librdkafka's error codes in the words of the port.

use std::sync::Arc;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::broker::{BrokerError, CommitError, ProduceError, TransactError};

/// Which record an error is about.
pub(super) struct About<'a> {
    pub(super) topic: &'a Arc<str>,
    /// The partition that was asked for, if one was.
    pub(super) partition: Option<u32>,
    /// How many partitions the topic has, as last seen.
    pub(super) partitions: u32,
    /// Bytes of key, value and headers.
    pub(super) size: usize,
}

/// An error of a record that was *not* handed over: it cannot have been written.
pub(super) fn not_sent(error: &KafkaError, about: &About<'_>) -> ProduceError {
    refusal(error, about).unwrap_or_else(|| ProduceError::Unavailable {
        reason: match error.rdkafka_error_code() {
            Some(Code::QueueFull) => {
                "too many records wait for Kafka to acknowledge them".to_owned()
            }
            _ => format!("Kafka cannot be written to: {}", text(error)),
        },
    })
}

/// An error of a record that was handed over. `never_sent`: there was no connection all the while.
pub(super) fn not_delivered(
    error: &KafkaError,
    about: &About<'_>,
    never_sent: bool,
) -> ProduceError {
    if let Some(refusal) = refusal(error, about) {
        return refusal;
    }
    let reason = match error.rdkafka_error_code() {
        Some(Code::MessageTimedOut) => "Kafka did not acknowledge the record in time".to_owned(),
        _ => format!("Kafka did not acknowledge the record: {}", text(error)),
    };
    match error.rdkafka_error_code() {
        // The broker answers this before it writes.
        Some(Code::NotEnoughReplicas) => ProduceError::Unavailable { reason },
        Some(Code::MessageTimedOut | Code::PurgeQueue) if never_sent => {
            ProduceError::Unavailable { reason: "no Kafka broker can be reached".into() }
        }
        _ => ProduceError::Indefinite { reason },
    }
}

/// Errors that say that the record was not written, and why it would not be the next time either.
fn refusal(error: &KafkaError, about: &About<'_>) -> Option<ProduceError> {
    let topic = about.topic.clone();
    Some(match error.rdkafka_error_code()? {
        Code::UnknownTopic | Code::UnknownTopicOrPartition => ProduceError::UnknownTopic { topic },
        Code::UnknownPartition => ProduceError::UnknownPartition {
            topic,
            partition: about.partition.unwrap_or_default(),
            partitions: about.partitions,
        },
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
            ProduceError::TooLarge { size: about.size, limit: 0 }
        }
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::InvalidTopic
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::InvalidMessage
        | Code::UnsupportedForMessageFormat
        | Code::PolicyViolation => ProduceError::Refused { reason: text(error) },
        _ => return None,
    })
}

/// Why a commit did not happen.
pub(super) fn commit(error: &KafkaError) -> CommitError {
    match error.rdkafka_error_code() {
        Some(
            Code::UnknownMemberId | Code::FencedInstanceId | Code::AssignmentLost | Code::Fenced,
        ) => CommitError::NotOwned(text(error)),
        Some(Code::OffsetMetadataTooLarge) => CommitError::MetadataTooLong(text(error)),
        // `IllegalGeneration` too: the commit crossed a rebalance in which the partition may well have stayed. Where it
        // did not, a `Lost` follows.
        _ => CommitError::Unavailable(format!("Kafka did not take the commit: {}", text(error))),
    }
}

/// Why a transaction came to nothing, of which no commit had been asked for yet.
pub(super) fn transaction(error: &KafkaError) -> TransactError {
    match error.rdkafka_error_code() {
        Some(
            Code::UnknownMemberId
            | Code::FencedInstanceId
            | Code::FencedMemberEpoch
            | Code::AssignmentLost,
        ) => TransactError::Fenced(text(error)),
        Some(Code::OffsetMetadataTooLarge) => TransactError::MetadataTooLong(text(error)),
        // `IllegalGeneration` too, as with a commit.
        _ => TransactError::Aborted(text(error)),
    }
}

/// Whether a transactional producer was fenced: by another with the same id, or by Kafka when a transaction took too long.
pub(super) fn is_fenced(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
    )
}

/// Why a question was not answered.
pub(super) fn query(what: &str, error: &KafkaError) -> BrokerError {
    let message = format!("{what}: {}", text(error));
    match error.rdkafka_error_code() {
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication
            | Code::PolicyViolation
            | Code::InvalidReplicationFactor
            | Code::InvalidTopic
            | Code::InvalidPartitions
            | Code::InvalidConfig
            | Code::InvalidGroupId,
        ) => BrokerError::Fatal(message),
        _ => BrokerError::Unavailable(message),
    }
}

/// A client that cannot even be made: a property that librdkafka does not know, or a value it does not take.
pub(super) fn client(error: KafkaError) -> BrokerError {
    BrokerError::Fatal(match error {
        KafkaError::ClientConfig(_, reason, name, value) => {
            format!("Kafka property {name:?} = {value:?}: {reason}")
        }
        KafkaError::ClientCreation(reason) => format!("Kafka client: {reason}"),
        other => format!("Kafka client: {other}"),
    })
}

/// The error in librdkafka's words, without its type names.
pub(super) fn text(error: &KafkaError) -> String {
    match error {
        KafkaError::Subscription(reason)
        | KafkaError::Seek(reason)
        | KafkaError::PauseResume(reason) => reason.clone(),
        KafkaError::Transaction(error) => error.string(),
        other => match other.rdkafka_error_code() {
            Some(code) => code.to_string(),
            None => other.to_string(),
        },
    }
}
