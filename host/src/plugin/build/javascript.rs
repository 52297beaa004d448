//! JavaScript and TypeScript: npm, which installs what `package.json` names and runs its `build`.
//!
//! How the component is made is the project's own affair, in the `build` script: it ends with `dist/plugin.wasm`.

use std::{fs, path::Path};

use super::{
    BuildError, modified, read,
    tool::{Tool, succeeded},
};

const NPM: Tool = Tool {
    program: "npm",
    purpose: "builds JavaScript and TypeScript",
    install: "Install Node.js 20 or newer with npm: apt-get install npm, or https://nodejs.org",
};

const COMPONENT: &str = "dist/plugin.wasm";

pub(super) fn build(folder: &Path) -> Result<Vec<u8>, BuildError> {
    install(folder)?;
    let component = folder.join(COMPONENT);
    fs::remove_file(&component).ok(); // what is there is of the last build, if of any
    succeeded(NPM.output(folder, ["run", "--silent", "build"])?, folder)?;
    if !component.is_file() {
        let reason = format!("its build script, in package.json, makes no {COMPONENT}");
        return Err(BuildError::NoComponent { folder: folder.into(), reason });
    }
    read(&component)
}

/// Installs what `package.json` names into the project's `node_modules`, unless it is there.
fn install(folder: &Path) -> Result<(), BuildError> {
    let (manifest, lock) = (folder.join("package.json"), folder.join("package-lock.json"));
    let installed = modified(&folder.join("node_modules/.package-lock.json"));
    if installed.is_some() && installed >= modified(&manifest) && installed >= modified(&lock) {
        return Ok(());
    }
    let install = if lock.is_file() { "ci" } else { "install" };
    let arguments = [install, "--no-audit", "--no-fund", "--loglevel=error"];
    succeeded(NPM.output(folder, arguments)?, folder).map(drop)
}
