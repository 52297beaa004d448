//! Go, with the standard compiler: bindings below `bindings/`, a module for `wasip1`, and the component of it.
//!
//! The bindings call the plugin in the packages `export_keyway_plugin_handler` and so on at the top of its module.

use std::{fs, path::Path};

use super::{
    BuildError, at, read,
    tool::{Tool, command, succeeded},
    world::{BINDINGS, World, component},
};

const GO: Tool = Tool {
    program: "go",
    purpose: "compiles Go",
    install: "Install Go 1.25 or newer: https://go.dev/dl",
};

/// The first Go that compiles what the bindings need.
const NEEDED: (u32, u32) = (1, 25);

/// `work` is a directory of the build's own.
pub(super) fn build(folder: &Path, work: &Path) -> Result<Vec<u8>, BuildError> {
    ensure_version(folder)?;
    write_bindings(folder)?;
    let module = work.join("module.wasm");
    let mut go = command(GO.program, folder);
    go.env("GOOS", "wasip1").env("GOARCH", "wasm");
    // The bindings reach into the runtime's allocator, which the linker allows nobody unless it is told.
    go.args(["build", "-buildmode=c-shared", "-buildvcs=false", "-trimpath"]);
    go.args(["-ldflags=-checklinkname=0 -s -w", "-o"]).arg(&module).arg(".");
    succeeded(GO.finish(folder, &mut go)?, folder)?;
    let mut module = read(&module)?;
    World::read(folder)?.embed(folder, &mut module)?;
    component(folder, &module)
}

/// Writes the packages below `bindings/`.
pub(super) fn write_bindings(folder: &Path) -> Result<(), BuildError> {
    let module = module_name(folder)?;
    let options = wit_bindgen_go::Opts {
        // Not by gofmt, which need not be there: nobody reads them but the compiler.
        format: wit_bindgen_go::Format::False,
        pkg_name: Some(format!("{module}/{BINDINGS}")),
        export_pkg_name: Some(module),
        ..Default::default()
    };
    World::read(folder)?.write_bindings(folder, options.build())
}

fn module_name(folder: &Path) -> Result<String, BuildError> {
    let file = folder.join("go.mod");
    let text = fs::read_to_string(&file).map_err(at(&file))?;
    let name = text.lines().find_map(|line| line.trim().strip_prefix("module "));
    let name = name.map(|name| name.trim().trim_matches('"').to_owned());
    name.ok_or_else(|| BuildError::NoComponent {
        folder: folder.into(),
        reason: "its go.mod names no module".into(),
    })
}

/// An older Go fails too, but says nothing of its age.
fn ensure_version(folder: &Path) -> Result<(), BuildError> {
    let output = GO.output(folder, ["env", "GOVERSION"])?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if numbers(&version).is_none_or(|numbers| numbers >= NEEDED) {
        return Ok(());
    }
    Err(BuildError::Missing {
        folder: folder.into(),
        what: format!("Go {}.{} or newer (this is {version})", NEEDED.0, NEEDED.1),
        purpose: GO.purpose,
        install: GO.install.into(),
    })
}

/// `go1.26.8` is 1 and 26; what is no release has no numbers.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix("go")?.split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_go_is_two_numbers() {
        assert_eq!(numbers("go1.26.8"), Some((1, 26)));
        assert_eq!(numbers("go1.19"), Some((1, 19)));
        assert_eq!(numbers("devel go1.27-abc"), None);
    }

    #[test]
    fn the_module_is_the_one_that_go_mod_names() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("go.mod"), "// words\nmodule example.com/x\n\ngo 1.25\n")
            .unwrap();
        assert_eq!(module_name(folder.path()).unwrap(), "example.com/x");
        fs::write(folder.path().join("go.mod"), "go 1.25\n").unwrap();
        let error = module_name(folder.path()).unwrap_err().to_string();
        assert!(error.contains("names no module"), "{error}");
    }
}
