//! A look at what a key selector would decide, in any of its generations and under any configuration, without letting it
//! serve.
//!
//! Invariants: the selector that is given stays with one generation, whichever comes to serve; it counts for no use of the
//! plugin, and nothing of what it does gets out but lines on the log, which say what they are for.

use std::{path::Path, sync::Arc};

use super::{
    archive::Archive,
    component::Component,
    entry::Plugin,
    history::Unfit,
    host::{GenerationError, Host},
    instance::Settings,
    registry::Registry,
    selector::PluginSelector,
    status::Role,
    usage::Usage,
};
use crate::{
    config::{Isolation, PluginUse, Source},
    handler::Selector,
};

impl Host {
    /// `plugin` as a key selector for a look, in the generation that serves now, or that of `source`. One that is not used
    /// here can be looked at from a file.
    ///
    /// # Errors
    /// See [`GenerationError`].
    pub async fn preview(
        &self,
        owner: &str,
        plugin: &PluginUse,
        source: Option<&Source>,
    ) -> Result<Arc<dyn Selector>, GenerationError> {
        let (host, owner) = (self.0.clone(), owner.to_owned());
        let (used, source) = (plugin.clone(), source.cloned());
        self.on_a_task(async move {
            let usage = host.registry.preview(owner, &used, source.as_ref()).await?;
            Ok(Arc::new(PluginSelector::new(usage, host.threads.clone())) as Arc<dyn Selector>)
        })
        .await
    }
}

impl Registry {
    async fn preview(
        &self,
        owner: String,
        used: &PluginUse,
        source: Option<&Source>,
    ) -> Result<Arc<Usage>, GenerationError> {
        let plugin = match (self.plugin(&used.plugin), source) {
            (Some(plugin), _) => plugin,
            (None, Some(Source::File(file))) => stranger(&used.plugin, file),
            (None, _) => return Err(GenerationError::UnknownPlugin(used.plugin.to_string())),
        };
        let component = self.looked_at(&plugin, source).await?;
        let settings = Settings::of_preview(&owner, used, self.loader().network());
        let usage = Usage::new(
            (plugin.clone(), component.clone()),
            (owner, Role::Selector),
            Arc::new(settings),
            self.loader().engine(),
            Isolation::None,
            1,
        );
        let usage = usage.pin();
        let ready = plugin.prove(&usage, &component).await.map_err(GenerationError::Unusable)?;
        usage.adopt(component, ready);
        Ok(Arc::new(usage))
    }

    async fn looked_at(
        &self,
        plugin: &Plugin,
        source: Option<&Source>,
    ) -> Result<Arc<Component>, GenerationError> {
        let serving = || {
            let unknown = || GenerationError::UnknownPlugin(plugin.name.to_string());
            plugin.serving().ok_or_else(unknown)
        };
        let Some(source) = source else { return serving() };
        if let Source::Generation(prefix) = source {
            let view = plugin.archive.view();
            if let Err(Unfit::Serves(_)) = view.history().find(prefix, |digest| view.keeps(digest))
            {
                drop(view);
                return serving();
            }
        }
        Ok(self.candidate(plugin, source).await?.component)
    }
}

/// A plugin that nobody uses and that is forgotten after the look.
fn stranger(name: &Arc<str>, file: &Path) -> Arc<Plugin> {
    Arc::new(Plugin::new(name.clone(), file.to_owned(), Archive::open(None)))
}
