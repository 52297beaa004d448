//! Everything that can be wrong with a request, as RFC 9457 problem documents.
//!
//! One table gives each [`Code`] its text, status and title; `type` is `urn:keyway:problem:CODE`. Codes are for
//! programs and never change their meaning; `detail` is for people and may. What else a document has, where it
//! applies: `field` (a JSON pointer into the body), `line` and `column` (from 1, in bytes), `parameter` (of the
//! query), `limit` (bytes, or a count), `partitions` (of the topic).

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use serde::Serialize;

use super::{
    gateway::{ACCEPT_POST, METHODS},
    send_message::MEDIA_TYPES,
};
use crate::{broker::ProduceError, handler::SelectError, produce::SendError};

/// What kind of problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The body is not JSON, or not UTF-8.
    MalformedJson,
    /// The record has a field that records do not have.
    UnknownField,
    /// A field is there twice.
    DuplicateField,
    /// A field that must be there is not.
    MissingField,
    /// A field is of a wrong type or out of its range.
    InvalidField,
    /// The query has a parameter that this route does not take.
    UnknownParameter,
    /// A parameter of the query is there twice or out of its range.
    InvalidParameter,
    /// The record names no topic and there is no `default-topic`.
    NoTopic,
    /// The topic has no such partition.
    UnknownPartition,
    /// The body ended before its end, or its chunks are malformed.
    IncompleteBody,
    /// There is nothing at this path.
    UnknownRoute,
    /// There is no such topic.
    UnknownTopic,
    /// There is something at this path, for another method.
    WrongMethod,
    /// The body took too long to arrive.
    SlowBody,
    /// The body is larger than any may be.
    BodyTooLarge,
    /// The record is larger than the broker takes.
    RecordTooLarge,
    /// The body is of a type, or in a character set, that this route does not take.
    UnsupportedMediaType,
    /// The body is compressed.
    UnsupportedEncoding,
    /// The topic's key selector refuses the record; the detail is its own text.
    RefusedBySelector,
    /// The broker refuses the record, and would again.
    RefusedByBroker,
    /// The topic's key selector broke, or chose a partition that is not there.
    SelectorFailed,
    /// As many connections as are allowed are open.
    TooManyConnections,
    /// As many requests, or bytes of them, as are allowed are in flight. The record was not written.
    Busy,
    /// The broker cannot take the record now. It was not written.
    BrokerUnavailable,
    /// The broker did not say in time whether it has the record: sending it again may write it twice.
    OutcomeUnknown,
}

use Code::*;

const TABLE: [(Code, &str, StatusCode, &str); 25] = [
    (MalformedJson, "malformed-json", StatusCode::BAD_REQUEST, "The body is not JSON"),
    (UnknownField, "unknown-field", StatusCode::BAD_REQUEST, "A field is unknown"),
    (DuplicateField, "duplicate-field", StatusCode::BAD_REQUEST, "A field is there twice"),
    (MissingField, "missing-field", StatusCode::BAD_REQUEST, "A field is missing"),
    (InvalidField, "invalid-field", StatusCode::BAD_REQUEST, "A field is wrong"),
    (UnknownParameter, "unknown-parameter", StatusCode::BAD_REQUEST, "A parameter is unknown"),
    (InvalidParameter, "invalid-parameter", StatusCode::BAD_REQUEST, "A parameter is wrong"),
    (NoTopic, "no-topic", StatusCode::BAD_REQUEST, "The record has no topic"),
    (UnknownPartition, "unknown-partition", StatusCode::BAD_REQUEST, "There is no such partition"),
    (IncompleteBody, "incomplete-body", StatusCode::BAD_REQUEST, "The body is incomplete"),
    (UnknownRoute, "unknown-route", StatusCode::NOT_FOUND, "There is nothing here"),
    (UnknownTopic, "unknown-topic", StatusCode::NOT_FOUND, "There is no such topic"),
    (WrongMethod, "wrong-method", StatusCode::METHOD_NOT_ALLOWED, "Another method is needed"),
    (SlowBody, "slow-body", StatusCode::REQUEST_TIMEOUT, "The body took too long"),
    (BodyTooLarge, "body-too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"),
    (RecordTooLarge, "record-too-large", StatusCode::PAYLOAD_TOO_LARGE, "The record is too large"),
    (
        UnsupportedMediaType,
        "unsupported-media-type",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The body is of a type that is not taken",
    ),
    (
        UnsupportedEncoding,
        "unsupported-encoding",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "Compressed bodies are not taken",
    ),
    (
        RefusedBySelector,
        "refused-by-selector",
        StatusCode::UNPROCESSABLE_ENTITY,
        "The key selector refused the record",
    ),
    (
        RefusedByBroker,
        "refused-by-broker",
        StatusCode::UNPROCESSABLE_ENTITY,
        "The broker refused the record",
    ),
    (
        SelectorFailed,
        "selector-failed",
        StatusCode::INTERNAL_SERVER_ERROR,
        "The key selector failed",
    ),
    (
        TooManyConnections,
        "too-many-connections",
        StatusCode::SERVICE_UNAVAILABLE,
        "There are too many connections",
    ),
    (Busy, "busy", StatusCode::SERVICE_UNAVAILABLE, "The gateway is busy"),
    (
        BrokerUnavailable,
        "broker-unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "The broker is not available",
    ),
    (
        OutcomeUnknown,
        "outcome-unknown",
        StatusCode::SERVICE_UNAVAILABLE,
        "Whether the record was written is not known",
    ),
];

impl Code {
    /// How programs know it: the last part of `type`, and the member `code`.
    pub fn text(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// The status it is answered with.
    pub fn status(self) -> StatusCode {
        TABLE[self as usize].2
    }

    /// The header that tells a client what would do.
    fn remedy(self) -> Option<(HeaderName, &'static str)> {
        match self {
            WrongMethod => Some((header::ALLOW, METHODS)),
            UnsupportedMediaType => Some((ACCEPT_POST, MEDIA_TYPES)),
            UnsupportedEncoding => Some((header::ACCEPT_ENCODING, "identity")),
            TooManyConnections | Busy | BrokerUnavailable | OutcomeUnknown => {
                Some((header::RETRY_AFTER, "1"))
            }
            _ => None,
        }
    }
}

/// One problem document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: Code,
    pub(super) detail: String,
    /// Boxed: problems are rare, and a small error keeps every `Result` small.
    pub(super) more: Box<More>,
}

/// What a document has beside the members that all have.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct More {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parameter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) partitions: Option<u32>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(flatten)]
    more: &'a More,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), more: Box::default() }
    }

    /// The place `at` bytes into `body`.
    pub(super) fn at(mut self, body: &[u8], at: usize) -> Self {
        let before = &body[..at.min(body.len())];
        let line_start =
            before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        self.more.line = Some(1 + before.iter().filter(|byte| **byte == b'\n').count());
        self.more.column = Some(1 + before.len() - line_start);
        self
    }

    /// The field that a JSON pointer leads to.
    pub(super) fn field(mut self, pointer: &str) -> Self {
        self.more.field = Some(pointer.into());
        self
    }

    pub(super) fn parameter(mut self, name: &str) -> Self {
        self.more.parameter = Some(name.into());
        self
    }

    pub(super) fn limit(mut self, limit: usize) -> Self {
        self.more.limit = Some(limit);
        self
    }

    /// The document itself.
    pub(super) fn document(&self) -> Vec<u8> {
        let (_, code, status, title) = TABLE[self.code as usize];
        let document = Document {
            r#type: format!("urn:keyway:problem:{code}"),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            code,
            more: &self.more,
        };
        serde_json::to_vec(&document).expect("a document of texts and numbers is JSON")
    }

    /// The answer that carries it.
    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.document()));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some((name, value)) = self.code.remedy() {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<SendError> for Problem {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Select(error) => error.into(),
            SendError::Produce(error) => error.into(),
        }
    }
}

impl From<SelectError> for Problem {
    fn from(error: SelectError) -> Self {
        let code = match &error {
            SelectError::Refused { .. } => RefusedBySelector,
            SelectError::Busy => Busy,

            SelectError::Failed { .. } | SelectError::ImpossiblePartition { .. } => SelectorFailed,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ProduceError> for Problem {
    fn from(error: ProduceError) -> Self {
        let detail = error.to_string();
        match error {
            ProduceError::UnknownTopic { .. } => Self::new(UnknownTopic, detail),
            ProduceError::UnknownPartition { partitions, .. } => {
                let mut problem = Self::new(UnknownPartition, detail);
                problem.more.partitions = Some(partitions);
                problem
            }
            ProduceError::TooLarge { size, limit: 0 } => Self::new(
                RecordTooLarge,
                format!("the record is {size} bytes, more than the broker takes"),
            ),
            ProduceError::TooLarge { limit, .. } => Self::new(RecordTooLarge, detail).limit(limit),
            ProduceError::Unavailable { .. } => Self::new(BrokerUnavailable, detail),
            ProduceError::Indefinite { .. } => {
                Self::new(OutcomeUnknown, format!("{detail}: sending it again may write it twice"))
            }
            ProduceError::Refused { .. } => Self::new(RefusedByBroker, detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_code_has_its_own_row_and_text() {
        for (index, (code, text, status, title)) in TABLE.iter().enumerate() {
            assert_eq!(*code as usize, index, "{text} is not at its place");
            assert!(status.is_client_error() || status.is_server_error(), "{text}");
            assert!(text.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{text}");
            assert!(!title.ends_with('.'), "{text}");
        }
        let texts: HashSet<_> = TABLE.iter().map(|row| row.1).collect();
        let titles: HashSet<_> = TABLE.iter().map(|row| row.3).collect();
        assert_eq!((texts.len(), titles.len()), (TABLE.len(), TABLE.len()));
    }

    #[test]
    fn every_503_says_when_to_come_back() {
        for (code, text, status, _) in TABLE {
            let retry_after = code.response_header(header::RETRY_AFTER);
            assert_eq!(status == StatusCode::SERVICE_UNAVAILABLE, retry_after.is_some(), "{text}");
        }
    }

    impl Code {
        fn response_header(self, name: HeaderName) -> Option<HeaderValue> {
            Problem::new(self, "").response().headers().get(name).cloned()
        }
    }
}
