//! The routes of plugins: what there is, and which generation serves or is tried.

use std::path::PathBuf;

use axum::{Json, body::Bytes, extract::State as Extract, http::StatusCode};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Choice, State,
    api::{Answer, Name},
    problem::Problem,
    snapshot::{self, Difference, Plugin},
    steering::{json, wrong},
};
use crate::{
    config::{Canary, Source, Terms},
    plugin::GenerationError,
};

/// Characters of a reason that an operator gives.
const REASON: usize = 500;

/// What to go back to.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    /// The first digits of its digest, or all. Not given: the generation before the one that serves.
    generation: Option<String>,
}

/// What to try.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Try {
    /// A component file, as the gateway sees it. This or `generation`.
    file: Option<PathBuf>,
    generation: Option<String>,
    percent: u8,
    /// Not given: every group whose handler the plugin is.
    group: Option<String>,
    minimum_sample: Option<u64>,
    more_failures: Option<u8>,
    slower: Option<u32>,
}

/// What to run and compare.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shadow {
    /// A component file, as the gateway sees it. This or `generation`.
    file: Option<PathBuf>,
    generation: Option<String>,
    /// Not given: every group whose handler the plugin is.
    group: Option<String>,
}

/// Which trial an operator ends, and why.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Abort {
    /// Needed where more than one is tried, as in [`Promote`].
    generation: Option<String>,
    reason: Option<String>,
}

/// Which generation is to serve.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promote {
    generation: Option<String>,
}

pub(super) async fn list(Extract(state): Extract<State>) -> Json<Vec<Plugin>> {
    Json(snapshot::plugins(&state.local.view()))
}

pub(super) async fn one(Extract(state): Extract<State>, Name(name): Name) -> Answer<Plugin> {
    let plugins = snapshot::plugins(&state.local.view());
    let found = plugins.into_iter().find(|plugin| plugin.name == name);
    found.map(Json).ok_or_else(|| GenerationError::UnknownPlugin(name).into())
}

pub(super) async fn roll_back(
    Extract(state): Extract<State>,
    Name(name): Name,
    body: Bytes,
) -> Answer<Plugin> {
    let Rollback { generation } = unless_empty(&body)?;
    choose(state, name, Choice::RollBack { to: generation }).await
}

pub(super) async fn canary(
    Extract(state): Extract<State>,
    Name(name): Name,
    body: Bytes,
) -> Answer<Plugin> {
    let asked: Try = json(&body)?;
    let choice = asked.choice()?;
    choose(state, name, choice).await
}

pub(super) async fn shadow(
    Extract(state): Extract<State>,
    Name(name): Name,
    body: Bytes,
) -> Answer<Plugin> {
    let Shadow { file, generation, group } = json(&body)?;
    let source = source(file, generation)?;
    choose(state, name, Choice::Shadow { group, source }).await
}

pub(super) async fn differences(
    Extract(state): Extract<State>,
    Name(name): Name,
) -> Answer<Vec<Difference>> {
    let view = state.local.view();
    let found = view.plugins.iter().find(|plugin| *plugin.name == *name);
    let plugin = found.ok_or_else(|| GenerationError::UnknownPlugin(name.clone()))?;
    Ok(Json(snapshot::differences(plugin)))
}

pub(super) async fn promote(
    Extract(state): Extract<State>,
    Name(name): Name,
    body: Bytes,
) -> Answer<Plugin> {
    let Promote { generation } = unless_empty(&body)?;
    choose(state, name, Choice::Promote { generation }).await
}

pub(super) async fn abort(
    Extract(state): Extract<State>,
    Name(name): Name,
    body: Bytes,
) -> Answer<Plugin> {
    let Abort { generation, reason } = unless_empty(&body)?;
    let reason = reason.unwrap_or_else(|| "an operator ended it".to_owned());
    let reason = reason.chars().filter(|c| !c.is_control()).take(REASON).collect();
    choose(state, name, Choice::Abort { generation, reason }).await
}

/// Answers with the plugin as it is after that.
async fn choose(state: State, name: String, choice: Choice) -> Answer<Plugin> {
    tracing::info!(plugin = name, ?choice, "An operator chooses a generation.");
    state.local.choose(&name, choice).await?;
    one(Extract(state), Name(name)).await
}

fn unless_empty<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, Problem> {
    if body.is_empty() { Ok(T::default()) } else { json(body) }
}

impl Try {
    fn choice(self) -> Result<Choice, Problem> {
        let default = Terms::default();
        let terms = Terms {
            percent: self.percent,
            minimum_sample: self.minimum_sample.unwrap_or(default.minimum_sample),
            more_failures: self.more_failures.unwrap_or(default.more_failures),
            slower: self.slower.unwrap_or(default.slower),
        };
        if !(1..=100).contains(&terms.percent) {
            return Err(wrong(format!("percent is from 1 to 100, not {}", terms.percent)));
        }
        if terms.minimum_sample == 0 || terms.slower == 0 {
            return Err(wrong("minimum_sample and slower are at least 1"));
        }
        let source = source(self.file, self.generation)?;
        Ok(Choice::Try { group: self.group, canary: Canary { source, terms } })
    }
}

fn source(file: Option<PathBuf>, generation: Option<String>) -> Result<Source, Problem> {
    match (file, generation) {
        (Some(file), None) => Ok(Source::File(file)),
        (None, Some(generation)) => Ok(Source::Generation(generation)),
        _ => Err(wrong("give a file or a generation, one of them")),
    }
}

impl From<GenerationError> for Problem {
    fn from(error: GenerationError) -> Self {
        let (status, code) = match &error {
            GenerationError::UnknownPlugin(_) => (StatusCode::NOT_FOUND, "unknown-plugin"),
            GenerationError::UnknownGeneration { .. } => {
                (StatusCode::NOT_FOUND, "unknown-generation")
            }
            GenerationError::NoOlder(_) => (StatusCode::CONFLICT, "no-older-generation"),
            GenerationError::Ambiguous { .. } => (StatusCode::CONFLICT, "ambiguous-generation"),
            GenerationError::Serves(_) => (StatusCode::CONFLICT, "generation-serves"),
            GenerationError::NoSelector(_) => (StatusCode::CONFLICT, "no-key-selector"),
            GenerationError::Unusable(_) => (StatusCode::CONFLICT, "generation-refused"),
            GenerationError::NotUsed { .. } => (StatusCode::CONFLICT, "plugin-not-used"),
            GenerationError::NotTried(_) => (StatusCode::CONFLICT, "not-tried"),
            GenerationError::ManyTried { .. } => (StatusCode::CONFLICT, "many-tried"),
            GenerationError::NotRemembered(_) => (StatusCode::INTERNAL_SERVER_ERROR, "not-done"),
        };
        Self::new(status, code, error.to_string())
    }
}
