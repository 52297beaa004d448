//! Topics and partitions as callers write them, in a body or in a query.

use std::sync::Arc;

use super::problem::{Code, Problem};

/// The longest name that Kafka gives a topic.
const TOPIC_LENGTH: usize = 249;
/// Kafka numbers partitions with 31 bits.
const LAST_PARTITION: u32 = i32::MAX as u32;

/// What is said of a name that [`is_topic_name`] rejects.
pub(super) const TOPIC_RULE: &str =
    "a topic's name is 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-'";

/// Whether Kafka takes this as the name of a topic.
pub(super) fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=TOPIC_LENGTH).contains(&name.len())
        && name.bytes().all(legal)
        && !matches!(name, "." | "..")
}

/// The partition that `text` numbers, if there can be one.
pub(super) fn partition_number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|partition| *partition <= LAST_PARTITION)
}

/// The topic by its name, without a copy where it is the default.
pub(super) fn topic_or_default(
    given: Option<&str>,
    default_topic: Option<&Arc<str>>,
) -> Result<Arc<str>, Problem> {
    match (given, default_topic) {
        (Some(name), Some(default)) if *name == **default => Ok(default.clone()),
        (Some(name), _) => Ok(name.into()),
        (None, Some(default)) => Ok(default.clone()),
        (None, None) => Err(Problem::new(
            Code::NoTopic,
            "the record names no topic, and no default-topic is configured under [http]",
        )),
    }
}
