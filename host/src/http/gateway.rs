//! What the data port serves: routes, and what holds for every request.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{ALLOW, CONNECTION, EXPECT, HeaderName, HeaderValue},
    http::request::Parts,
    service::service_fn,
};

use super::{
    Answers, Drained, Server, ServerLimits, body,
    body::Load,
    problem::{Code, Problem},
    send_message::{self, MEDIA_TYPES},
};
use crate::produce::Producer;

/// A refused request's body is still read up to this many bytes, so that its connection can be kept.
const DISCARDED: usize = 64 << 10;

/// What `/send-message` can be asked.
pub(super) const METHODS: &str = "POST, OPTIONS";

/// The media types that a route takes, in an answer.
pub(super) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// The data port's service: what comes in goes to `producer`.
#[derive(Clone)]
pub struct Gateway {
    /// Writes the records.
    pub producer: Producer,
    /// The topic of a record that names none; may be another one from one record to the next.
    pub default_topic: Arc<ArcSwapOption<Arc<str>>>,
    /// What the port bears.
    pub limits: Limits,
    /// Where its answers are counted.
    pub answers: Arc<Answers>,
}

/// What the data port bears.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of its connections.
    pub server: ServerLimits,
    /// Bytes of one body (413 beyond). A record of 1 MiB, as large as Kafka takes them by default, may be six times
    /// that in JSON when all of it is escaped; how large a record may be is the broker's to say.
    pub body: usize,
    /// Requests in flight (503 beyond).
    pub requests: usize,
    /// Bytes of all bodies in flight (503 beyond).
    pub bytes: usize,
    /// From the end of the body to the answer. Longer than any broker takes to give up on a record, so that its
    /// word, which knows more, comes first.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            server: ServerLimits::default(),
            body: 8 << 20,
            requests: 8192,
            bytes: 256 << 20,
            answer: Duration::from_secs(15),
        }
    }
}

impl Server {
    /// Serves the data port until `shutdown` resolves, and then drains, as [`Server::serve`] does.
    ///
    /// # Errors
    /// As [`Server::serve`].
    pub async fn run(
        self,
        gateway: Gateway,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<Drained> {
        let limits = gateway.limits;
        let load = Load::new(limits.requests, limits.bytes);
        let port = Arc::new(Port { gateway, load });
        let service = service_fn(move |request| {
            let port = port.clone();
            async move {
                let response = port.answer(request).await;
                port.gateway.answers.count(response.status());
                Ok::<_, Infallible>(response)
            }
        });
        self.serve(service, limits.server, shutdown).await
    }
}

struct Port {
    gateway: Gateway,
    load: Load,
}

impl Port {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, mut body) = request.into_parts();
        match self.route(&head, &mut body).await {
            Ok(response) => response,
            Err(problem) => {
                tracing::debug!(
                    code = problem.code.text(),
                    detail = problem.detail,
                    "Refused a request."
                );
                let mut response = problem.response();
                if !ends(&problem, &head, &mut body).await {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        }
    }

    async fn route(
        &self,
        head: &Parts,
        body: &mut Incoming,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let path = head.uri.path();
        match (path, &head.method) {
            ("/send-message", &Method::POST) => {
                let mut ticket = self.load.admit()?;
                send_message::handle(&self.gateway, head, body, &mut ticket).await
            }
            ("/send-message" | "*", &Method::OPTIONS) => Ok(options()),
            ("/send-message", method) => Err(Problem::new(
                Code::WrongMethod,
                format!("{path} takes {METHODS}, not {method}"),
            )),
            (_, method) => Err(Problem::new(
                Code::UnknownRoute,
                format!(
                    "there is no {method} {path}; there is POST /send-message (status and metrics are on the admin port)"
                ),
            )),
        }
    }
}

/// Whether the request has ended, or can be brought to its end, so that another can follow on its connection.
async fn ends(problem: &Problem, head: &Parts, body: &mut Incoming) -> bool {
    let broken = matches!(problem.code, Code::SlowBody | Code::IncompleteBody);
    // To read is to give leave to send (100 Continue), and nobody wants this body.
    let waits_for_leave = head.headers.contains_key(EXPECT) && !body.is_end_stream();
    !broken && !waits_for_leave && body::discard(body, DISCARDED).await
}

fn options() -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    response.headers_mut().insert(ACCEPT_POST, HeaderValue::from_static(MEDIA_TYPES));
    response
}
