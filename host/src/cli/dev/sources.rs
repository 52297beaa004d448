//! Plugins from their sources: those that the configuration names before the gateway starts, the others and whichever
//! changed while it runs.

use std::{
    collections::HashSet,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::sync::mpsc;

use crate::{
    cli::{Error, plugin::build::TARGET_DIRECTORY},
    config::Config,
    plugin::build::{self, BuildError, Sources, source_folders},
};

/// How often the sources are looked at.
const LOOK: Duration = Duration::from_millis(300);
/// Failures that wait to be shown.
const WAITING: usize = 16;

/// The source folders of a directory of plugins.
pub(super) struct Workshop {
    directory: PathBuf,
    /// The plugins without which the gateway cannot start.
    named: HashSet<Arc<str>>,
    sources: Sources,
    /// What is to be built while the gateway runs, the next one last.
    pending: Vec<PathBuf>,
}

impl Workshop {
    pub(super) fn new(config: &Config) -> Self {
        let selectors = config.topics.iter().filter_map(|topic| topic.key_selector.as_ref());
        let uses = config.groups.iter().map(|group| &group.handler).chain(selectors);
        Self {
            directory: config.plugins.directory.clone(),
            named: uses.map(|plugin| plugin.plugin.clone()).collect(),
            sources: Sources::default(),
            pending: Vec::new(),
        }
    }

    /// Builds what the configuration names, and says so; the others keep nobody waiting. What does not build is told and
    /// left out: it is missed when the gateway is built.
    ///
    /// # Errors
    /// Standard output is gone.
    pub(super) fn build_named(&mut self) -> Result<(), Error> {
        let folders = self.sources.changed(&source_folders(&self.directory));
        let (named, others): (Vec<_>, Vec<_>) =
            folders.into_iter().filter(|folder| !self.is_up_to_date(folder)).partition(|folder| {
                build::plugin_name(folder).is_ok_and(|name| self.named.contains(&*name))
            });
        self.pending = others.into_iter().rev().collect();
        for folder in &named {
            // The first build takes its time, and nothing else is shown yet.
            let folder_name = folder.display();
            writeln!(io::stdout(), "building {folder_name}; the first time takes longest")?;
            if let Err(error) = self.build(folder) {
                writeln!(io::stdout(), "{error}")?;
            }
        }
        Ok(())
    }

    /// Goes on building what is left and what changes, the latest change first, on a thread of its own that ends with the
    /// process. The gateway finds the new components by itself; what does not build is told.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn follow(mut self) -> io::Result<mpsc::Receiver<BuildError>> {
        let (failed, failures) = mpsc::channel(WAITING);
        let follow = move || {
            while !failed.is_closed() {
                for folder in self.sources.changed(&source_folders(&self.directory)) {
                    self.pending.retain(|pending| *pending != folder);
                    self.pending.push(folder);
                }
                match self.pending.pop().map(|folder| self.build(&folder)) {
                    Some(Ok(())) => {}
                    // Nobody keeps up with sixteen failures; the next change builds again.
                    Some(Err(error)) => drop(failed.try_send(error)),
                    None => thread::sleep(LOOK),
                }
            }
        };
        thread::Builder::new().name("keyway-build".into()).spawn(follow)?;
        Ok(failures)
    }

    fn is_up_to_date(&self, folder: &Path) -> bool {
        build::plugin_name(folder).is_ok_and(|name| {
            build::is_up_to_date(folder, &self.directory.join(format!("{name}.wasm")))
        })
    }

    fn build(&self, folder: &PathBuf) -> Result<(), BuildError> {
        let folders = std::slice::from_ref(folder);
        build::build(folders, Path::new(TARGET_DIRECTORY), &self.directory).map(drop)
    }
}
