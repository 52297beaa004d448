//! Trying a generation before it serves: how a canary or a shadow begins, and how it ends well. How it ends otherwise is its
//! plugin's matter, because a canary can be ended in the middle of its work.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    canary::Canary,
    component::Component,
    entry::Plugin,
    history::{By, Digest},
    host::{GenerationError, Host, Threads},
    registry::Registry,
    shadow::Shadow,
    usage::Usage,
};
use crate::{
    config::{self, Source},
    handler::Generation,
};

/// A generation that is tried.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) component: Arc<Component>,
    /// What it was made of, to be kept when it is promoted; `None`: it is kept already.
    bytes: Option<Bytes>,
}

impl Candidate {
    /// The generation, as it is named on screens.
    pub(super) fn short(&self) -> String {
        self.component.generation.short()
    }
}

impl Host {
    /// Tries a generation with a share of the records that `owner`, or everybody, has the plugin handle. It ends when it is
    /// worse than its terms allow, when it is promoted or aborted, and with the process.
    ///
    /// # Errors
    /// See [`GenerationError`]; nothing has changed.
    pub async fn begin_canary(
        &self,
        name: &str,
        owner: Option<&str>,
        canary: &config::Canary,
    ) -> Result<(), GenerationError> {
        let plugin = self.known(name)?;
        let (host, owner, canary) = (self.0.clone(), owner.map(str::to_owned), canary.clone());
        self.on_a_task(async move {
            host.registry.begin_canary(&plugin, owner.as_deref(), &canary, &host.threads).await
        })
        .await
    }

    /// Runs a generation on the records that `owner`, or everybody, has the plugin handle, behind the one that serves, and
    /// compares; its output goes nowhere. It ends when it is promoted or aborted, and with the process.
    ///
    /// # Errors
    /// See [`GenerationError`]; nothing has changed.
    pub async fn begin_shadow(
        &self,
        name: &str,
        owner: Option<&str>,
        source: &Source,
    ) -> Result<(), GenerationError> {
        let plugin = self.known(name)?;
        let (host, owner, source) = (self.0.clone(), owner.map(str::to_owned), source.clone());
        self.on_a_task(async move {
            host.registry.begin_shadow(&plugin, owner.as_deref(), &source).await
        })
        .await
    }

    /// Tries what a configuration wants, if it was not tried and ended before.
    ///
    /// # Errors
    /// See [`GenerationError`].
    pub async fn configured_canary(
        &self,
        name: &str,
        owner: &str,
        canary: &config::Canary,
    ) -> Result<(), GenerationError> {
        let plugin = self.known(name)?;
        let aborted = self.0.registry.was_aborted(&plugin, &canary.source).await;
        if let Some((generation, reason)) = aborted {
            tracing::warn!(
                canary = %generation, of = owner, %reason,
                "The canary that is configured was ended before and is not tried again; `keyway plugin canary` does."
            );
            return Ok(());
        }
        let begun = self.begin_canary(name, Some(owner), canary).await;
        unless_needless(&plugin, owner, begun)
    }

    /// Runs what a configuration wants as a shadow.
    ///
    /// # Errors
    /// See [`GenerationError`].
    pub async fn configured_shadow(
        &self,
        name: &str,
        owner: &str,
        source: &Source,
    ) -> Result<(), GenerationError> {
        let plugin = self.known(name)?;
        let begun = self.begin_shadow(name, Some(owner), source).await;
        unless_needless(&plugin, owner, begun)
    }

    /// Lets the generation that is tried serve, for all that use the plugin; where there are more, that whose digest begins
    /// with `generation`.
    ///
    /// # Errors
    /// See [`GenerationError`]; nothing has changed but with the last.
    pub async fn promote(
        &self,
        name: &str,
        generation: Option<&str>,
    ) -> Result<(), GenerationError> {
        let plugin = self.known(name)?;
        let (host, generation) = (self.0.clone(), generation.map(str::to_owned));
        self.on_a_task(async move { host.registry.promote(&plugin, generation.as_deref()).await })
            .await
    }

    /// Ends the trial of a generation, for all that use the plugin; where there are more, of that whose digest begins with
    /// `generation`.
    ///
    /// # Errors
    /// See [`GenerationError`].
    pub async fn abort(
        &self,
        name: &str,
        generation: Option<&str>,
        reason: &str,
    ) -> Result<(), GenerationError> {
        let plugin = self.known(name)?;
        let (host, reason) = (self.0.clone(), reason.to_owned());
        let candidate = plugin.tried(generation)?;
        self.on_a_task(async move {
            plugin.abort(&candidate.component.generation, &reason);
            let remembered = host.registry.remember(&plugin, None).await;
            remembered.map_err(GenerationError::NotRemembered)
        })
        .await
    }
}

/// What a configuration wants to try may serve by now. Without a history, nothing is kept that could be looked for.
fn unless_needless(
    plugin: &Plugin,
    owner: &str,
    begun: Result<(), GenerationError>,
) -> Result<(), GenerationError> {
    let is_check = plugin.archive.file().is_none();
    match begun {
        Err(GenerationError::Serves(generation)) => {
            tracing::info!(
                generation,
                of = owner,
                "The generation that is configured to be tried serves already."
            );
            Ok(())
        }
        Err(GenerationError::UnknownGeneration { .. }) if is_check => Ok(()),
        begun => begun,
    }
}

impl Registry {
    /// Tries a generation with a share of what `owner`, or everybody, has the plugin handle, in place of what they may try
    /// already. All uses begin, or none does.
    async fn begin_canary(
        &self,
        plugin: &Plugin,
        owner: Option<&str>,
        canary: &config::Canary,
        threads: &Arc<Threads>,
    ) -> Result<(), GenerationError> {
        let candidate = self.candidate(plugin, &canary.source).await?;
        let _exchange = plugin.exchanging().await;
        for (usage, tried) in prove(plugin, owner, &candidate, Usage::pinned).await? {
            let canary = Canary::new(candidate.clone(), tried, threads.clone(), &canary.terms);
            tracing::info!(
                plugin = %plugin.name, canary = %candidate.short(), of = %usage.owner,
                percent = canary.percent(), "A canary begins."
            );
            usage.set_canary(Some(Arc::new(canary)));
        }
        Ok(())
    }

    /// Runs a generation behind the one that serves. All uses begin, or none does.
    async fn begin_shadow(
        &self,
        plugin: &Plugin,
        owner: Option<&str>,
        source: &Source,
    ) -> Result<(), GenerationError> {
        let candidate = self.candidate(plugin, source).await?;
        let _exchange = plugin.exchanging().await;
        let mut ready = Vec::new();
        for (usage, tried) in prove(plugin, owner, &candidate, Usage::shadowed).await? {
            let shadow = Shadow::start(candidate.clone(), tried);
            let no_thread = |error| GenerationError::Unusable(format!("no thread for it: {error}"));
            ready.push((usage, shadow.map_err(no_thread)?));
        }
        for (usage, shadow) in ready {
            tracing::info!(
                plugin = %plugin.name, shadow = %candidate.short(), of = %usage.owner, "A shadow begins."
            );
            usage.set_shadow(Some(Arc::new(shadow)));
        }
        Ok(())
    }

    /// Lets the generation that is tried serve.
    async fn promote(
        &self,
        plugin: &Plugin,
        generation: Option<&str>,
    ) -> Result<(), GenerationError> {
        let _exchange = plugin.exchanging().await;
        let Candidate { component, bytes } = plugin.tried(generation)?;
        let exchanged = plugin.exchange(component, Some(By::Canary)).await;
        exchanged.map_err(GenerationError::Unusable)?;
        let remembered = self.remember(plugin, bytes).await;
        remembered.map_err(GenerationError::NotRemembered)
    }

    /// The generation that is meant.
    pub(super) async fn candidate(
        &self,
        plugin: &Plugin,
        source: &Source,
    ) -> Result<Candidate, GenerationError> {
        let unusable = |error: &dyn std::fmt::Display| GenerationError::Unusable(error.to_string());
        match source {
            Source::Generation(prefix) => {
                let found = {
                    let view = plugin.archive.view();
                    view.history().find(prefix, |digest| view.keeps(digest))
                };
                let of = |unfit| GenerationError::of(&plugin.name, Some(prefix), unfit);
                let component = self.kept(plugin, found.map_err(of)?).await;
                let component = component.map_err(|error| unusable(&error))?;
                Ok(Candidate { component, bytes: None })
            }
            Source::File(file) => {
                let (generation, bytes) =
                    self.read(plugin, file).await.map_err(|error| unusable(&error))?;
                let component = self.loader().load(generation, bytes.clone()).await;
                let refused = |cause| unusable(&format!("{}: {cause}", file.display()));
                let component = Arc::new(component.map_err(refused)?);
                Ok(Candidate { component, bytes: Some(bytes) })
            }
        }
    }

    /// Whether a generation was tried and ended before.
    async fn was_aborted(&self, plugin: &Plugin, source: &Source) -> Option<(Generation, String)> {
        let given = match source {
            Source::Generation(prefix) => prefix.to_ascii_lowercase(),
            Source::File(file) => {
                let (generation, _) = self.read(plugin, file).await.ok()?;
                generation.long()
            }
        };
        let view = plugin.archive.view();
        let is_given = |digest: Digest| digest.to_string().starts_with(&given);
        let aborted = view.history().aborted().iter().find(|it| is_given(it.digest))?;
        let generation = Generation { plugin: plugin.name.clone(), digest: aborted.digest.0 };
        Some((generation, aborted.reason.clone()))
    }
}

/// Proves a generation for all uses that are meant, each with what it tries it as, which has a ready instance.
async fn prove(
    plugin: &Plugin,
    owner: Option<&str>,
    Candidate { component, .. }: &Candidate,
    tried: impl Fn(&Usage, Arc<Component>) -> Usage,
) -> Result<Vec<(Arc<Usage>, Arc<Usage>)>, GenerationError> {
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
        let tried = tried(&usage, component.clone());
        let proved = plugin.prove(&tried, component).await;
        tried.adopt(component.clone(), proved.map_err(GenerationError::Unusable)?);
        ready.push((usage, Arc::new(tried)));
    }
    Ok(ready)
}
