//! The face of the plugin host.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    path::PathBuf,
    sync::Arc,
};

use tokio::runtime::{self, Runtime};

use super::{
    capability::metrics::UseMetrics,
    entry::Plugin,
    handler::PluginHandler,
    history::Unfit,
    loader::Loader,
    registry::Registry,
    rehearsal::Rehearsal,
    reload::Watch,
    selector::{self, PluginSelector},
    status::{PluginStatus, Role},
    usage::Usage,
};
use crate::{
    config::{Isolation, PluginUse},
    handler::{Beginning, Generation, Handler, Selector},
};

/// Where plugins are and what they run on.
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// The directory that holds the `.wasm` files. It may not exist yet.
    pub directory: PathBuf,
    /// Where compiled code is kept between starts; made when missing, and closed to other users.
    pub cache_directory: PathBuf,
    /// Where each plugin's past is kept over a restart: which generations served, and their bytes. Made when there is
    /// something to keep. `None`: nothing is kept, and there is nothing to roll back to.
    pub history_directory: Option<PathBuf>,
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
    /// The canary or the shadow that is configured cannot be tried.
    #[error("the {what} of {owner}: {cause}")]
    Trial {
        /// `canary` or `shadow`.
        what: &'static str,
        /// Whose.
        owner: String,
        /// Why not.
        cause: GenerationError,
    },
    /// The engine or its threads cannot be had.
    #[error("the plugin host cannot start: {0}")]
    Start(String),
}

/// Why a plugin's generation was not chosen, or not tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerationError {
    /// No such plugin is used here.
    #[error("there is no plugin {0:?}")]
    UnknownPlugin(String),
    /// There is nothing older.
    #[error(
        "there is no generation of {0} before the one that serves that is kept and was not rolled back from; its history lists what there is"
    )]
    NoOlder(Arc<str>),
    /// No generation that is kept has such a digest.
    #[error(
        "no generation of {plugin} that is kept has a digest that begins with {given:?}; its history lists those that are"
    )]
    UnknownGeneration {
        /// The plugin.
        plugin: Arc<str>,
        /// What was asked for.
        given: String,
    },
    /// More than one has.
    #[error("{given:?} may be {}; give more digits", candidates.join(" or "))]
    Ambiguous {
        /// What was asked for.
        given: String,
        /// What it may be, as whole digests.
        candidates: Vec<String>,
    },
    /// The topic has no key selector.
    #[error(
        "topic {0:?} has no key selector whose generation that could be; give a component file"
    )]
    NoSelector(Arc<str>),
    /// It is the one that serves.
    #[error("{0} serves already")]
    Serves(String),
    /// The generation does not work for what uses the plugin now. Nothing has changed.
    #[error("it cannot serve, and what served serves on: {0}")]
    Unusable(String),
    /// Nobody meant has it handle records in this process.
    #[error("{plugin} is not the handler of {by} in this process: there is nothing to try it with")]
    NotUsed {
        /// The plugin.
        plugin: Arc<str>,
        /// Whose handler it would be.
        by: String,
    },
    /// Nothing is tried, or nothing that was meant.
    #[error("no such generation of {0} is tried")]
    NotTried(Arc<str>),
    /// More than one is.
    #[error("more than one generation of {plugin} is tried: {}; say which is meant", generations.join(", "))]
    ManyTried {
        /// The plugin.
        plugin: Arc<str>,
        /// The generations.
        generations: Vec<String>,
    },
    /// It serves, but a restart forgets that.
    #[error(
        "that is in force now, but could not be remembered, so a restart takes the file again: {0}"
    )]
    NotRemembered(String),
}

impl GenerationError {
    /// Why nothing was found for `to`.
    pub(super) fn of(plugin: &Arc<str>, to: Option<&str>, unfit: Unfit) -> Self {
        let given = to.unwrap_or_default().to_owned();
        match unfit {
            Unfit::NoOlder => Self::NoOlder(plugin.clone()),
            Unfit::Unknown => Self::UnknownGeneration { plugin: plugin.clone(), given },
            Unfit::Ambiguous(candidates) => {
                let candidates = candidates.iter().map(ToString::to_string).collect();
                Self::Ambiguous { given, candidates }
            }
            Unfit::Serves(digest) => {
                let generation = Generation { plugin: plugin.clone(), digest: digest.0 };
                Self::Serves(generation.to_string())
            }
        }
    }
}

fn listed(available: &[String]) -> String {
    match available {
        [] => "no plugin is there; `keyway plugin new` makes one".into(),
        names => format!("there are {}", names.join(", ")),
    }
}

/// The plugin host. Clones are the same host; its threads end with the last of them and with the last handler and
/// selector it gave.
#[derive(Clone)]
pub struct Host(pub(super) Arc<Inner>);

/// What the clones share.
pub(super) struct Inner {
    pub(super) registry: Registry,
    pub(super) threads: Arc<Threads>,
}

/// The threads that guests run on, and the one of their sockets.
pub(super) struct Threads(Option<Runtimes>);

struct Runtimes {
    guests: Runtime,
    network: Runtime,
}

impl Threads {
    fn start(threads: usize) -> io::Result<Self> {
        let guests = runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("keyway-handler")
            // A task here is a run of records or a guest's slice of 5 ms: looking for new tasks and timers costs little
            // beside it, and rarer looks would let guests who never end hold up the others.
            .global_queue_interval(2)
            .event_interval(2)
            .enable_time()
            .build()?;
        let network = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(16) // each looks a name up
            .thread_name("keyway-network")
            .enable_all()
            .build()?;
        Ok(Self(Some(Runtimes { guests, network })))
    }

    /// A handle to spawn guests with.
    pub(super) fn handle(&self) -> runtime::Handle {
        self.runtimes().guests.handle().clone()
    }

    /// A handle to spawn with what has sockets and runs no guest: no guest holds it up.
    pub(super) fn network(&self) -> runtime::Handle {
        self.runtimes().network.handle().clone()
    }

    fn runtimes(&self) -> &Runtimes {
        self.0.as_ref().expect("they are taken only when dropped")
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(Runtimes { guests, network }) = self.0.take() {
            guests.shutdown_background(); // waiting is not allowed where this may be dropped
            network.shutdown_background();
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
        let loader = Loader::new(&settings, &threads).map_err(|error| start(&error))?;
        let registry = Registry::new(settings, loader);
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
        let role = (owner.to_owned(), Role::Handler);
        let usage = self.usage(role, plugin, output_topic, isolation, max_instances).await?;
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
        let usage =
            self.usage(role, plugin, None, Isolation::None, selector::MAX_INSTANCES).await?;
        Ok(Arc::new(PluginSelector::new(usage, self.0.threads.clone())))
    }

    /// `plugin` in a role, to be called record by record with the limits, the capabilities and the failures that it has
    /// behind a gateway. Loads and proves it as [`handler`](Self::handler) does.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub async fn rehearse(
        &self,
        (owner, role): (&str, Role),
        plugin: &PluginUse,
        output_topic: Option<Arc<str>>,
        isolation: Isolation,
    ) -> Result<Rehearsal, PluginError> {
        let role = (owner.to_owned(), role);
        let usage = self.usage(role, plugin, output_topic, isolation, 1).await?;
        Ok(Rehearsal::new(usage, self.0.threads.clone()))
    }

    /// Makes a use on the guests' threads: several are made at the same time, and an `init` holds up nobody but guests.
    async fn usage(
        &self,
        role: (String, Role),
        plugin: &PluginUse,
        output_topic: Option<Arc<str>>,
        isolation: Isolation,
        max_instances: usize,
    ) -> Result<Arc<Usage>, PluginError> {
        let (host, plugin) = (self.0.clone(), plugin.clone());
        let usage = async move {
            host.registry.usage(role, &plugin, output_topic, isolation, max_instances).await
        };
        let made = self.0.threads.handle().spawn(usage).await;
        made.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
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

    /// Goes back to the generation that served before, or to the one whose digest begins with `to`; the plugin's name and
    /// an `@` may be before that. All uses go over at once, and stay there over a restart until the file holds a
    /// generation that was not rolled back from.
    ///
    /// # Errors
    /// See [`GenerationError`]; nothing has changed but with the last.
    pub async fn roll_back(&self, name: &str, to: Option<&str>) -> Result<(), GenerationError> {
        let plugin = self.known(name)?;
        let to = to.map(|to| to.strip_prefix(&format!("{name}@")).unwrap_or(to).to_owned());
        let host = self.0.clone();
        self.on_a_task(async move { host.registry.roll_back(&plugin, to.as_deref()).await }).await
    }

    pub(super) fn known(&self, name: &str) -> Result<Arc<Plugin>, GenerationError> {
        let plugin = self.0.registry.plugin(name);
        plugin.ok_or_else(|| GenerationError::UnknownPlugin(name.to_owned()))
    }

    /// Does it whether or not whoever asked stays to hear of it.
    pub(super) async fn on_a_task<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, GenerationError>> + Send + 'static,
    ) -> Result<T, GenerationError> {
        let done = self.0.threads.handle().spawn(task).await;
        done.unwrap_or_else(|error| Err(GenerationError::Unusable(error.to_string())))
    }

    /// Takes note of where generations began. Never waits for the disk; see [`remember`](Self::remember).
    pub fn note(&self, beginnings: impl IntoIterator<Item = Beginning>) {
        beginnings.into_iter().for_each(|beginning| self.0.registry.note(beginning));
    }

    /// Writes to the disk what was noted. What goes wrong is logged and in the status.
    pub async fn remember(&self) {
        self.0.registry.flush().await;
    }

    /// What plugins have counted and measured themselves, by plugin and owner.
    pub fn metrics(&self) -> Vec<UseMetrics> {
        let mut all: BTreeMap<_, UseMetrics> = BTreeMap::new();
        for metrics in self.0.registry.plugins().iter().flat_map(|plugin| plugin.metrics()) {
            match all.entry((metrics.plugin.clone(), metrics.owner.clone())) {
                Entry::Vacant(entry) => drop(entry.insert(metrics)),
                Entry::Occupied(entry) => entry.into_mut().merge(metrics),
            }
        }
        all.into_values().collect()
    }

    #[cfg(test)]
    pub(super) fn registry(&self) -> &Registry {
        &self.0.registry
    }
}
