//! Trying a generation before it serves: how a canary begins, and how it ends well. How it ends otherwise is its plugin's
//! matter, because a canary can be ended in the middle of its work.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    canary::Canary,
    component::Component,
    entry::Plugin,
    history::{By, Digest},
    host::{GenerationError, Threads},
    registry::Registry,
};
use crate::{
    config::{self, Source},
    handler::Generation,
};

impl Registry {
    /// Tries a generation with a share of what `owner`, or everybody, has the plugin handle, in place of what they may try
    /// already. All uses begin, or none does.
    pub(super) async fn begin_canary(
        &self,
        plugin: &Plugin,
        owner: Option<&str>,
        canary: &config::Canary,
        threads: &Arc<Threads>,
    ) -> Result<(), GenerationError> {
        let (component, bytes) = self.candidate(plugin, &canary.source).await?;
        let _exchange = plugin.exchanging().await;
        if plugin.serving().is_some_and(|serving| serving.generation == component.generation) {
            return Err(GenerationError::Serves(component.generation.to_string()));
        }
        let uses = plugin.handlers(owner);
        if uses.is_empty() {
            let by = owner.unwrap_or("any group").to_owned();
            return Err(GenerationError::NotUsed { plugin: plugin.name.clone(), by });
        }
        let mut ready = Vec::with_capacity(uses.len());
        for usage in uses {
            let tried = usage.pinned(component.clone());
            let proved = plugin.prove(&tried, &component).await;
            tried.adopt(component.clone(), proved.map_err(GenerationError::Unusable)?);
            let made = (component.clone(), bytes.clone());
            let canary = Canary::new(made, Arc::new(tried), threads.clone(), &canary.terms);
            ready.push((usage, Arc::new(canary)));
        }
        for (usage, canary) in ready {
            tracing::info!(
                plugin = %plugin.name, canary = %component.generation.short(), of = %usage.owner,
                percent = canary.percent(), "A canary begins."
            );
            usage.set_canary(Some(canary));
        }
        Ok(())
    }

    /// Lets the generation that is tried serve.
    pub(super) async fn promote(&self, plugin: &Plugin) -> Result<(), GenerationError> {
        let _exchange = plugin.exchanging().await;
        let canary = plugin.canary()?;
        let exchanged = plugin.exchange(canary.component.clone(), Some(By::Canary)).await;
        exchanged.map_err(GenerationError::Unusable)?;
        let remembered = self.remember(plugin, canary.bytes.clone()).await;
        remembered.map_err(GenerationError::NotRemembered)
    }

    /// The generation that is meant, and its bytes where they are not kept.
    async fn candidate(
        &self,
        plugin: &Plugin,
        source: &Source,
    ) -> Result<(Arc<Component>, Option<Bytes>), GenerationError> {
        let unusable = |error: &dyn std::fmt::Display| GenerationError::Unusable(error.to_string());
        match source {
            Source::Generation(prefix) => {
                let found = {
                    let view = plugin.archive.view();
                    view.history().find(prefix, |digest| view.keeps(digest))
                };
                let of = |unfit| GenerationError::of(&plugin.name, Some(prefix), unfit);
                let component = self.kept(plugin, found.map_err(of)?).await;
                Ok((component.map_err(|error| unusable(&error))?, None))
            }
            Source::File(file) => {
                let (generation, bytes) =
                    self.read(plugin, file).map_err(|error| unusable(&error))?;
                let component = self.loader().load(generation, bytes.clone()).await;
                let refused = |cause| unusable(&format!("{}: {cause}", file.display()));
                Ok((Arc::new(component.map_err(refused)?), Some(bytes)))
            }
        }
    }

    /// Whether a generation was tried and ended before.
    pub(super) fn was_aborted(
        &self,
        plugin: &Plugin,
        source: &Source,
    ) -> Option<(Generation, String)> {
        let view = plugin.archive.view();
        let given = match source {
            Source::Generation(prefix) => prefix.to_ascii_lowercase(),
            Source::File(file) => {
                let (generation, _) = self.read(plugin, file).ok()?;
                generation.long()
            }
        };
        let is_given = |digest: Digest| digest.to_string().starts_with(&given);
        let aborted = view.history().aborted().iter().find(|it| is_given(it.digest))?;
        let generation = Generation { plugin: plugin.name.clone(), digest: aborted.digest.0 };
        Some((generation, aborted.reason.clone()))
    }
}
