//! The admin port: what runs here and how it does, for operators, probes and the command line.
//!
//! Owns the JSON shapes ([`snapshot`]), the routes, the status page and the metrics. Owns no state: every answer is
//! made from the broker's word and from [`Local`] at the moment it is asked for, so there is nothing to keep in
//! step and nothing on the path of a record. The command line asks the broker with the same functions
//! ([`inventory`], [`seek`]) when no gateway runs.
//!
//! Invariant: [`server`] has a thread and a runtime of its own, so it answers however busy the data port is.

pub mod api;
pub mod dead_letters;
mod guard;
pub mod inventory;
pub mod members;
mod metrics;
mod page;
mod plugins;
pub mod preview;
mod problem;
mod readiness;
pub mod replay;
pub mod seek;
pub mod server;
pub mod snapshot;
mod steering;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use tokio::sync::mpsc;

pub use server::{Bound, Running};
use snapshot::View;

use crate::{
    broker::Broker,
    config::{Canary, Source},
    dispatch::Scope,
    plugin::GenerationError,
    produce::Skew,
    record::TopicPartition,
};

/// This process, as the admin port sees it.
#[async_trait]
pub trait Local: Send + Sync + 'static {
    /// What is configured and how it does, at this moment. Called for every request: cheap, and never waits.
    fn view(&self) -> View;

    /// How the records of a topic are shared out that were written here in the last one to two minutes; `None`: there are
    /// none.
    fn skew(&self, topic: &str) -> Option<Skew>;

    /// The same of each topic of which any were.
    fn skews(&self) -> Vec<(Arc<str>, Skew)>;

    /// Holds back the members of a group that live in this process, now and after a restart.
    async fn pause(&self, group: &str, scope: &Scope, by: Option<String>)
    -> Result<(), SteerError>;

    /// Lets them go on, and what of it stands still by the policy `stop`.
    async fn resume(&self, group: &str, scope: &Scope) -> Result<(), SteerError>;

    /// Has the members of a group that live in this process go on at other offsets, which are committed first.
    async fn seek(
        &self,
        group: &str,
        offsets: BTreeMap<TopicPartition, u64>,
    ) -> Result<(), SteerError>;

    /// Has another generation of a plugin serve, or be tried.
    async fn choose(&self, plugin: &str, choice: Choice) -> Result<(), GenerationError>;

    /// Replays records and tells each step to `lines`, [`snapshot::ReplayLine::End`] last. Ends early when nobody listens to
    /// them any more.
    async fn replay(&self, request: replay::Request, lines: mpsc::Sender<snapshot::ReplayLine>);

    /// A plugin of this process, to handle dead letters in place of the handlers that gave their records up.
    ///
    /// # Errors
    /// There is none of that name, or it does not fit: in words.
    async fn through(&self, plugin: &str) -> Result<Arc<dyn dead_letters::Through>, String>;

    /// The key selector of a topic as it serves, and another, for a look at what they decide.
    async fn selectors(
        &self,
        topic: &str,
        other: &preview::Other,
    ) -> Result<preview::Sides, GenerationError>;

    /// What keeps this process from its work that neither the broker's health nor [`Local::view`] shows: that it
    /// still starts, or drains. Empty: nothing does.
    fn not_ready(&self) -> Vec<String>;
}

/// What an operator wants of a plugin's generations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Go back to the one before, or to the one whose digest begins with `to`, now and after a restart.
    RollBack {
        /// The first digits of its digest, or all.
        to: Option<String>,
    },
    /// Try one with a share of the records of a group, or of all whose handler the plugin is.
    Try {
        /// The group's id.
        group: Option<String>,
        /// What, and how.
        canary: Canary,
    },
    /// Run one on the records of a group, or of all whose handler the plugin is, and compare.
    Shadow {
        /// The group's id.
        group: Option<String>,
        /// What.
        source: Source,
    },
    /// Let the one that is tried serve.
    Promote {
        /// Which, by the first digits of its digest, where more than one is.
        generation: Option<String>,
    },
    /// End the trial.
    Abort {
        /// Which, by the first digits of its digest, where more than one is tried.
        generation: Option<String>,
        /// Why.
        reason: String,
    },
}

/// Why this process did not do with a group what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SteerError {
    /// It runs no member of it.
    #[error("this process runs no member of that group")]
    NotHere,
    /// It cannot be done as things are.
    #[error("{0}")]
    Conflict(String),
    /// It was tried and did not work, or not wholly.
    #[error("{0}")]
    Failed(String),
}

/// What the routes answer from.
#[derive(Clone)]
pub struct State {
    /// The broker of this process.
    pub broker: Arc<dyn Broker>,
    /// This process.
    pub local: Arc<dyn Local>,
}
