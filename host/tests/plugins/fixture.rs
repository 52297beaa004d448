//! A host with a directory of its own, and records for it.

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use keyway::{
    config::{Allow, Isolation, Limits, PluginUse},
    handler::{Delivery, Handler, Outcome, RunReport, Selector},
    plugin::{Host, HostSettings, PluginError, PluginStatus},
    record::{NewRecord, Record},
};
use tempfile::TempDir;

use crate::{examples, guests};

/// How long a condition may take to come true.
const DEADLINE: Duration = Duration::from_secs(30);

/// A host over a temporary directory.
pub(crate) struct Fixture {
    pub(crate) host: Host,
    pub(crate) directory: PathBuf,
    pub(crate) cache: PathBuf,
    root: TempDir,
}

impl Fixture {
    /// A host with two threads over an empty directory.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("plugins");
        fs::create_dir(&directory).unwrap();
        Self::over(root, directory)
    }

    /// A host over `directory` in `root`; it need not exist.
    pub(crate) fn over(root: TempDir, directory: PathBuf) -> Self {
        // Shared by all tests: they are about plugins, and compiling the same ones again would be most of their time.
        let cache = examples::built().join("cache");
        let host = Self::host(root.path(), &directory, &cache);
        Self { host, directory, cache, root }
    }

    /// The same with a cache of its own.
    pub(crate) fn with_own_cache(mut self) -> Self {
        self.cache = self.root.path().join("cache");
        self.restart();
        self
    }

    /// The directory around the plugin directory.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Another host over the same directories, as after a restart.
    pub(crate) fn restart(&mut self) {
        self.host = Self::host(self.root.path(), &self.directory, &self.cache);
    }

    fn host(root: &Path, directory: &Path, cache: &Path) -> Host {
        Host::new(HostSettings {
            directory: directory.into(),
            cache_directory: cache.into(),
            history_directory: Some(root.join("history")),
            threads: 2,
        })
        .unwrap()
    }

    /// Puts the examples there, under their own names.
    pub(crate) fn with(self, names: &[&str]) -> Self {
        for example in names {
            examples::install(example, &self.directory, example);
        }
        self
    }

    /// Puts test guests there, under their own names.
    pub(crate) fn with_guests(self, names: &[&str]) -> Self {
        for guest in names {
            guests::install(guest, &self.directory);
        }
        self
    }

    /// Puts `bytes` there as `name`, atomically.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        let temporary = self.directory.join(format!("{name}.tmp"));
        fs::write(&temporary, bytes).unwrap();
        fs::rename(temporary, self.file(name)).unwrap();
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.wasm"))
    }

    /// A handler with four instances and an output topic.
    pub(crate) async fn handler(
        &self,
        plugin: &PluginUse,
    ) -> Result<Arc<dyn Handler>, PluginError> {
        self.host.handler("group g", plugin, Some("out".into()), Isolation::None, 4).await
    }

    pub(crate) async fn selector(
        &self,
        plugin: &PluginUse,
    ) -> Result<Arc<dyn Selector>, PluginError> {
        self.host.selector("topic t", plugin).await
    }

    pub(crate) fn status(&self, name: &str) -> PluginStatus {
        self.host.status(name).unwrap()
    }

    /// Waits until the plugin's file was refused, and gives the reason.
    pub(crate) async fn refusal(&self, name: &str) -> String {
        until("the file is refused", || self.status(name).last_error).await
    }

    /// Waits until the plugin has had `count` generations.
    pub(crate) async fn generations(&self, name: &str, count: usize) {
        until("another generation serves", || {
            (self.status(name).generations.len() >= count).then_some(())
        })
        .await;
    }
}

/// A use of `plugin` with nothing configured.
pub(crate) fn using(plugin: &str) -> PluginUse {
    PluginUse {
        plugin: plugin.into(),
        config: [].into(),
        limits: Limits::default(),
        allow: Allow::default(),
    }
}

/// The same with one value configured.
pub(crate) fn configured(plugin: &str, key: &str, value: &str) -> PluginUse {
    PluginUse { config: [(key.into(), value.into())].into(), ..using(plugin) }
}

/// A record of `my-topic` at `offset`.
pub(crate) fn delivery(offset: u64, value: &str) -> Delivery {
    let record = Record {
        topic: "my-topic".into(),
        partition: 0,
        offset,
        timestamp: Some(1_700_000_000_000),
        key: Some("k".into()),
        value: Some(value.to_owned().into()),
        headers: Vec::new(),
    };
    Delivery { record, attempt: 1 }
}

/// A record to be written to `t`.
pub(crate) fn candidate(value: &str) -> NewRecord {
    NewRecord::new("t", value.to_owned())
}

/// Handles one record.
pub(crate) async fn handle(handler: &Arc<dyn Handler>, value: &str) -> Outcome {
    run(handler, &[value]).await.outcomes.remove(0)
}

/// Handles a run of records with these values, in as many goes as it takes, until one is not handled.
pub(crate) async fn run(handler: &Arc<dyn Handler>, values: &[&str]) -> RunReport {
    let run = values.iter().enumerate().map(|(offset, value)| delivery(offset as u64, value));
    let mut all = handler.handle(run.collect()).await;
    while all.outcomes.len() < all.deliveries.len()
        && matches!(all.outcomes.last(), Some(Outcome::Handled(_)))
    {
        let more = handler.handle(all.deliveries.split_off(all.outcomes.len())).await;
        all.deliveries.extend(more.deliveries);
        all.outcomes.extend(more.outcomes);
    }
    all
}

/// What was emitted, as text.
pub(crate) fn emitted(outcome: &Outcome) -> Vec<&str> {
    let Outcome::Handled(records) = outcome else { panic!("not handled: {outcome:?}") };
    records
        .iter()
        .map(|record| std::str::from_utf8(record.value.as_ref().unwrap()).unwrap())
        .collect()
}

/// Waits until `condition` gives something.
pub(crate) async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(began.elapsed() < DEADLINE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `work`, which must end before the deadline.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("it took too long")
}
