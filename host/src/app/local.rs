//! What the admin port sees of this process.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;

use super::parts::Parts;
use crate::admin::{Local, snapshot::View};

pub(super) struct LocalView {
    parts: Arc<Parts>,
    draining: AtomicBool,
}

impl LocalView {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        Self { parts, draining: AtomicBool::new(false) }
    }

    /// From now on this process is not ready.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Local for LocalView {
    fn view(&self) -> View {
        View {
            config: self.parts.config(),
            groups: self.parts.statuses(),
            plugins: self.parts.plugins.statuses(),
            answers: self.parts.answers.by_status(),
        }
    }

    async fn set_paused(&self, group: &str, paused: bool) -> bool {
        let Some(group) = self.parts.group(group) else { return false };
        if paused {
            group.pause();
        } else {
            group.resume();
        }
        true
    }

    fn not_ready(&self) -> Vec<String> {
        let draining = self.draining.load(Ordering::Relaxed);
        let waiting = self.parts.waiting();
        let drains = draining.then(|| "it drains: nothing new is accepted".to_owned());
        let waits = waiting
            .iter()
            .map(|group| format!("group {group} waits for the broker to have its topics"));
        drains.into_iter().chain(waits).collect()
    }
}
