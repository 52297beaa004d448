//! `POST /send-message`: one record, answered once the broker has it.
//!
//! A JSON body is the record. A body of `text/plain` or `application/octet-stream` is the record's value as it is;
//! `topic`, `key` and `partition` then come in the query.

use std::pin::pin;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response,
    body::Incoming,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue},
    http::request::Parts,
};
use percent_encoding::percent_decode_str;
use serde::{Serialize, Serializer};
use tokio::time::sleep;

use super::{
    body::{self, Ticket},
    gateway::Gateway,
    json,
    names::{TOPIC_RULE, is_topic_name, partition_number, topic_or_default},
    problem::{Code, Problem},
};
use crate::{broker::ProduceError, produce::SelectedBy, record::NewRecord};

/// What a body may be.
pub(super) const MEDIA_TYPES: &str = "application/json, text/plain, application/octet-stream";

pub(super) async fn handle(
    gateway: &Gateway,
    head: &Parts,
    body: &mut Incoming,
    ticket: &mut Ticket<'_>,
) -> Result<Response<Full<Bytes>>, Problem> {
    let encoding =
        head.headers.get(CONTENT_ENCODING).map_or(&b"identity"[..], HeaderValue::as_bytes);
    if !encoding.eq_ignore_ascii_case(b"identity") {
        let encoding = String::from_utf8_lossy(encoding);
        let detail = format!("the body is compressed ({encoding}); send it as it is");
        return Err(Problem::new(Code::UnsupportedEncoding, detail));
    }
    let format = Format::of(head.headers.get(CONTENT_TYPE))?;
    let query = Query::parse(head.uri.query().unwrap_or_default())?;
    let record = match format {
        Format::Json if query != Query::default() => {
            let detail = "the record is JSON, and its topic, key and partition are fields of it";
            return Err(Problem::new(Code::UnknownParameter, detail));
        }
        Format::Json => {
            let body = body::read(body, gateway.limits.body, ticket).await?;
            json::parse(&body, gateway.default_topic.load().as_deref())?
        }
        Format::Raw => {
            let default_topic = gateway.default_topic.load_full();
            let topic = topic_or_default(query.topic.as_deref(), default_topic.as_deref())?;
            let value = body::read(body, gateway.limits.body, ticket).await?;
            let mut record = NewRecord::new(topic, value);
            record.key = query.key.map(Bytes::from);
            record.partition = query.partition;
            record
        }
    };
    write(gateway, record).await
}

/// Writes the record and answers once it is durable.
async fn write(gateway: &Gateway, record: NewRecord) -> Result<Response<Full<Bytes>>, Problem> {
    let mut deadline = pin!(sleep(gateway.limits.answer));
    let sent = tokio::select! {
        biased;
        sent = gateway.producer.send(record) => sent?,
        () = &mut deadline => {
            let reason = "the key selector did not decide in time".into();
            return Err(ProduceError::Unavailable { reason }.into());
        }
    };
    let produced = tokio::select! {
        biased;
        produced = sent.acknowledgement => produced?,
        () = &mut deadline => {
            let reason = "the broker did not answer in time".into();
            return Err(ProduceError::Indefinite { reason }.into());
        }
    };
    Ok(Receipt {
        topic: &sent.topic,
        partition: produced.partition,
        offset: produced.offset,
        timestamp: produced.timestamp,
        key: sent.key.as_deref().map(Key::from),
        selected_by: &sent.selected_by,
    }
    .response())
}

/// What the value of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// What the body says it is.
    Json,
    /// The body.
    Raw,
}

impl Format {
    fn of(content_type: Option<&HeaderValue>) -> Result<Self, Problem> {
        let unsupported = |detail: String| {
            let detail = format!("{detail}; {MEDIA_TYPES} are taken");
            Err(Problem::new(Code::UnsupportedMediaType, detail))
        };
        let Some(content_type) = content_type else {
            return unsupported("there is no Content-Type".into());
        };
        let content_type = String::from_utf8_lossy(content_type.as_bytes());
        let (media_type, parameters) = content_type.split_once(';').unwrap_or((&content_type, ""));
        match media_type.trim().to_ascii_lowercase().as_str() {
            "application/json" if is_utf_8(parameters) => Ok(Self::Json),
            "application/json" => unsupported(format!("JSON is UTF-8, not {content_type}")),
            "text/plain" | "application/octet-stream" => Ok(Self::Raw),
            "application/x-www-form-urlencoded" => unsupported(
                "the body is called a form, as curl -d does unless it is told otherwise: \
                 add -H 'Content-Type: application/json'"
                    .into(),
            ),
            _ => unsupported(format!("the body is {content_type}")),
        }
    }
}

fn is_utf_8(parameters: &str) -> bool {
    parameters.split(';').filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset")
            || ["utf-8", "utf8", "us-ascii"].iter().any(|set| value.eq_ignore_ascii_case(set))
    })
}

/// What the query says of a record whose value is the body.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    topic: Option<String>,
    key: Option<Vec<u8>>,
    partition: Option<u32>,
}

impl Query {
    fn parse(text: &str) -> Result<Self, Problem> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let invalid =
                |detail: &str| Problem::new(Code::InvalidParameter, detail).parameter(name);
            // As forms and URLSearchParams write it: a plus sign is a space.
            let value: Vec<u8> = percent_decode_str(&value.replace('+', " ")).collect();
            let repeated = match name {
                "topic" => {
                    let topic = String::from_utf8(value).ok().filter(|name| is_topic_name(name));
                    query.topic.replace(topic.ok_or_else(|| invalid(TOPIC_RULE))?).is_some()
                }
                "key" => query.key.replace(value).is_some(),
                "partition" => {
                    let text = std::str::from_utf8(&value).ok();
                    let partition = text.and_then(partition_number);
                    let rule = "a partition is a whole number from 0 on";
                    query.partition.replace(partition.ok_or_else(|| invalid(rule))?).is_some()
                }
                _ => {
                    let detail = format!("there is no {name:?}; there are topic, key, partition");
                    return Err(Problem::new(Code::UnknownParameter, detail).parameter(name));
                }
            };
            if repeated {
                return Err(invalid("it is there twice"));
            }
        }
        Ok(query)
    }
}

/// What is answered of a record that was written.
#[derive(Serialize)]
struct Receipt<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
    timestamp: u64,
    key: Option<Key<'a>>,
    #[serde(serialize_with = "selected_by")]
    selected_by: &'a SelectedBy,
}

impl Receipt<'_> {
    fn response(&self) -> Response<Full<Bytes>> {
        let mut body = Vec::with_capacity(192);
        serde_json::to_writer(&mut body, self).expect("texts and numbers are JSON");
        let mut response = Response::new(Full::from(body));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Key<'a> {
    Text(&'a str),
    Bytes { base64: String },
}

impl<'a> From<&'a [u8]> for Key<'a> {
    fn from(key: &'a [u8]) -> Self {
        match std::str::from_utf8(key) {
            Ok(text) => Self::Text(text),
            Err(_) => Self::Bytes { base64: BASE64_STANDARD.encode(key) },
        }
    }
}

fn selected_by<S: Serializer>(by: &SelectedBy, serializer: S) -> Result<S::Ok, S::Error> {
    match by {
        SelectedBy::Caller => serializer.serialize_str("caller"),
        SelectedBy::Nobody => serializer.serialize_str("none"),
        SelectedBy::Selector(generation) => serializer.collect_str(generation),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;

    fn format(content_type: &'static str) -> Result<Format, Code> {
        Format::of(Some(&HeaderValue::from_static(content_type))).map_err(|problem| problem.code)
    }

    #[test]
    fn the_media_type_says_how_a_body_is_read() {
        for (content_type, expected) in [
            ("application/json", Ok(Format::Json)),
            ("Application/JSON ; Charset=\"UTF-8\"", Ok(Format::Json)),
            ("application/json; charset=utf-16", Err(Code::UnsupportedMediaType)),
            ("text/plain", Ok(Format::Raw)),
            ("text/plain; charset=iso-8859-1", Ok(Format::Raw)),
            ("application/octet-stream", Ok(Format::Raw)),
            ("application/x-www-form-urlencoded", Err(Code::UnsupportedMediaType)),
            ("application/x-ndjson", Err(Code::UnsupportedMediaType)),
            ("application/cloudevents+json", Err(Code::UnsupportedMediaType)),
            ("", Err(Code::UnsupportedMediaType)),
        ] {
            assert_eq!(format(content_type), expected, "{content_type}");
        }
        assert_eq!(Format::of(None).unwrap_err().code, Code::UnsupportedMediaType);
    }

    #[test]
    fn a_query_gives_topic_key_and_partition() {
        let query = Query::parse("topic=t&key=a%2Bb+c%ff&&partition=3").unwrap();
        let key = Some(b"a+b c\xff".to_vec());
        assert_eq!(query, Query { topic: Some("t".into()), key, partition: Some(3) });
        assert_eq!(Query::parse("").unwrap(), Query::default());
        assert_eq!(Query::parse("key=").unwrap().key, Some(Vec::new()));
    }

    #[test]
    fn a_wrong_query_is_told_by_parameter() {
        for (text, code, parameter) in [
            ("partitoin=1", Code::UnknownParameter, "partitoin"),
            ("partition=-1", Code::InvalidParameter, "partition"),
            ("partition=", Code::InvalidParameter, "partition"),
            ("partition=2147483648", Code::InvalidParameter, "partition"),
            ("topic=", Code::InvalidParameter, "topic"),
            ("topic=a%20b", Code::InvalidParameter, "topic"),
            ("topic=%ff", Code::InvalidParameter, "topic"),
            ("key=a&key=a", Code::InvalidParameter, "key"),
        ] {
            let problem = Query::parse(text).unwrap_err();
            assert_eq!(problem.code, code, "{text}");
            assert_eq!(problem.more.parameter.as_deref(), Some(parameter), "{text}");
        }
    }

    #[test]
    fn a_key_that_is_not_utf_8_is_shown_in_base64() {
        let shown = |key: &[u8]| serde_json::to_string(&Key::from(key)).unwrap();
        assert_eq!(shown(b"k\"\n"), r#""k\"\n""#);
        assert_eq!(shown(b"\xff\x00"), r#"{"base64":"/wA="}"#);
    }
}
