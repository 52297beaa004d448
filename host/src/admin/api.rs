//! The routes of the admin port.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{
        FromRequestParts, Path, Query, Request, State as Extract, rejection::QueryRejection,
    },
    http::{StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc};

use super::{
    State, dead_letters, guard, inventory, metrics, page, plugins, preview,
    problem::Problem,
    readiness, replay,
    snapshot::{Group, Records, Topic},
    steering,
};
use crate::record::TopicPartition;

/// How long the broker may take for one answer.
const BROKER_TIME: Duration = Duration::from_secs(5);
/// Records of one look, when not given and at most.
const RECORDS: usize = 100;
const MOST_RECORDS: usize = 1000;

pub(super) type Answer<T> = Result<Json<T>, Problem>;

/// Every route, for a port that listens on `listen`.
pub fn router(state: State, listen: SocketAddr) -> Router {
    let (replays, previews) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
    let api = Router::new()
        .route("/topics", get(topics))
        .route("/topics/{topic}", get(topic))
        .route("/topics/{topic}/records", get(records))
        .route("/groups", get(groups))
        .route("/groups/{id}", get(group))
        .route("/groups/{id}/pause", post(steering::pause))
        .route("/groups/{id}/resume", post(steering::resume))
        .route("/groups/{id}/seek", post(steering::seek))
        .route("/plugins", get(plugins::list))
        .route("/plugins/{name}", get(plugins::one))
        .route("/plugins/{name}/rollback", post(plugins::roll_back))
        .route("/plugins/{name}/canary", post(plugins::canary))
        .route("/plugins/{name}/shadow", post(plugins::shadow))
        .route("/plugins/{name}/differences", get(plugins::differences))
        .route("/plugins/{name}/promote", post(plugins::promote))
        .route("/plugins/{name}/abort", post(plugins::abort))
        .route("/replay", post(move |state, body| replay::replay(replays.clone(), state, body)))
        .nest("/dead-letters", dead_letters::routes())
        .route(
            "/key-preview",
            post(move |state, body| preview::preview(previews.clone(), state, body)),
        );
    Router::new()
        .route("/", get(page::page))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics::metrics))
        .nest("/api/v1", api)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            guarded(listen, request, next)
        }))
        .with_state(state)
}

async fn guarded(listen: SocketAddr, request: Request, next: Next) -> Response {
    match guard::check(listen, request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// The name in the path.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(rejection) => {
                let (status, detail) = (rejection.status(), rejection.body_text());
                Err(Problem::new(status, "malformed-path", detail))
            }
        }
    }
}

/// The answer of `/ready`.
#[derive(Serialize)]
struct Readiness {
    ready: bool,
    /// What is in the way; empty when ready.
    reasons: Vec<String>,
}

async fn ready(Extract(state): Extract<State>) -> (StatusCode, Json<Readiness>) {
    let reasons = state.obstacles();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, reasons }))
}

impl State {
    pub(super) fn obstacles(&self) -> Vec<String> {
        readiness::obstacles(&self.broker.health(), &self.local.view(), self.local.not_ready())
    }
}

async fn topics(Extract(state): Extract<State>) -> Answer<Vec<Topic>> {
    let skew = |name: &str| state.local.skew(name);
    in_time(inventory::topics(&*state.broker, &state.local.view(), skew)).await
}

async fn topic(Extract(state): Extract<State>, Name(name): Name) -> Answer<Topic> {
    let skew = state.local.skew(&name);
    in_time(inventory::topic(&*state.broker, &state.local.view(), &name, skew.as_ref())).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Look {
    partition: Option<u32>,
    offset: Option<u64>,
    limit: Option<usize>,
    /// The last so many of all partitions.
    last: Option<usize>,
}

async fn records(
    Extract(state): Extract<State>,
    Name(topic): Name,
    look: Result<Query<Look>, QueryRejection>,
) -> Answer<Records> {
    let invalid = |detail| Problem::new(StatusCode::BAD_REQUEST, "invalid-parameter", detail);
    let Query(look) = look.map_err(|rejection| invalid(rejection.body_text()))?;
    let limit = |name, limit| match limit {
        1..=MOST_RECORDS => Ok(limit),
        _ => Err(invalid(format!("{name} is from 1 to {MOST_RECORDS}, not {limit}"))),
    };
    match look {
        Look { partition: None, offset: None, limit: None, last: Some(last) } => {
            let last = limit("last", last)?;
            in_time(inventory::last_records(&*state.broker, &topic, last)).await
        }
        Look { last: Some(_), .. } => {
            Err(invalid("last is of all partitions: give it alone".to_owned()))
        }
        Look { partition, offset, limit: given, last: None } => {
            let limit = limit("limit", given.unwrap_or(RECORDS))?;
            let at = TopicPartition::new(topic, partition.unwrap_or_default());
            in_time(inventory::records(&*state.broker, &at, offset.unwrap_or_default(), limit))
                .await
        }
    }
}

async fn groups(Extract(state): Extract<State>) -> Answer<Vec<Group>> {
    in_time(inventory::groups(&*state.broker, &state.local.view())).await
}

pub(super) async fn group(Extract(state): Extract<State>, Name(id): Name) -> Answer<Group> {
    in_time(inventory::group(&*state.broker, &state.local.view(), &id)).await
}

async fn not_found(request: Request) -> Problem {
    let detail = format!("there is nothing at {}", request.uri().path());
    Problem::new(StatusCode::NOT_FOUND, "unknown-route", detail)
}

async fn method_not_allowed(request: Request) -> Problem {
    let detail = format!("{} does not take {}", request.uri().path(), request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", detail)
}

/// A line of JSON for each thing that is told, as it is told.
pub(super) fn as_lines<T: Serialize + Send + 'static>(told: mpsc::Receiver<T>) -> Response {
    let body = stream::unfold(told, |mut told| async {
        let line = told.recv().await?;
        let text = serde_json::to_string(&line).expect("a line has nothing that JSON has not");
        Some((Ok::<_, Infallible>(text + "\n"), told))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response()
}

/// What the broker says, or that it takes too long: a probe or a page would rather know.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = Result<T, crate::broker::BrokerError>>,
) -> Answer<T> {
    match tokio::time::timeout(BROKER_TIME, answer).await {
        Ok(answer) => Ok(Json(answer?)),
        Err(_elapsed) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "broker-unavailable",
            format!("the broker has not answered for {} s", BROKER_TIME.as_secs()),
        )),
    }
}
