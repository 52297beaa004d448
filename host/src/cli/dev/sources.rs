//! Plugins from their sources: all of them before the gateway starts, then whichever changed.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use tokio::sync::mpsc;

use crate::{
    cli::Error,
    plugin::build::{BuildError, Sources, build, source_folders},
};

/// Where dependencies of plugins are compiled, seen from the working directory.
const TARGET_DIRECTORY: &str = "target/plugins";
/// How often the sources are looked at.
const LOOK: Duration = Duration::from_millis(300);
/// Failures that wait to be shown.
const WAITING: usize = 16;

/// The source folders of a directory of plugins.
pub(super) struct Workshop {
    directory: PathBuf,
    target_directory: PathBuf,
    sources: Sources,
}

impl Workshop {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            target_directory: PathBuf::from(TARGET_DIRECTORY),
            sources: Sources::default(),
        }
    }

    /// Builds everything there is to build, and says so. What does not build is told and left out: a plugin that the
    /// configuration does not name keeps nobody waiting, and one that it does is missed when the gateway is built.
    ///
    /// # Errors
    /// Standard output is gone.
    pub(super) fn build_all(&mut self) -> Result<(), Error> {
        let folders = source_folders(&self.directory);
        self.sources.changed(&folders);
        for folder in &folders {
            // The first build takes its time, and nothing else is shown yet.
            writeln!(io::stdout(), "building {}", folder.display())?;
            if let Err(error) = self.build(folder) {
                writeln!(io::stdout(), "{error}")?;
            }
        }
        Ok(())
    }

    /// Goes on building what changes, on a thread of its own that ends with the process. The gateway finds the new
    /// components by itself; what does not build is told.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn follow(mut self) -> std::io::Result<mpsc::Receiver<BuildError>> {
        let (failed, failures) = mpsc::channel(WAITING);
        let follow = move || {
            while !failed.is_closed() {
                for folder in self.sources.changed(&source_folders(&self.directory)) {
                    if let Err(error) = self.build(&folder) {
                        // Nobody keeps up with sixteen failures; the next change builds again.
                        failed.try_send(error).ok();
                    }
                }
                thread::sleep(LOOK);
            }
        };
        thread::Builder::new().name("keyway-build".into()).spawn(follow)?;
        Ok(failures)
    }

    fn build(&self, folder: &PathBuf) -> Result<(), BuildError> {
        build(std::slice::from_ref(folder), &self.target_directory, &self.directory).map(drop)
    }
}
