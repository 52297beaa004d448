//! The routes that change something of a group: pause, resume, seek. What exactly is in the query or in a JSON body.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    body::Bytes,
    extract::{Query, State as Extract},
    http::{StatusCode, Uri},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    State, SteerError,
    api::{self, Answer, Name},
    problem::Problem,
    seek::{self, Refusal, Request, Sought},
    snapshot::Group,
};
use crate::{broker::BrokerError, dispatch::Scope};

/// Characters of a name that an operator gives.
const NAME: usize = 200;

/// What of a group is meant, and who asks.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    /// Not given: the whole group, or with partitions its only topic.
    topic: Option<Arc<str>>,
    /// Not given: the whole topic.
    partitions: Option<BTreeSet<u32>>,
    by: Option<String>,
}

/// The same as a query: `?topic=my-topic&partitions=0,1`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartQuery {
    topic: Option<Arc<str>>,
    partitions: Option<String>,
    by: Option<String>,
}

/// Answers with the group as it is after that.
pub(super) async fn pause(
    Extract(state): Extract<State>,
    Name(id): Name,
    uri: Uri,
    body: Bytes,
) -> Answer<Group> {
    let part = part(&uri, &body)?;
    let scope = scope(&state, &id, &part).await?;
    let by =
        part.by.map(|by| by.chars().filter(|c| !c.is_control()).take(NAME).collect::<String>());
    state.local.pause(&id, &scope, by.clone()).await.map_err(|error| refused(&id, error))?;
    tracing::info!(group = id, paused = %scope, by, "An operator has paused a group.");
    api::group(Extract(state), Name(id)).await
}

/// Answers with the group as it is after that.
pub(super) async fn resume(
    Extract(state): Extract<State>,
    Name(id): Name,
    uri: Uri,
    body: Bytes,
) -> Answer<Group> {
    let part = part(&uri, &body)?;
    let scope = scope(&state, &id, &part).await?;
    state.local.resume(&id, &scope).await.map_err(|error| refused(&id, error))?;
    tracing::info!(group = id, resumed = %scope, by = part.by, "An operator has resumed a group.");
    api::group(Extract(state), Name(id)).await
}

/// Answers with what was moved, or would be.
pub(super) async fn seek(
    Extract(state): Extract<State>,
    Name(id): Name,
    body: Bytes,
) -> Answer<Sought> {
    let request: Request = json(&body)?;
    let view = state.local.view();
    let sought = seek::seek(&*state.broker, &view, Some(&*state.local), &id, &request).await;
    sought.map(axum::Json).map_err(|refusal| match refusal {
        Refusal::Wrong(detail) => wrong(detail),
        Refusal::Active { .. } => {
            Problem::new(StatusCode::CONFLICT, "group-active", refusal.to_string())
        }
        Refusal::Broker(error) => error.into(),
        Refusal::Steer(error) => refused(&id, error),
    })
}

fn part(uri: &Uri, body: &Bytes) -> Result<Part, Problem> {
    if !body.is_empty() {
        return json(body);
    }
    let Query(PartQuery { topic, partitions, by }) =
        Query::try_from_uri(uri).map_err(|rejection| wrong(rejection.body_text()))?;
    let number = |text: &str| {
        text.trim()
            .parse()
            .map_err(|_| wrong(format!("partitions are numbers with commas, not {text:?}")))
    };
    let partitions = partitions.map(|list| list.split(',').map(number).collect()).transpose()?;
    Ok(Part { topic, partitions, by })
}

pub(super) fn json<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| wrong(format!("the body: {error}")))
}

/// What is meant, if the group can have it.
async fn scope(state: &State, id: &str, part: &Part) -> Result<Scope, Problem> {
    let view = state.local.view();
    let config = view.config.groups.iter().find(|group| &*group.id == id);
    let topics = config.map_or(&[][..], |group| &group.topics);
    let topic = match (&part.topic, &part.partitions, topics) {
        (Some(topic), _, _) if config.is_none() || topics.contains(topic) => topic.clone(),
        (Some(topic), _, _) => {
            return Err(wrong(format!("group {id:?} reads {}, not {topic:?}", topics.join(", "))));
        }
        (None, None, _) => return Ok(Scope::Group),
        (None, Some(_), [topic]) => topic.clone(),
        (None, Some(_), _) => {
            return Err(wrong(format!("of which topic? group {id:?} reads {}", topics.join(", "))));
        }
    };
    let Some(partitions) = &part.partitions else { return Ok(Scope::Topic(topic)) };
    match state.broker.partitions(&topic).await {
        Ok(count) => {
            if let Some(number) = partitions.iter().find(|number| **number >= count) {
                return Err(wrong(format!(
                    "{topic} has {count} partitions, from 0, and no {number}"
                )));
            }
        }
        Err(BrokerError::UnknownTopic(topic)) => {
            return Err(BrokerError::UnknownTopic(topic).into());
        }
        Err(_away) => {} // a group is paused all the same when the broker is away
    }
    Ok(Scope::Partitions(topic, partitions.clone()))
}

pub(super) fn wrong(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid-parameter", detail)
}

fn refused(id: &str, error: SteerError) -> Problem {
    match error {
        SteerError::NotHere => {
            let detail = format!("this process runs no member of a group {id:?}");
            Problem::new(StatusCode::NOT_FOUND, "unknown-group", detail)
        }
        SteerError::Conflict(detail) => {
            Problem::new(StatusCode::CONFLICT, "group-conflict", detail)
        }
        SteerError::Failed(detail) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "not-done", detail)
        }
    }
}
