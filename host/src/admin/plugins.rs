//! The routes of plugins: what there is, and going back to an older generation.

use axum::{Json, body::Bytes, extract::State as Extract, http::StatusCode};
use serde::Deserialize;

use super::{
    State,
    api::{Answer, Name},
    problem::Problem,
    snapshot::{self, Plugin},
    steering::json,
};
use crate::plugin::RollbackError;

/// What to go back to.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    /// The first digits of its digest, or all. Not given: the generation before the one that serves.
    generation: Option<String>,
}

pub(super) async fn list(Extract(state): Extract<State>) -> Json<Vec<Plugin>> {
    Json(snapshot::plugins(&state.local.view()))
}

pub(super) async fn one(Extract(state): Extract<State>, Name(name): Name) -> Answer<Plugin> {
    let plugins = snapshot::plugins(&state.local.view());
    let found = plugins.into_iter().find(|plugin| plugin.name == name);
    found.map(Json).ok_or_else(|| RollbackError::UnknownPlugin(name).into())
}

/// Answers with the plugin as it is after that.
pub(super) async fn roll_back(
    Extract(state): Extract<State>,
    Name(name): Name,
    body: Bytes,
) -> Answer<Plugin> {
    let Rollback { generation } = if body.is_empty() { Rollback::default() } else { json(&body)? };
    state.local.roll_back(&name, generation.as_deref()).await?;
    tracing::info!(plugin = name, to = generation, "An operator has rolled a plugin back.");
    one(Extract(state), Name(name)).await
}

impl From<RollbackError> for Problem {
    fn from(error: RollbackError) -> Self {
        let (status, code) = match &error {
            RollbackError::UnknownPlugin(_) => (StatusCode::NOT_FOUND, "unknown-plugin"),
            RollbackError::UnknownGeneration { .. } => {
                (StatusCode::NOT_FOUND, "unknown-generation")
            }
            RollbackError::NoOlder(_) => (StatusCode::CONFLICT, "no-older-generation"),
            RollbackError::Ambiguous { .. } => (StatusCode::CONFLICT, "ambiguous-generation"),
            RollbackError::Serves(_) => (StatusCode::CONFLICT, "generation-serves"),
            RollbackError::Unusable(_) => (StatusCode::CONFLICT, "generation-refused"),
            RollbackError::NotRemembered(_) => (StatusCode::INTERNAL_SERVER_ERROR, "not-done"),
        };
        Self::new(status, code, error.to_string())
    }
}
