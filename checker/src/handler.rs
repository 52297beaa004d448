//! The handler under test, `checker/witness`, as a file in a directory of plugins.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use keyway::plugin::build;

use crate::error::{Error, Result};

/// Its name.
pub(crate) const NAME: &str = "witness";

/// Builds the component.
pub(crate) fn build() -> Result<Vec<u8>> {
    let components = work_directory()?.join("plugins");
    fs::create_dir_all(&components)?;
    let lock = File::create(components.join(".lock"))?;
    lock.lock()?; // several checkers may begin at once
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(NAME);
    build::build(&[source], &work_directory()?.join("../plugins"), &components)?;
    Ok(fs::read(components.join(format!("{NAME}.wasm")))?)
}

/// Puts a generation of it into a directory of plugins, in place of the one that is there.
pub(crate) fn install(component: &[u8], generation: u8, directory: &Path) -> Result<()> {
    // A custom section, which says nothing to anybody: the same code, and another digest.
    let section = [0, 3, 1, b'g', generation];
    let temporary = directory.join("next");
    fs::write(&temporary, [component, &section].concat())?;
    Ok(fs::rename(temporary, directory.join(format!("{NAME}.wasm")))?)
}

/// Where the checker keeps everything: beside this program.
pub(crate) fn work_directory() -> Result<PathBuf> {
    let program = env::current_exe()?;
    let target = program.parent().and_then(Path::parent);
    Ok(target.ok_or_else(|| Error::from("this program is nowhere"))?.join("checker"))
}
