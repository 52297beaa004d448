//! The face of the plugin host.

use std::{io, path::PathBuf, sync::Arc};

use tokio::runtime::{self, Runtime};

use super::{
    handler::PluginHandler,
    registry::{Loader, Registry},
    reload::Watch,
    selector::{self, PluginSelector},
    status::{PluginStatus, Role},
};
use crate::{
    config::{Isolation, PluginUse},
    handler::{Handler, Selector},
};

/// Where plugins are and what they run on.
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// The directory that holds the `.wasm` files. It may not exist yet.
    pub directory: PathBuf,
    /// Where compiled code is kept between starts; made when missing, and closed to other users.
    pub cache_directory: PathBuf,
    /// How many threads handlers run on, at least 1.
    pub threads: usize,
}

/// Why a plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// There is no such file.
    #[error("there is no plugin `{name}`: {} does not exist; {}", file.display(), listed(available))]
    Missing {
        /// The name that was asked for.
        name: Arc<str>,
        /// The file it would be.
        file: PathBuf,
        /// The plugins that are there.
        available: Vec<String>,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not what it has to be.
    #[error("{} is refused: {cause}", file.display())]
    Refused {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The engine or its threads cannot be had.
    #[error("the plugin host cannot start: {0}")]
    Start(String),
}

fn listed(available: &[String]) -> String {
    match available {
        [] => "no plugin is there".into(),
        names => format!("there are {}", names.join(", ")),
    }
}

/// The plugin host. Clones are the same host; its threads end with the last of them and with the last handler and
/// selector it gave.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

/// What the clones share.
pub(super) struct Inner {
    pub(super) registry: Registry,
    pub(super) threads: Arc<Threads>,
}

/// The threads that guests run on.
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    fn start(threads: usize) -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("keyway-handler")
            // A task here is a run of records or a guest's slice of 5 ms: looking for new tasks and timers costs little
            // beside it, and rarer looks would let guests who never end hold up the others.
            .global_queue_interval(2)
            .event_interval(2)
            .enable_time()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// A handle to spawn with.
    pub(super) fn handle(&self) -> runtime::Handle {
        self.0.as_ref().expect("it is taken only when dropped").handle().clone()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background(); // waiting is not allowed where this may be dropped
        }
    }
}

impl Host {
    /// A host that has loaded nothing yet.
    ///
    /// # Errors
    /// When there is no room for the engine's pool, or no thread can be had.
    pub fn new(settings: HostSettings) -> Result<Self, PluginError> {
        let start = |error: &dyn std::fmt::Display| PluginError::Start(error.to_string());
        let threads = Arc::new(Threads::start(settings.threads).map_err(|error| start(&error))?);
        let loader = Loader::new(&settings, threads.handle()).map_err(|error| start(&error))?;
        let registry = Registry::new(settings.directory, loader);
        Ok(Self(Arc::new(Inner { registry, threads })))
    }

    /// `plugin` as the handler of `owner` (such as `group my-topic-group-1`), with at most `max_instances` runs at
    /// once; more wait. Loads the plugin when it is not loaded yet, and makes an instance, so that a configuration it
    /// does not like is known now.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub async fn handler(
        &self,
        owner: &str,
        plugin: &PluginUse,
        output_topic: Option<Arc<str>>,
        isolation: Isolation,
        max_instances: usize,
    ) -> Result<Arc<dyn Handler>, PluginError> {
        let (registry, owner) = (&self.0.registry, owner.to_owned());
        let usage = registry
            .usage((owner, Role::Handler), plugin, output_topic, isolation, max_instances)
            .await?;
        Ok(Arc::new(PluginHandler::new(usage, self.0.threads.clone())))
    }

    /// `plugin` as the key selector of `owner` (such as `topic my-topic`). Loads and proves it as
    /// [`handler`](Self::handler) does.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub async fn selector(
        &self,
        owner: &str,
        plugin: &PluginUse,
    ) -> Result<Arc<dyn Selector>, PluginError> {
        let role = (owner.to_owned(), Role::Selector);
        let usage = self
            .0
            .registry
            .usage(role, plugin, None, Isolation::None, selector::MAX_INSTANCES)
            .await?;
        Ok(Arc::new(PluginSelector::new(usage, self.0.threads.clone())))
    }

    /// Watches the directory until the guard is dropped: a changed file is loaded, and when it is good it serves.
    ///
    /// # Errors
    /// When no thread can be had. A directory that cannot be watched is looked at each second instead.
    pub fn watch(&self) -> Result<Watch, PluginError> {
        Watch::start(Arc::downgrade(&self.0), &self.0.registry.directory)
            .map_err(|error| PluginError::Start(error.to_string()))
    }

    /// Every plugin that was ever asked for, by name.
    pub fn statuses(&self) -> Vec<PluginStatus> {
        self.0.registry.plugins().iter().map(|plugin| plugin.status()).collect()
    }

    /// One of them.
    pub fn status(&self, name: &str) -> Option<PluginStatus> {
        self.0.registry.plugin(name).map(|plugin| plugin.status())
    }

    #[cfg(test)]
    pub(super) fn registry(&self) -> &Registry {
        &self.0.registry
    }
}
