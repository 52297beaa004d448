//! One plugin by its name: the generation that serves, its uses, and the exchange of generations.
//!
//! An exchange is one store of one pointer, which every use of that name reads: there is no moment at which two uses
//! begin calls on different generations. Before it, the new generation has been compiled and checked, and has given a
//! ready instance to every use; a failure before that point changes nothing but the status.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::SystemTime,
};

use arc_swap::ArcSwapOption;

use super::{
    archive::Archive,
    capability::metrics::UseMetrics,
    component::Component,
    history::{By, Change, Digest, Refusal},
    host::{GenerationError, PluginError},
    instance::Instance,
    rollout::Candidate,
    status::{GenerationStatus, PluginStatus, RefusedStatus, Role},
    usage::Usage,
};
use crate::handler::Generation;

/// One plugin.
pub(super) struct Plugin {
    pub(super) name: Arc<str>,
    pub(super) file: PathBuf,
    pub(super) archive: Arc<Archive>,
    serving: ArcSwapOption<Component>,
    /// Held while a generation is proved and exchanged, and while a use is added: so no use misses an exchange.
    exchange: tokio::sync::Mutex<()>,
    uses: Mutex<Vec<Weak<Usage>>>,
    last_error: Mutex<Option<String>>,
}

/// How many uses tried a generation, in which way.
struct Ended {
    canaries: usize,
    shadows: usize,
}

impl Plugin {
    /// A plugin that has not served in this process.
    pub(super) fn new(name: Arc<str>, file: PathBuf, archive: Archive) -> Self {
        Self {
            name,
            file,
            archive: Arc::new(archive),
            serving: ArcSwapOption::empty(),
            exchange: tokio::sync::Mutex::default(),
            uses: Mutex::default(),
            last_error: Mutex::default(),
        }
    }

    /// What serves; `None` before the first use.
    pub(super) fn serving(&self) -> Option<Arc<Component>> {
        self.serving.load_full()
    }

    /// The right to exchange what serves, or to add a use.
    pub(super) async fn exchanging(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.exchange.lock().await
    }

    /// Whether the file, which holds this generation, changes nothing: it serves, or it was rolled back from.
    pub(super) fn needs_nothing_of(&self, generation: &Generation) -> bool {
        let Some(serving) = self.serving() else { return false };
        let serves = serving.generation == *generation;
        let set_aside = self.archive.view().history().is_set_aside(Digest(generation.digest));
        if serves || set_aside {
            self.says(None);
        }
        if set_aside && !serves {
            self.says_set_aside(&serving.generation, generation);
        }
        serves || set_aside
    }

    fn says_set_aside(&self, serving: &Generation, file: &Generation) {
        tracing::warn!(
            plugin = %self.name, serving = %serving.short(), file = %file.short(),
            "The file holds a generation that an operator left for this one; it is not taken before it changes to another."
        );
    }

    /// Says why something else serves than what the file holds.
    pub(super) fn says_instead_of(&self, file: Option<Digest>) {
        let (Some(serving), Some(file)) = (self.serving(), file) else { return };
        let view = self.archive.view();
        let refusal = view.history().refused().iter().find(|refusal| refusal.digest == file);
        match refusal.map(|refusal| refusal.reason.clone()) {
            Some(reason) => {
                drop(view);
                tracing::error!(plugin = %self.name, serving = %serving.generation.short(),
                    "{reason}. What served before serves on.");
                self.says(Some(reason));
            }
            None => {
                let plugin = self.name.clone();
                self.says_set_aside(&serving.generation, &Generation { plugin, digest: file.0 });
            }
        }
    }

    /// What is to be seen of it.
    pub(super) fn status(&self) -> PluginStatus {
        let serving = self.serving();
        let generation =
            |digest: Digest| Generation { plugin: self.name.clone(), digest: digest.0 };
        let view = self.archive.view();
        let generations: Vec<_> = view
            .history()
            .periods()
            .map(|(period, until, fate)| GenerationStatus {
                generation: generation(period.digest),
                since: period.since,
                until,
                by: period.by,
                fate,
                kept: view.size(period.digest),
                first_offsets: period.first_offsets.clone(),
            })
            .collect();
        let refused = |refusal: &Refusal| RefusedStatus {
            generation: generation(refusal.digest),
            at: refusal.at,
            reason: refusal.reason.clone(),
        };
        let aborted = view.history().aborted().iter().map(refused);
        PluginStatus {
            aborted: aborted.collect(),
            name: self.name.clone(),
            roles: serving.as_ref().map(|component| component.roles.clone()).unwrap_or_default(),
            since: serving.as_ref().and(generations.last()).map(|serving| serving.since),
            generation: serving.map(|component| component.generation.clone()),
            last_error: self.lock_last_error().clone(),
            refused: view.history().refused().iter().map(refused).collect(),
            rolled_back_from: view.history().set_aside().map(generation).collect(),
            history_error: view.trouble().map(str::to_owned),
            uses: self
                .uses()
                .iter()
                .filter_map(Weak::upgrade)
                .map(|usage| usage.status())
                .collect(),
            generations,
        }
    }

    /// Says that the file was refused, where an operator looks.
    pub(super) fn report(&self, error: &PluginError) {
        let message = error.to_string();
        match self.serving() {
            Some(serving) => tracing::error!(
                plugin = %self.name, serving = %serving.generation.short(), "{message}. The old generation serves on."
            ),
            None => tracing::error!(plugin = %self.name, "{message}."),
        }
        self.says(Some(message));
    }

    /// Shows what is wrong with the file, or that nothing is.
    pub(super) fn says(&self, last_error: Option<String>) {
        *self.lock_last_error() = last_error;
    }

    /// An error with the file's name.
    pub(super) fn refused(&self, cause: String) -> PluginError {
        PluginError::Refused { file: self.file.clone(), cause }
    }

    /// Proves `component` for a use that is about to be added.
    pub(super) async fn take_on(
        &self,
        usage: Usage,
        component: Arc<Component>,
    ) -> Result<Arc<Usage>, PluginError> {
        let proved = self.prove(&usage, &component).await;
        usage.adopt(component, proved.map_err(|cause| self.refused(cause))?);
        let usage = Arc::new(usage);
        self.uses().push(Arc::downgrade(&usage));
        Ok(usage)
    }

    /// Proves `component` for every use and lets it serve. See [`serve`](Self::serve).
    pub(super) async fn exchange(
        &self,
        component: Arc<Component>,
        by: Option<By>,
    ) -> Result<(), String> {
        let uses: Vec<_> = self.uses().iter().filter_map(Weak::upgrade).collect();
        let mut ready = Vec::with_capacity(uses.len());
        for usage in uses {
            let instance = self.prove(&usage, &component).await?;
            ready.push((usage, instance));
        }
        self.serve(component.clone(), by);
        for (usage, instance) in ready {
            usage.adopt(component.clone(), instance);
        }
        Ok(())
    }

    /// Ends the trial of a generation in every use. That of a canary is remembered; a shadow has done nothing.
    pub(super) fn abort(&self, generation: &Generation, reason: &str) {
        let Ended { canaries, shadows } = self.end(generation);
        if shadows > 0 {
            tracing::info!(plugin = %self.name, shadow = %generation.short(), reason, "A shadow is ended.");
        }
        if canaries > 0 {
            tracing::error!(plugin = %self.name, canary = %generation.short(), reason, "A canary is ended.");
            let (digest, reason) = (Digest(generation.digest), reason.to_owned());
            self.archive.apply(Change::Abort(Refusal { digest, at: SystemTime::now(), reason }));
        }
    }

    /// Takes a generation from every use that tries it.
    fn end(&self, generation: &Generation) -> Ended {
        let mut ended = Ended { canaries: 0, shadows: 0 };
        let uses: Vec<_> = self.uses().iter().filter_map(Weak::upgrade).collect();
        for usage in uses {
            if usage.canary().is_some_and(|canary| canary.generation() == generation) {
                usage.set_canary(None);
                ended.canaries += 1;
            }
            if usage.shadow().is_some_and(|shadow| shadow.generation() == generation) {
                usage.set_shadow(None);
                ended.shadows += 1;
            }
        }
        ended
    }

    /// What each of its uses has counted and measured.
    pub(super) fn metrics(&self) -> Vec<UseMetrics> {
        let uses = self.uses();
        let uses = uses.iter().filter_map(Weak::upgrade);
        uses.filter_map(|usage| Some(usage.settings.metrics.as_ref()?.status())).collect()
    }

    /// What is tried, as a canary or a shadow; of more than one that whose digest begins with `prefix`.
    pub(super) fn tried(&self, prefix: Option<&str>) -> Result<Candidate, GenerationError> {
        let prefix = prefix.unwrap_or_default().to_ascii_lowercase();
        let mut candidates = BTreeMap::new();
        for usage in self.handlers(None) {
            let canary = usage.canary().map(|canary| canary.candidate.clone());
            let shadow = usage.shadow().map(|shadow| shadow.candidate.clone());
            for candidate in canary.into_iter().chain(shadow) {
                candidates.insert(candidate.component.generation.long(), candidate);
            }
        }
        candidates.retain(|digest, _| digest.starts_with(&prefix));
        match candidates.len() {
            0 => Err(GenerationError::NotTried(self.name.clone())),
            1 => Ok(candidates.pop_first().expect("there is one").1),
            _ => Err(GenerationError::ManyTried {
                plugin: self.name.clone(),
                generations: candidates.values().map(Candidate::short).collect(),
            }),
        }
    }

    /// The uses as a handler, of one owner or of all.
    pub(super) fn handlers(&self, owner: Option<&str>) -> Vec<Arc<Usage>> {
        let uses: Vec<_> = self.uses().iter().filter_map(Weak::upgrade).collect();
        let is_meant = |usage: &Arc<Usage>| {
            usage.role == Role::Handler && owner.is_none_or(|owner| owner == usage.owner)
        };
        uses.into_iter().filter(is_meant).collect()
    }

    pub(super) async fn prove(
        &self,
        usage: &Usage,
        component: &Component,
    ) -> Result<Instance, String> {
        if !component.roles.contains(&usage.role) {
            return Err(format!(
                "{} uses it as a {}, but it does not export {}",
                usage.owner,
                usage.role,
                usage.role.interface()
            ));
        }
        usage.prove(component).await.map_err(|failure| format!("for {}: {failure}", usage.owner))
    }

    /// Lets `component` serve. Who wanted that is not given where the history has it already.
    pub(super) fn serve(&self, component: Arc<Component>, by: Option<By>) {
        if let Some(by) = by {
            // Before the exchange: what the generation does is looked for in the history.
            let digest = Digest(component.generation.digest);
            self.archive.apply(Change::Serve { digest, by, since: SystemTime::now() });
        }
        self.says(None);
        let before = self.serving.swap(Some(component.clone()));
        self.end(&component.generation); // there is nothing left to try
        tracing::info!(
            plugin = %self.name, generation = %component.generation.short(),
            before = before.map(|before| before.generation.short()), "The plugin serves."
        );
    }

    /// The uses, without those that are gone.
    fn uses(&self) -> MutexGuard<'_, Vec<Weak<Usage>>> {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        uses.retain(|usage| usage.strong_count() > 0);
        uses
    }

    fn lock_last_error(&self) -> MutexGuard<'_, Option<String>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
