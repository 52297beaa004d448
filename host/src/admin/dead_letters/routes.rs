//! `/api/v1/dead-letters`, and `/redrive` below it.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State as Extract, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;
use tokio::sync::{Mutex, mpsc};

use super::{Filter, Order, list, redrive_through};
use crate::{
    admin::{
        State,
        api::{self, Answer},
        problem::Problem,
        snapshot::DeadLetters,
    },
    record::Place,
};

/// How long a look may take, for which whole partitions are read: less than the command line waits.
const TIME: Duration = Duration::from_secs(8);
/// Letters of one look, when not given and at most.
const LETTERS: usize = 100;
const MOST_LETTERS: usize = 1000;
/// Lines of a redrive that wait for whoever reads them. Few: when nobody does, it ends.
const LINES: usize = 8;

/// The routes.
pub(in crate::admin) fn routes() -> Router<State> {
    // One redrive at a time: two would write the same letters back.
    let turn = Arc::new(Mutex::new(()));
    Router::new()
        .route("/", get(look))
        .route("/redrive", post(move |state, question| give_back(turn.clone(), state, question)))
}

/// What can be given behind the `?`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    topic: Option<String>,
    group: Option<String>,
    handler: Option<String>,
    reason: Option<String>,
    key: Option<String>,
    since: Option<String>,
    parked: Option<bool>,
    from: Option<String>,
    limit: Option<usize>,
    /// The plugin that handles dead letters, instead of writing them back.
    through: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

type Asked = Result<Query<Question>, QueryRejection>;

fn wrong(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid-parameter", detail)
}

fn read(question: Asked) -> Result<(Question, Filter), Problem> {
    let Query(mut asked) = question.map_err(|rejection| wrong(rejection.body_text()))?;
    let since = asked.since.take().map(|since| since.parse()).transpose().map_err(wrong)?;
    let filter = Filter {
        topic: asked.topic.take(),
        group: asked.group.take(),
        handler: asked.handler.take(),
        reason: asked.reason.take(),
        key: asked.key.take(),
        since,
        parked: asked.parked,
    };
    Ok((asked, filter))
}

async fn look(Extract(state): Extract<State>, question: Asked) -> Answer<DeadLetters> {
    let (asked, filter) = read(question)?;
    if asked.dry_run {
        return Err(wrong("dry_run is of meaning for a redrive only"));
    }
    if asked.through.is_some() {
        return Err(wrong("through is of meaning for a redrive only"));
    }
    let limit = asked.limit.unwrap_or(LETTERS);
    if !(1..=MOST_LETTERS).contains(&limit) {
        return Err(wrong(format!("limit is from 1 to {MOST_LETTERS}, not {limit}")));
    }
    let from = asked.from.map(|from| from.parse::<Place>()).transpose();
    let from = from.map_err(|error| wrong(format!("from: {error}")))?;
    let config = state.local.view().config;
    let page = list(&*state.broker, &config, &filter, from.as_ref(), limit);
    match tokio::time::timeout(TIME, page).await {
        Ok(page) => Ok(Json(page?)),
        Err(_elapsed) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "broker-unavailable",
            format!("the letters could not be read within {} s; ask for fewer", TIME.as_secs()),
        )),
    }
}

/// Answers at once, with a line of JSON for each step as it is done. Whoever stops reading stops it.
async fn give_back(
    turn: Arc<Mutex<()>>,
    Extract(state): Extract<State>,
    question: Asked,
) -> Result<Response, Problem> {
    let (asked, filter) = read(question)?;
    if asked.from.is_some() || asked.limit.is_some() {
        return Err(wrong("from and limit are of meaning for a look only"));
    }
    if asked.through.is_some() && filter.parked == Some(true) {
        return Err(wrong("through is of meaning for dead letters only, and not for parked lanes"));
    }
    let order = Order { filter, dry_run: asked.dry_run };
    let Ok(turn) = turn.try_lock_owned() else {
        let detail = "a redrive is under way in this process; wait for its end";
        return Err(Problem::new(StatusCode::CONFLICT, "redrive-under-way", detail));
    };
    let through = match &asked.through {
        Some(plugin) => Some(state.local.through(plugin).await.map_err(wrong)?),
        None => None,
    };
    tracing::info!(
        group = order.filter.group,
        topic = order.filter.topic,
        parked = order.filter.parked.unwrap_or(false),
        through = asked.through,
        dry_run = order.dry_run,
        "An operator gives records back that were given up on."
    );
    let (lines, told) = mpsc::channel(LINES);
    let config = state.local.view().config;
    tokio::spawn(async move {
        redrive_through(state.broker.clone(), config, order, through, lines).await;
        drop(turn);
    });
    Ok(api::as_lines(told))
}
