//! From a file to a component: reading it, knowing it by its digest, compiling it.
//!
//! All of that is done on threads that may wait for the disk and the compiler. Knows no plugin by name; what a file is
//! taken for is the [`registry`](super::registry)'s.

use std::{fs, io, path::Path, sync::Arc};

use bytes::Bytes;
use tokio::runtime;
use wasmtime::component::Linker;

use super::{
    cache::Cache,
    capability,
    component::{Component, digest},
    engine::Engine,
    host::{HostSettings, Threads},
    instance::State,
};
use crate::handler::Generation;

/// A plugin's file may have this many bytes.
const FILE_SIZE: u64 = 256 << 20;

/// What it takes to make a file into a component.
pub(super) struct Loader {
    engine: Arc<Engine>,
    linker: Arc<Linker<State>>,
    cache: Arc<Cache>,
    runtime: runtime::Handle,
    network: runtime::Handle,
}

impl Loader {
    /// A loader on the process's engine.
    pub(super) fn new(settings: &HostSettings, threads: &Threads) -> wasmtime::Result<Self> {
        let engine = Engine::shared()?;
        let linker = Arc::new(capability::linker(engine.wasmtime())?);
        let cache = Arc::new(Cache::open(&settings.cache_directory));
        let (runtime, network) = (threads.handle(), threads.network());
        Ok(Self { engine, linker, cache, runtime, network })
    }

    /// The process's engine.
    pub(super) fn engine(&self) -> Arc<Engine> {
        self.engine.clone()
    }

    /// Where sockets are served.
    pub(super) fn network(&self) -> runtime::Handle {
        self.network.clone()
    }

    /// What a file holds, with its digest.
    ///
    /// # Errors
    /// It cannot be read, or is larger than a plugin may be.
    pub(super) async fn read(&self, file: &Path) -> io::Result<([u8; 32], Bytes)> {
        let file = file.to_owned();
        let read = move || read(&file).map(|bytes| (digest(&bytes), bytes.into()));
        self.blocking(read).await
    }

    /// Compiles on a thread where that disturbs nobody.
    pub(super) async fn load(
        &self,
        generation: Generation,
        bytes: Bytes,
    ) -> Result<Component, String> {
        let (linker, cache) = (self.linker.clone(), self.cache.clone());
        let load = move || Component::load(&linker, &cache, generation, &bytes);
        self.runtime
            .spawn_blocking(load)
            .await
            .unwrap_or_else(|error| Err(format!("compiling it broke down: {error}")))
    }

    /// Does what may wait for the disk.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let done = self.runtime.spawn_blocking(work).await;
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
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
pub(super) fn available(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".wasm")?.to_owned()))
        .collect();
    names.sort();
    names
}
