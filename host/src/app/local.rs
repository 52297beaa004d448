//! What the admin port sees of this process.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{
    loading,
    parts::Parts,
    pauses::PauseError,
    preview,
    redrive::through,
    replay::{Means, replay},
};
use crate::{
    admin::{
        Choice, Local, SteerError,
        dead_letters::Through,
        preview::{Other, Sides},
        replay::Request,
        snapshot::{ReplayLine, View},
    },
    dispatch::{Scope, SeekError},
    plugin::GenerationError,
    produce::Skew,
    record::TopicPartition,
};

pub(super) struct LocalView {
    parts: Arc<Parts>,
    draining: AtomicBool,
}

impl LocalView {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        Self { parts, draining: AtomicBool::new(false) }
    }

    fn runs(&self, group: &str) -> Result<(), SteerError> {
        if self.parts.runs(group) { Ok(()) } else { Err(SteerError::NotHere) }
    }

    fn means(&self) -> Means {
        Means {
            broker: self.parts.broker.clone(),
            plugins: self.parts.plugins.clone(),
            producer: self.parts.producer.clone(),
        }
    }

    /// From now on this process is not ready.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Local for LocalView {
    fn view(&self) -> View {
        self.parts.note_beginnings();
        View {
            taken: SystemTime::now(),
            config: self.parts.config(),
            groups: self.parts.statuses(),
            plugins: self.parts.plugins.statuses(),
            plugin_metrics: self.parts.plugins.metrics(),
            answers: self.parts.answers.by_status(),
        }
    }

    fn skew(&self, topic: &str) -> Option<Skew> {
        self.parts.producer.skew(topic)
    }

    fn skews(&self) -> Vec<(Arc<str>, Skew)> {
        self.parts.producer.skews()
    }

    async fn pause(
        &self,
        group: &str,
        scope: &Scope,
        by: Option<String>,
    ) -> Result<(), SteerError> {
        self.runs(group)?;
        let (id, scope) = (group.to_owned(), scope.clone());
        Ok(self.parts.change_pauses(move |file| file.pause(&id, &scope, by)).await?)
    }

    async fn resume(&self, group: &str, scope: &Scope) -> Result<(), SteerError> {
        self.runs(group)?;
        let (id, resumed) = (group.to_owned(), scope.clone());
        self.parts.change_pauses(move |file| file.resume(&id, &resumed)).await?;
        self.parts.restart_stopped(group, scope);
        Ok(())
    }

    async fn seek(
        &self,
        group: &str,
        offsets: BTreeMap<TopicPartition, u64>,
    ) -> Result<(), SteerError> {
        let group = self.parts.group(group).ok_or(SteerError::NotHere)?;
        group.seek(offsets).await.map_err(|error| match error {
            SeekError::NotRead(_) => SteerError::Conflict(error.to_string()),
            SeekError::Failed(reason) => SteerError::Failed(reason),
        })
    }

    async fn choose(&self, plugin: &str, choice: Choice) -> Result<(), GenerationError> {
        let plugins = &self.parts.plugins;
        match choice {
            Choice::RollBack { to } => plugins.roll_back(plugin, to.as_deref()).await,
            Choice::Try { group, canary } => {
                let owner = group.map(|id| loading::owner(&id));
                plugins.begin_canary(plugin, owner.as_deref(), &canary).await
            }
            Choice::Shadow { group, source } => {
                let owner = group.map(|id| loading::owner(&id));
                plugins.begin_shadow(plugin, owner.as_deref(), &source).await
            }
            Choice::Promote { generation } => plugins.promote(plugin, generation.as_deref()).await,
            Choice::Abort { generation, reason } => {
                plugins.abort(plugin, generation.as_deref(), &reason).await
            }
        }
    }

    async fn replay(&self, request: Request, lines: mpsc::Sender<ReplayLine>) {
        replay(self.means(), &self.parts.config(), request, lines).await;
    }

    async fn through(&self, plugin: &str) -> Result<Arc<dyn Through>, String> {
        through(self.means(), &self.parts.config(), plugin).await
    }

    async fn selectors(&self, topic: &str, other: &Other) -> Result<Sides, GenerationError> {
        preview::selectors(&self.parts.plugins, &self.parts.config(), topic, other).await
    }

    fn not_ready(&self) -> Vec<String> {
        let draining = self.draining.load(Ordering::Relaxed);
        let waiting = self.parts.waiting();
        let drains = draining.then(|| "it drains: nothing new is accepted".to_owned());
        let lacks = (!self.parts.has_topics())
            .then(|| "it waits for the broker to have the topics".to_owned());
        let waits = waiting
            .iter()
            .map(|group| format!("group {group} waits for the broker to have its topics"));
        drains.into_iter().chain(lacks).chain(waits).collect()
    }
}

impl From<PauseError> for SteerError {
    fn from(error: PauseError) -> Self {
        match error {
            PauseError::PausedAsAWhole(_) => Self::Conflict(error.to_string()),
            PauseError::Unreadable { .. } | PauseError::Unwritable { .. } => {
                Self::Failed(error.to_string())
            }
        }
    }
}
