//! Every plugin by its name, and where its next generation comes from: the file, or what was kept of its past.
//!
//! The file says what serves, except where an operator rolled back from what it holds, or where it was refused and what
//! served before is kept: that goes on then, over a restart too.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;

use super::{
    archive::Archive,
    component::Component,
    entry::Plugin,
    history::{By, Change, Digest, Refusal},
    host::{GenerationError, HostSettings, PluginError},
    instance::Settings,
    loader::{Loader, available},
    status::Role,
    usage::Usage,
};
use crate::{
    config::{Isolation, PluginUse},
    handler::{Beginning, Generation},
};

/// The plugins that were asked for.
pub(super) struct Registry {
    pub(super) directory: PathBuf,
    loader: Loader,
    /// Where each plugin has a directory for its past.
    history_directory: Option<PathBuf>,
    plugins: Mutex<BTreeMap<Arc<str>, Arc<Plugin>>>,
}

/// A file that was refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) error: PluginError,
    /// What it held, where it could be read.
    pub(super) digest: Option<Digest>,
}

impl Registry {
    /// No plugin yet.
    pub(super) fn new(settings: HostSettings, loader: Loader) -> Self {
        let HostSettings { directory, history_directory, .. } = settings;
        Self { directory, loader, history_directory, plugins: Mutex::default() }
    }

    /// Every plugin, by name.
    pub(super) fn plugins(&self) -> Vec<Arc<Plugin>> {
        self.lock().values().cloned().collect()
    }

    /// One of them.
    pub(super) fn plugin(&self, name: &str) -> Option<Arc<Plugin>> {
        self.lock().get(name).cloned()
    }

    /// A new use of a plugin, which is loaded when it is not.
    pub(super) async fn usage(
        &self,
        (owner, role): (String, Role),
        plugin: &PluginUse,
        output_topic: Option<Arc<str>>,
        isolation: Isolation,
        max_instances: usize,
    ) -> Result<Arc<Usage>, PluginError> {
        let network = self.loader.network();
        let settings = Arc::new(Settings::new(&owner, plugin, output_topic, network));
        let plugin = self.entry(&plugin.plugin);
        let make = |component: Arc<Component>| {
            Usage::new(
                (plugin.clone(), component),
                (owner.clone(), role),
                settings.clone(),
                self.loader.engine(),
                isolation,
                max_instances,
            )
        };
        let _exchange = plugin.exchanging().await;
        match plugin.serving() {
            Some(component) => plugin.take_on(make(component.clone()), component).await,
            None => self.begin(&plugin, make).await.inspect_err(|error| {
                plugin.says(Some(error.to_string()));
            }),
        }
    }

    /// Lets a plugin serve for the first time in this process, with its first use.
    async fn begin(
        &self,
        plugin: &Plugin,
        make: impl Fn(Arc<Component>) -> Usage,
    ) -> Result<Arc<Usage>, PluginError> {
        let file = self.file(plugin).await;
        let digest = file.as_ref().ok().map(|(generation, _)| Digest(generation.digest));
        let instead = plugin.archive.view().history().instead_of(digest);
        if let Some(kept) = instead {
            match self.begin_with(plugin, self.kept(plugin, kept).await, None, &make).await {
                Ok(usage) => {
                    plugin.says_instead_of(digest);
                    return Ok(usage);
                }
                Err(error) => tracing::error!(
                    plugin = %plugin.name, generation = %kept, %error,
                    "What served before cannot go on; the file is taken."
                ),
            }
        }
        let (generation, bytes) = file?;
        let component = self.load(plugin, generation, &bytes).await;
        let usage = self.begin_with(plugin, component, Some(By::File), &make).await?;
        self.remember(plugin, Some(bytes)).await.ok(); // it was said, and the file is there
        Ok(usage)
    }

    async fn begin_with(
        &self,
        plugin: &Plugin,
        component: Result<Arc<Component>, PluginError>,
        by: Option<By>,
        make: impl Fn(Arc<Component>) -> Usage,
    ) -> Result<Arc<Usage>, PluginError> {
        let component = component?;
        let usage = plugin.take_on(make(component.clone()), component.clone()).await?;
        plugin.serve(component, by);
        Ok(usage)
    }

    /// Looks at the plugin's file, and exchanges the generation when it holds another one that is good.
    ///
    /// # Errors
    /// What is wrong with the file; the generation that serves goes on.
    pub(super) async fn refresh(&self, plugin: &Plugin) -> Result<(), Refused> {
        let (generation, bytes) = match self.file(plugin).await {
            Err(PluginError::Missing { .. }) => return Ok(()),
            Err(error) => return Err(Refused { error, digest: None }),
            Ok(file) => file,
        };
        let digest = Digest(generation.digest);
        if plugin.needs_nothing_of(&generation) {
            return Ok(());
        }
        let refused = |error| Refused { error, digest: Some(digest) };
        let component = self.load(plugin, generation.clone(), &bytes).await.map_err(refused)?;
        let _exchange = plugin.exchanging().await;
        if !plugin.needs_nothing_of(&generation) {
            let exchanged = plugin.exchange(component, Some(By::File)).await;
            exchanged.map_err(|cause| refused(plugin.refused(cause)))?;
            self.remember(plugin, Some(bytes)).await.ok(); // it was said, and the file is there
        }
        Ok(())
    }

    /// Goes back to an older generation, or to the one whose digest begins with `to`.
    pub(super) async fn roll_back(
        &self,
        plugin: &Plugin,
        to: Option<&str>,
    ) -> Result<(), GenerationError> {
        let _exchange = plugin.exchanging().await;
        let target = {
            let view = plugin.archive.view();
            let is_kept = |digest| view.keeps(digest);
            match to {
                None => view.history().older(is_kept),
                Some(prefix) => view.history().find(prefix, is_kept),
            }
        };
        let target = target.map_err(|unfit| GenerationError::of(&plugin.name, to, unfit))?;
        let unusable = |error: PluginError| GenerationError::Unusable(error.to_string());
        let component = self.kept(plugin, target).await.map_err(unusable)?;
        let exchanged = plugin.exchange(component, Some(By::Rollback)).await;
        exchanged.map_err(GenerationError::Unusable)?;
        self.remember(plugin, None).await.map_err(GenerationError::NotRemembered)
    }

    /// Does what another process that shares the history was told: to roll back, or to promote a canary.
    pub(super) async fn follow(&self, plugin: &Plugin) {
        let archive = plugin.archive.clone();
        self.loader.blocking(move || archive.refresh()).await;
        let _exchange = plugin.exchanging().await;
        let Some(serving) = plugin.serving().map(|serving| Digest(serving.generation.digest))
        else {
            return;
        };
        let Some(told) = plugin.archive.view().history().chosen() else { return };
        if told == serving {
            return;
        }
        let followed = match self.kept(plugin, told).await {
            Ok(component) => plugin.exchange(component, None).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = followed {
            tracing::error!(plugin = %plugin.name, to = %told, %error,
                "Another gateway of this directory chose another generation; this one could not follow.");
        }
    }

    /// Takes note of where generations began.
    pub(super) fn note(&self, beginning: Beginning) {
        if let Some(plugin) = self.plugin(&beginning.generation.plugin) {
            plugin.archive.apply(Change::Begin(beginning));
        }
    }

    /// Writes what is known of every plugin's past.
    pub(super) async fn flush(&self) {
        for plugin in self.plugins() {
            if plugin.archive.is_behind() {
                self.remember(&plugin, None).await.ok(); // it was said
            }
        }
    }

    /// Says that the file was refused, and remembers it.
    pub(super) async fn report(&self, plugin: &Plugin, refused: Refused) {
        plugin.report(&refused.error);
        if let Some(digest) = refused.digest {
            let (at, reason) = (SystemTime::now(), refused.error.to_string());
            plugin.archive.apply(Change::Refuse(Refusal { digest, at, reason }));
            self.remember(plugin, None).await.ok(); // it was said
        }
    }

    /// Writes what happened, with the bytes of the generation that serves where they are not kept yet.
    pub(super) async fn remember(
        &self,
        plugin: &Plugin,
        bytes: Option<Bytes>,
    ) -> Result<(), String> {
        let archive = plugin.archive.clone();
        let serving = plugin.serving().map(|serving| Digest(serving.generation.digest));
        let remember = move || {
            if let (Some(bytes), Some(serving)) = (bytes, serving) {
                archive.keep(serving, &bytes);
            }
            archive.flush()
        };
        self.loader.blocking(remember).await
    }

    /// What makes files into components.
    pub(super) fn loader(&self) -> &Loader {
        &self.loader
    }

    /// What the plugin's file holds.
    async fn file(&self, plugin: &Plugin) -> Result<(Generation, Bytes), PluginError> {
        self.read(plugin, &plugin.file).await
    }

    /// A generation of a plugin in a file.
    pub(super) async fn read(
        &self,
        plugin: &Plugin,
        file: &Path,
    ) -> Result<(Generation, Bytes), PluginError> {
        let read = self.loader.read(file).await;
        let (digest, bytes) = read.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound if file == plugin.file => {
                let (name, file) = (plugin.name.clone(), plugin.file.clone());
                PluginError::Missing { name, file, available: available(&self.directory) }
            }
            _ => PluginError::Unreadable { file: file.to_owned(), source },
        })?;
        Ok((Generation { plugin: plugin.name.clone(), digest }, bytes))
    }

    /// A generation that is kept.
    pub(super) async fn kept(
        &self,
        plugin: &Plugin,
        digest: Digest,
    ) -> Result<Arc<Component>, PluginError> {
        let archive = plugin.archive.clone();
        let bytes = self.loader.blocking(move || archive.bytes(digest)).await;
        let generation = Generation { plugin: plugin.name.clone(), digest: digest.0 };
        let bytes = bytes.map_err(|cause| plugin.refused(cause))?;
        self.load(plugin, generation, &bytes.into()).await
    }

    async fn load(
        &self,
        plugin: &Plugin,
        generation: Generation,
        bytes: &Bytes,
    ) -> Result<Arc<Component>, PluginError> {
        let component = self.loader.load(generation, bytes.clone()).await;
        component.map(Arc::new).map_err(|cause| plugin.refused(cause))
    }

    fn entry(&self, name: &Arc<str>) -> Arc<Plugin> {
        let make = || {
            let past = self.history_directory.as_ref().map(|directory| directory.join(&**name));
            let file = self.directory.join(format!("{name}.wasm"));
            Arc::new(Plugin::new(name.clone(), file, Archive::open(past)))
        };
        self.lock().entry(name.clone()).or_insert_with(make).clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Plugin>>> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
