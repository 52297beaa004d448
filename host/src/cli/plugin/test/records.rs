//! Records for a test, one as JSON on each line: what `/send-message` takes, and what the gateway shows of records. Pure.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, MapAccess, SeqAccess, Visitor},
};

use super::data::Data;
use crate::{
    handler::Delivery,
    record::{self, Record},
};

/// Wrong lines that are told at once.
const WRONG: usize = 10;

/// A line of the file. Of what is not there, the topic is empty, the partition 0, the offset the record's number from 0.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    topic: Option<String>,
    partition: Option<u32>,
    offset: Option<u64>,
    timestamp: Option<u64>,
    key: Option<Data>,
    /// Has to be there; a tombstone is `null`.
    #[serde(deserialize_with = "nullable")]
    value: Option<Data>,
    #[serde(default)]
    headers: Headers,
    attempt: Option<u32>,
}

/// One header, as the gateway shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) key: String,
    pub(super) value: Option<Data>,
}

#[derive(Default)]
struct Headers(Vec<Header>);

/// Reads what stands in the file `name`. Empty lines are none.
///
/// # Errors
/// Every line that is wrong, the first ten, each with its place.
pub(super) fn parse(text: &str, name: &str) -> Result<Vec<Delivery>, String> {
    let (mut records, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in lines(text) {
        match read::<Line>(line, name, number) {
            Ok(line) => {
                let offset = records.len() as u64;
                records.push(line.delivery(offset));
            }
            Err(error) => wrong.push(error),
        }
    }
    if wrong.is_empty() {
        return Ok(records);
    }
    let more = wrong.len().saturating_sub(WRONG);
    wrong.truncate(WRONG);
    if more > 0 {
        wrong.push(format!("and {more} more"));
    }
    Err(wrong.join("\n"))
}

/// The lines with something on them, and their numbers from 1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty())
}

/// Reads one line of a file, which is an object.
///
/// # Errors
/// What is wrong with it, and where.
pub(super) fn read<T: DeserializeOwned>(
    line: &str,
    name: &str,
    number: usize,
) -> Result<T, String> {
    if !line.trim_start().starts_with('{') {
        return Err(format!("{name}:{number}: not an object: begin the line with {{"));
    }
    serde_json::from_str(line).map_err(|error| {
        let text = error.to_string();
        let text = text.rsplit_once(" at line ").map_or(&*text, |(text, _place)| text);
        format!("{name}:{number}:{}: {text}", error.column())
    })
}

fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Data>, D::Error> {
    Option::deserialize(deserializer)
}

impl Line {
    fn delivery(self, number: u64) -> Delivery {
        let header = |Header { key, value }: Header| record::Header {
            key,
            value: value.map(|Data(bytes)| bytes),
        };
        let record = Record {
            topic: self.topic.unwrap_or_default().into(),
            partition: self.partition.unwrap_or(0),
            offset: self.offset.unwrap_or(number),
            timestamp: self.timestamp,
            key: self.key.map(|Data(bytes)| bytes),
            value: self.value.map(|Data(bytes)| bytes),
            headers: self.headers.0.into_iter().map(header).collect(),
        };
        Delivery { record, attempt: self.attempt.unwrap_or(1) }
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"headers as {"NAME": "VALUE"} or [{"key": "NAME", "value": "VALUE"}]"#)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Headers, A::Error> {
        let mut headers = Vec::new();
        while let Some(header) = seq.next_element()? {
            headers.push(header);
        }
        Ok(Headers(headers))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
        let mut headers = Vec::new();
        while let Some((key, value)) = map.next_entry()? {
            headers.push(Header { key, value });
        }
        Ok(Headers(headers))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Headers, E> {
        Ok(Headers::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Delivery>, String> {
        parse(text, "records.jsonl")
    }

    #[test]
    fn what_a_record_does_not_say_is_filled_in() {
        let records = parsed("{\"value\": 1}\n\n  {\"value\": null, \"key\": \"k\"}\r\n").unwrap();
        let [first, second] = &records[..] else { panic!("{records:?}") };
        assert_eq!((&*first.record.topic, first.record.partition, first.record.offset), ("", 0, 0));
        assert_eq!((first.record.value.as_deref(), first.attempt), (Some(&b"1"[..]), 1));
        assert_eq!(second.record.offset, 1);
        assert_eq!(
            (second.record.value.as_deref(), second.record.key.as_deref()),
            (None, Some(&b"k"[..]))
        );
    }

    #[test]
    fn a_record_is_taken_as_the_gateway_shows_it_and_as_it_is_sent() {
        let shown = r#"{"topic":"x","partition":2,"offset":40,"timestamp":7,"key":"k","value":{"base64":"/w=="},
            "headers":[{"key":"a","value":"b"},{"key":"a","value":null}],"attempt":3}"#;
        let records = parsed(&shown.replace('\n', " ")).unwrap();
        let Delivery { record, attempt: 3 } = &records[0] else { panic!("{records:?}") };
        assert_eq!((record.place().to_string(), record.timestamp), ("x/2@40".to_owned(), Some(7)));
        assert_eq!(record.value.as_deref(), Some(&[0xff][..]));
        let header = |value: Option<&str>| record::Header {
            key: "a".into(),
            value: value.map(|value| value.to_owned().into()),
        };
        assert_eq!(record.headers, [header(Some("b")), header(None)]);
        let sent = parsed(r#"{"value": "v", "headers": {"a": "b"}}"#).unwrap();
        assert_eq!(sent[0].record.headers, [header(Some("b"))]);
    }

    #[test]
    fn every_wrong_line_is_told_with_its_place() {
        let error = parsed(
            "{\"value\": 1}\n{\"value\": }\n{\"vlaue\": 1}\n{}\n{\"value\": 1, \"headers\": 3}",
        )
        .unwrap_err();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines.len(), 4, "{error}");
        assert_eq!(lines[0], "records.jsonl:2:11: expected value");
        assert!(
            lines[1]
                .starts_with("records.jsonl:3:8: unknown field `vlaue`, expected one of `topic`"),
            "{error}"
        );
        assert_eq!(lines[2], "records.jsonl:4:2: missing field `value`");
        assert!(lines[3].contains("expected headers as {\"NAME\": \"VALUE\"}"), "{error}");
        assert_eq!(
            parsed("[1]").unwrap_err(),
            "records.jsonl:1: not an object: begin the line with {"
        );
        let many = parsed(&"x\n".repeat(12)).unwrap_err();
        assert!(many.ends_with("\nand 2 more"), "{many}");
    }
}
