//! What the admin port answers where it cannot do what was asked: an RFC 9457 problem document.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::broker::BrokerError;

/// A problem: what is wrong with this request, for a person and for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
}

impl Problem {
    /// `code` is stable and names the kind of problem; `detail` is a sentence on this one.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        let (status, code) = match &error {
            BrokerError::UnknownTopic(_) => (StatusCode::NOT_FOUND, "unknown-topic"),
            BrokerError::UnknownPartition(_) => (StatusCode::NOT_FOUND, "unknown-partition"),
            BrokerError::UnknownGroup(_) => (StatusCode::NOT_FOUND, "unknown-group"),
            BrokerError::GroupHasMembers(_) => (StatusCode::CONFLICT, "group-has-members"),
            BrokerError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "broker-unavailable"),
            BrokerError::Fatal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "broker-failed"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = Document {
            r#type: format!("urn:keyway:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Problem"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
        };
        let mut response = (self.status, Json(document)).into_response();
        let media_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
