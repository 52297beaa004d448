//! Python: componentize-py, in a virtual environment of Keyway's own that holds what `requirements.txt` names.
//!
//! The plugin is the module `app` at the top of its folder. Projects with the same requirements share an environment.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    BuildError, at, read,
    tool::{Tool, command, succeeded},
    world::BINDINGS,
};

const PYTHON: Tool = Tool {
    program: "python3",
    purpose: "builds Python",
    install: "Install Python 3.10 or newer: apt-get install python3 python3-venv, or https://www.python.org/downloads",
};

/// What a plugin needs that says nothing else.
const REQUIREMENTS: &str = "componentize-py==0.25.1\n";

/// `work` is a directory of the build's own; environments are kept in `target_directory`.
pub(super) fn build(
    folder: &Path,
    target_directory: &Path,
    work: &Path,
) -> Result<Vec<u8>, BuildError> {
    let environment = environment(folder, target_directory)?;
    let componentize = |arguments: &[&str], output: &Path| {
        let mut command = command(environment.join("bin/componentize-py"), folder);
        command.env("VIRTUAL_ENV", &environment).args(["--quiet", "--wit-path", "wit"]);
        command.env("RUST_BACKTRACE", "0"); // what is wrong is wrong in Python
        succeeded(PYTHON.finish(folder, command.args(arguments).arg(output))?, folder)
    };
    remove_bindings(folder)?;
    componentize(&["bindings"], Path::new(BINDINGS))?; // for the editor: the component has its own
    let component = work.join("component.wasm");
    componentize(&["componentize", "app", "--output"], &component)?;
    read(&component)
}

/// Bindings are written to where there is nothing. Only what was written so is removed.
fn remove_bindings(folder: &Path) -> Result<(), BuildError> {
    let bindings = folder.join(BINDINGS);
    if !bindings.join("wit_world").is_dir() {
        return Ok(());
    }
    fs::remove_dir_all(&bindings).map_err(at(&bindings))
}

/// Makes the environment for the project's requirements, unless it is there.
fn environment(folder: &Path, target_directory: &Path) -> Result<PathBuf, BuildError> {
    let requirements = fs::read(folder.join("requirements.txt"))
        .unwrap_or_else(|_| REQUIREMENTS.as_bytes().to_vec());
    let digest = format!("{:x}", Sha256::digest(&requirements));
    let environment = target_directory.join("python").join(&digest[..12]);
    let complete = environment.join("complete");
    if complete.is_file() {
        return Ok(environment);
    }
    fs::create_dir_all(&environment).map_err(at(&environment))?;
    let list = environment.join("requirements.txt");
    fs::write(&list, &requirements).map_err(at(&list))?;
    let output = PYTHON
        .finish(folder, command(PYTHON.program, folder).args(["-m", "venv"]).arg(&environment))?;
    if !output.status.success() && String::from_utf8_lossy(&output.stdout).contains("ensurepip") {
        return Err(BuildError::Missing {
            folder: folder.into(),
            what: "Python's `venv`".into(),
            purpose: "holds what a plugin in Python is built with",
            install: "Install it: apt-get install python3-venv".into(),
        });
    }
    succeeded(output, folder)?;
    let mut pip = command(environment.join("bin/python"), folder);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&list);
    succeeded(PYTHON.finish(folder, &mut pip)?, folder)?;
    fs::write(&complete, "").map_err(at(&complete))?;
    Ok(environment)
}
