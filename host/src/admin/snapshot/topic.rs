//! Topics, and a look at their records.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{PluginGeneration, Skew, View, skew};
use crate::{broker::TopicInfo, produce, record};

/// A topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
    /// What decides keys and partitions of its records; `null`: the caller.
    pub key_selector: Option<PluginGeneration>,
    /// How the records are shared out that this process has written to it in the last one to two minutes; `null`: none.
    #[serde(default)] // not in the answers of older gateways
    pub skew: Option<Skew>,
}

/// The two ends of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its number.
    pub partition: u32,
    /// The offset of the oldest record that is still there.
    pub beginning_offset: u64,
    /// The offset that the next record will get.
    pub end_offset: u64,
}

/// Records of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// In offset order.
    pub records: Vec<Record>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// The key; `null` when it has none.
    pub key: Option<Payload>,
    /// The value; `null` is a tombstone.
    pub value: Option<Payload>,
    /// Headers in order.
    pub headers: Vec<Header>,
}

/// A header of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: Option<Payload>,
}

/// Bytes: a string where they are UTF-8, `{"base64": "..."}` where they are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Payload {
    /// They are UTF-8.
    Text(String),
    /// They are not.
    Binary {
        /// In standard base64, with padding.
        base64: String,
    },
}

impl From<&Bytes> for Payload {
    fn from(bytes: &Bytes) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Binary { base64: BASE64_STANDARD.encode(bytes) },
        }
    }
}

impl Payload {
    /// The bytes; an error where what says that it is base64 is not.
    ///
    /// # Errors
    /// What is wrong with the base64.
    pub fn bytes(self) -> Result<Bytes, base64::DecodeError> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Binary { base64 } => BASE64_STANDARD.decode(base64).map(Bytes::from),
        }
    }
}

/// A topic, with the key selector that the view's configuration gives it, and how its records are shared out, where that is
/// known.
pub fn topic(info: &TopicInfo, view: &View, skew: Option<&produce::Skew>) -> Topic {
    let partitions = (0..).zip(&info.partitions).map(|(partition, offsets)| Partition {
        partition,
        beginning_offset: offsets.beginning,
        end_offset: offsets.end,
    });
    Topic {
        name: info.name.to_string(),
        partitions: partitions.collect(),
        key_selector: key_selector(&info.name, view),
        skew: skew.and_then(|skew| skew::skew(skew, info.partitions.len())),
    }
}

fn key_selector(topic: &Arc<str>, view: &View) -> Option<PluginGeneration> {
    let configured = view.config.topics.iter().find(|configured| configured.name == *topic)?;
    Some(view.plugin_generation(&configured.key_selector.as_ref()?.plugin))
}

/// A record as it is shown.
pub fn record(record: &record::Record) -> Record {
    let payload = |bytes: &Option<Bytes>| bytes.as_ref().map(Payload::from);
    Record {
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: payload(&record.key),
        value: payload(&record.value),
        headers: headers(&record.headers),
    }
}

/// Headers as they are shown.
pub(super) fn headers(headers: &[record::Header]) -> Vec<Header> {
    let shown = |header: &record::Header| Header {
        key: header.key.clone(),
        value: header.value.as_ref().map(Payload::from),
    };
    headers.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::example, *};

    #[test]
    fn a_topic_has_the_shape_that_the_interface_promises() {
        let json = serde_json::to_value(topic(
            &example::my_topic(),
            &example::view(),
            Some(&example::skew()),
        ))
        .unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "name": "my-topic",
                "partitions": [
                    {"partition": 0, "beginning_offset": 0, "end_offset": 42},
                    {"partition": 1, "beginning_offset": 5, "end_offset": 7},
                    {"partition": 2, "beginning_offset": 0, "end_offset": 0},
                ],
                "key_selector": {"plugin": "json-key", "generation": "0b0b0b0b0b0b"},
                "skew": {
                    "records": 200,
                    "bytes": 2000,
                    "partitions": [
                        {"partition": 0, "records": 180, "bytes": 1800, "percent": 90.0},
                        {"partition": 1, "records": 20, "bytes": 200, "percent": 10.0},
                        {"partition": 2, "records": 0, "bytes": 0, "percent": 0.0},
                    ],
                    "hottest": [{"key": "ada", "records": 150, "at_least": 140}],
                    "hottest_of_callers": [{"key": "k", "records": 200, "at_least": 200}],
                    "warning": {"partition": 0, "percent": 90.0},
                },
            })
        );
    }

    #[test]
    fn bytes_that_are_no_text_come_as_base64_and_absent_ones_as_null() {
        let shown = record(&record::Record {
            topic: "t".into(),
            partition: 0,
            offset: 40,
            timestamp: Some(1_700_000_000_000),
            key: Some(Bytes::from_static(b"")),
            value: Some(Bytes::from_static(&[0xff, 0x00])),
            headers: vec![record::Header { key: "a".into(), value: None }],
        });
        assert_eq!(
            serde_json::to_value(shown).unwrap(),
            serde_json::json!({
                "partition": 0, "offset": 40, "timestamp": 1_700_000_000_000_u64, "key": "",
                "value": {"base64": "/wA="}, "headers": [{"key": "a", "value": null}],
            })
        );
    }
}
