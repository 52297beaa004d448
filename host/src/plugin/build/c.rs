//! C: clang with its WebAssembly parts, or a WASI SDK where `WASI_SDK_PATH` says that there is one.
//!
//! A plugin is all `.c` files at the top of its folder. The compiler's options are in `compile_flags.txt`, one a line, which
//! editors read too.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::{
    BuildError, at, read,
    tool::{Tool, command, succeeded},
    world::{BINDINGS, World, component},
};

const CLANG: Tool = Tool {
    program: "clang",
    purpose: "compiles C",
    install: "Install it: apt-get install clang lld wasi-libc libclang-rt-dev-wasm32, or a WASI SDK with \
              WASI_SDK_PATH set",
};

/// The options of a folder without `compile_flags.txt`.
const FLAGS: [&str; 3] = ["--target=wasm32-wasi", "-O2", "-Ibindings"];

pub(super) fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "c") && path.is_file()
}

/// `work` is a directory of the build's own.
pub(super) fn build(folder: &Path, work: &Path) -> Result<Vec<u8>, BuildError> {
    write_bindings(folder)?;
    let module = work.join("module.wasm");
    let mut clang = command(clang(), folder);
    match folder.join("compile_flags.txt").is_file() {
        true => clang.arg("@compile_flags.txt"),
        false => clang.args(FLAGS),
    };
    clang.args(["-mexec-model=reactor", "-Wl,--strip-debug", "-o"]).arg(&module);
    clang.args(sources(folder)?);
    clang.args(["plugin.c", "plugin_component_type.o"].map(|file| Path::new(BINDINGS).join(file)));
    let output = CLANG.finish(folder, &mut clang)?;
    if !output.status.success() {
        // The compiler's own words about a part that is missing tell nobody what to install.
        ensure_parts(folder)?;
    }
    succeeded(output, folder)?;
    component(folder, &read(&module)?)
}

/// Writes `bindings/plugin.h` and what belongs to it.
pub(super) fn write_bindings(folder: &Path) -> Result<(), BuildError> {
    // One name for all worlds, so that code and build do not depend on it.
    let options = wit_bindgen_c::Opts { rename_world: Some("plugin".into()), ..Default::default() };
    World::read(folder)?.write_bindings(folder, options.build())
}

fn clang() -> PathBuf {
    match env::var_os("WASI_SDK_PATH") {
        Some(sdk) => Path::new(&sdk).join("bin/clang"),
        None => CLANG.program.into(),
    }
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let entries = fs::read_dir(folder).map_err(at(folder))?.flatten();
    let mut sources: Vec<_> = entries
        .filter(|entry| is_source(&entry.path()))
        .map(|entry| PathBuf::from(entry.file_name()))
        .collect();
    sources.sort();
    Ok(sources)
}

/// Says which part of clang is not installed, if one is not.
fn ensure_parts(folder: &Path) -> Result<(), BuildError> {
    let ask = |question: &str| {
        let mut clang = command(clang(), folder);
        let output = CLANG.finish(folder, clang.args(["--target=wasm32-wasi", question]))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let version = ask("-dumpversion")?;
    let major = version.split('.').next().unwrap_or_default();
    let runtime = format!("libclang-rt-{major}-dev-wasm32");
    for (question, what, purpose, package) in [
        ("-print-prog-name=wasm-ld", "wasm-ld", "links WebAssembly", "lld"),
        (
            "-print-file-name=crt1-reactor.o",
            "wasi-libc",
            "is C's library for WebAssembly",
            "wasi-libc",
        ),
        ("-print-libgcc-file-name", "compiler-rt", "is clang's runtime for WebAssembly", &runtime),
    ] {
        let found = ask(question)?;
        if !Path::new(&found).is_absolute() || !Path::new(&found).exists() {
            return Err(BuildError::Missing {
                folder: folder.into(),
                what: what.into(),
                purpose,
                install: format!("Install it: apt-get install {package}"),
            });
        }
    }
    Ok(())
}
