//! The Kafka of the checker: started, killed and started again by `.ci/kafka`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::error::Result;

/// A Kafka: one that was started here, and ends with this value or with this process; or a given one, which is left as it
/// is.
pub(crate) struct Cluster {
    directory: Option<PathBuf>,
    /// `HOST:PORT`, the same after a restart.
    pub(crate) address: String,
}

impl Cluster {
    /// Starts one that keeps its data in `directory`.
    pub(crate) fn start(directory: &Path) -> Result<Self> {
        Ok(Self { directory: Some(directory.into()), address: start(directory)? })
    }

    /// The one at `HOST:PORT`. It has to allow sessions of 3 s.
    pub(crate) fn given(address: &str) -> Self {
        Self { directory: None, address: address.into() }
    }

    /// Kills the broker, and starts it again with what it had, if it is ours.
    pub(crate) fn restart(&self) -> Result<()> {
        if let Some(directory) = &self.directory {
            script(Command::new(SCRIPT).arg("kill").arg(directory))?;
            start(directory)?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // Else it ends with this process.
            script(Command::new(SCRIPT).arg("stop").arg(directory)).ok();
        }
    }
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/kafka");

fn start(directory: &Path) -> Result<String> {
    let owner = std::process::id().to_string();
    script(Command::new(SCRIPT).args(["start", "kraft"]).arg(directory).arg(owner))
}

/// Runs the script; gives what it printed.
fn script(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout)?.trim().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().into())
}
