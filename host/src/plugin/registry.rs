//! Every plugin by its name, and the exchange of generations.
//!
//! An exchange is one store of one pointer, which every use of that name reads: there is no moment at which two uses
//! begin calls on different generations. Before it, the new generation has been compiled and checked, and has given a
//! ready instance to every use; a failure before that point changes nothing but the status.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::SystemTime,
};

use arc_swap::ArcSwapOption;
use tokio::runtime;
use wasmtime::component::Linker;

use super::{
    cache::Cache,
    capability,
    component::{Component, digest},
    engine::Engine,
    host::{HostSettings, PluginError},
    instance::{Instance, Settings, State},
    status::{GenerationStatus, PluginStatus, Role},
    usage::Usage,
};
use crate::{
    config::{Isolation, PluginUse},
    handler::Generation,
};

/// Generations remembered.
const HISTORY: usize = 16;
/// A plugin's file may have this many bytes.
const FILE_SIZE: u64 = 256 << 20;

/// The plugins that were asked for.
pub(super) struct Registry {
    pub(super) directory: PathBuf,
    loader: Loader,
    plugins: Mutex<BTreeMap<Arc<str>, Arc<Plugin>>>,
}

/// What it takes to make a file into a component.
pub(super) struct Loader {
    engine: Arc<Engine>,
    linker: Arc<Linker<State>>,
    cache: Arc<Cache>,
    runtime: runtime::Handle,
}

/// One plugin.
pub(super) struct Plugin {
    pub(super) name: Arc<str>,
    pub(super) file: PathBuf,
    serving: ArcSwapOption<Component>,
    /// Held while a generation is proved and exchanged, and while a use is added: so no use misses an exchange.
    exchange: tokio::sync::Mutex<()>,
    uses: Mutex<Vec<Weak<Usage>>>,
    history: Mutex<History>,
}

#[derive(Default)]
struct History {
    generations: Vec<GenerationStatus>,
    last_error: Option<String>,
}

impl Loader {
    /// A loader on the process's engine.
    pub(super) fn new(settings: &HostSettings, runtime: runtime::Handle) -> wasmtime::Result<Self> {
        let engine = Engine::shared()?;
        let linker = Arc::new(capability::linker(engine.wasmtime())?);
        let cache = Arc::new(Cache::open(&settings.cache_directory));
        Ok(Self { engine, linker, cache, runtime })
    }

    /// Compiles on a thread where that disturbs nobody.
    async fn load(&self, generation: Generation, bytes: Vec<u8>) -> Result<Component, String> {
        let (linker, cache) = (self.linker.clone(), self.cache.clone());
        let load = move || Component::load(&linker, &cache, generation, &bytes);
        self.runtime
            .spawn_blocking(load)
            .await
            .unwrap_or_else(|error| Err(format!("compiling it broke down: {error}")))
    }
}

impl Registry {
    /// No plugin yet.
    pub(super) fn new(directory: PathBuf, loader: Loader) -> Self {
        Self { directory, loader, plugins: Mutex::default() }
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
        let settings = Settings::new(&owner, plugin, output_topic);
        let plugin = self.entry(&plugin.plugin);
        let _exchange = plugin.exchange.lock().await;
        let component = match plugin.serving() {
            Some(component) => component,
            None => self.first(&plugin).await.inspect_err(|error| {
                plugin.history().last_error = Some(error.to_string());
            })?,
        };
        let usage = Usage::new(
            (plugin.clone(), component.clone()),
            (owner, role),
            settings,
            self.loader.engine.clone(),
            isolation,
            max_instances,
        );
        let ready =
            plugin.prove(&usage, &component).await.map_err(|cause| plugin.refused(cause))?;
        usage.adopt(component.clone(), ready);
        let usage = Arc::new(usage);
        plugin.uses().push(Arc::downgrade(&usage));
        plugin.serve(component);
        Ok(usage)
    }

    /// Looks at the plugin's file, and exchanges the generation when it holds another one that is good.
    ///
    /// # Errors
    /// What is wrong with the file; the generation that serves goes on.
    pub(super) async fn refresh(&self, plugin: &Plugin) -> Result<(), PluginError> {
        let bytes = match read(&plugin.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => {
                return Err(PluginError::Unreadable { file: plugin.file.clone(), source });
            }
            Ok(bytes) => bytes,
        };
        let generation = Generation { plugin: plugin.name.clone(), digest: digest(&bytes) };
        let serves = || plugin.serving().is_some_and(|serving| serving.generation == generation);
        if serves() {
            plugin.history().last_error = None;
            return Ok(());
        }
        let refused = |cause| plugin.refused(cause);
        let component =
            Arc::new(self.loader.load(generation.clone(), bytes).await.map_err(refused)?);
        let _exchange = plugin.exchange.lock().await;
        if !serves() {
            plugin.exchange(component).await.map_err(refused)?;
        }
        Ok(())
    }

    async fn first(&self, plugin: &Plugin) -> Result<Arc<Component>, PluginError> {
        let bytes = match read(&plugin.file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let available = available(&self.directory);
                let file = plugin.file.clone();
                return Err(PluginError::Missing { name: plugin.name.clone(), file, available });
            }
            Err(source) => {
                return Err(PluginError::Unreadable { file: plugin.file.clone(), source });
            }
        };
        let generation = Generation { plugin: plugin.name.clone(), digest: digest(&bytes) };
        let component = self.loader.load(generation, bytes).await;
        component.map(Arc::new).map_err(|cause| plugin.refused(cause))
    }

    fn entry(&self, name: &Arc<str>) -> Arc<Plugin> {
        let make =
            || Arc::new(Plugin::new(name.clone(), self.directory.join(format!("{name}.wasm"))));
        self.lock().entry(name.clone()).or_insert_with(make).clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Plugin>>> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plugin {
    fn new(name: Arc<str>, file: PathBuf) -> Self {
        Self {
            name,
            file,
            serving: ArcSwapOption::empty(),
            exchange: tokio::sync::Mutex::default(),
            uses: Mutex::default(),
            history: Mutex::default(),
        }
    }

    /// What serves; `None` before the first use.
    pub(super) fn serving(&self) -> Option<Arc<Component>> {
        self.serving.load_full()
    }

    /// What is to be seen of it.
    pub(super) fn status(&self) -> PluginStatus {
        let serving = self.serving();
        let history = self.history();
        PluginStatus {
            name: self.name.clone(),
            roles: serving.as_ref().map(|component| component.roles.clone()).unwrap_or_default(),
            generation: serving.as_ref().map(|component| component.generation.clone()),
            since: history.generations.last().map(|generation| generation.since),
            last_error: history.last_error.clone(),
            generations: history.generations.clone(),
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
        self.history().last_error = Some(message);
    }

    /// An error with the file's name.
    fn refused(&self, cause: String) -> PluginError {
        PluginError::Refused { file: self.file.clone(), cause }
    }

    /// Proves `component` for every use and lets it serve.
    async fn exchange(&self, component: Arc<Component>) -> Result<(), String> {
        let uses: Vec<_> = self.uses().iter().filter_map(Weak::upgrade).collect();
        let mut ready = Vec::with_capacity(uses.len());
        for usage in uses {
            let instance = self.prove(&usage, &component).await?;
            ready.push((usage, instance));
        }
        self.serve(component.clone());
        for (usage, instance) in ready {
            usage.adopt(component.clone(), instance);
        }
        Ok(())
    }

    async fn prove(&self, usage: &Usage, component: &Component) -> Result<Instance, String> {
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

    fn serve(&self, component: Arc<Component>) {
        let mut history = self.history();
        history.last_error = None;
        let before = self.serving.swap(Some(component.clone()));
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &component)) {
            return;
        }
        tracing::info!(
            plugin = %self.name, generation = %component.generation.short(),
            before = before.map(|before| before.generation.short()), "The plugin serves."
        );
        let generation =
            GenerationStatus { generation: component.generation.clone(), since: SystemTime::now() };
        history.generations.push(generation);
        let surplus = history.generations.len().saturating_sub(HISTORY);
        history.generations.drain(..surplus);
    }

    /// The uses, without those that are gone.
    fn uses(&self) -> MutexGuard<'_, Vec<Weak<Usage>>> {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        uses.retain(|usage| usage.strong_count() > 0);
        uses
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let size = fs::metadata(file)?.len();
    if size > FILE_SIZE {
        return Err(io::Error::other(format!(
            "it has {size} bytes, a plugin has at most {FILE_SIZE}"
        )));
    }
    fs::read(file)
}

/// The names of the plugins in `directory`.
fn available(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".wasm")?.to_owned()))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
#[path = "../../tests/plugins/hostile.rs"]
#[allow(dead_code, reason = "the integration tests use more of it")]
mod hostile;

#[cfg(test)]
mod tests {
    use super::{
        super::Host,
        hostile::{GOOD, variant},
        *,
    };
    use crate::config::{Allow, Limits};

    #[tokio::test]
    async fn code_and_instances_go_with_the_last_call_of_their_generation() {
        let directory = tempfile::tempdir().unwrap();
        let host = Host::new(HostSettings {
            directory: directory.path().into(),
            cache_directory: directory.path().join("cache"),
            threads: 1,
        })
        .unwrap();
        let file = directory.path().join("p.wasm");
        fs::write(&file, GOOD.component()).unwrap();
        let plugin = PluginUse {
            plugin: "p".into(),
            config: [].into(),
            limits: Limits::default(),
            allow: Allow::default(),
        };
        let registry = host.registry();
        let role = ("group g".into(), Role::Handler);
        let usage = registry.usage(role, &plugin, None, Isolation::None, 4).await.unwrap();
        let old = Arc::downgrade(&usage.plugin.serving().unwrap());
        let turn = usage.turn().await;
        turn.give_back(turn.instance().await.unwrap());
        fs::write(&file, variant(&GOOD.component(), 1)).unwrap();
        registry.refresh(&usage.plugin).await.unwrap();
        assert!(old.upgrade().is_some(), "a call is in flight");
        let instance = turn.instance().await.unwrap();
        drop(turn);
        drop(instance);
        assert!(old.upgrade().is_none());
    }
}
