//! Rust: `cargo build` for `wasm32-wasip2`, whose linker makes the component.

use std::path::{Path, PathBuf};

use super::{
    BuildError, read,
    tool::{Tool, command, succeeded},
};

/// The target that plugins are built for.
const TARGET: &str = "wasm32-wasip2";

const INSTALL: &str = "Install Rust: https://rustup.rs";
const CARGO: Tool = Tool { program: "cargo", purpose: "compiles Rust", install: INSTALL };
const RUSTC: Tool = Tool { program: "rustc", purpose: "compiles Rust", install: INSTALL };
const RUSTUP: Tool = Tool {
    program: "rustup",
    purpose: "adds the target wasm32-wasip2 to Rust, which this Rust does not have",
    install: INSTALL,
};

/// Compiled dependencies are shared in `target_directory`.
pub(super) fn build(folder: &Path, target_directory: &Path) -> Result<Vec<u8>, BuildError> {
    ensure_target(folder)?;
    let mut cargo = command(CARGO.program, folder);
    cargo.args(["build", "--release", "--target", TARGET]);
    cargo.args(["--message-format", "json-render-diagnostics", "--target-dir"]);
    let output = CARGO.finish(folder, cargo.arg(target_directory))?;
    if !output.status.success() {
        // Standard output is for programs.
        let output = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        return Err(BuildError::Compile { folder: folder.into(), output });
    }
    match component(&output.stdout) {
        Some(component) => read(&component),
        None => Err(BuildError::NoComponent {
            folder: folder.into(),
            reason: "its Cargo.toml needs `[lib] crate-type = [\"cdylib\"]`".into(),
        }),
    }
}

/// The component among what cargo says it made. Dependencies make none, so it is the only one.
fn component(messages: &[u8]) -> Option<PathBuf> {
    let messages = messages.split(|byte| *byte == b'\n').rev();
    messages
        .filter_map(|message| serde_json::from_slice::<serde_json::Value>(message).ok())
        .find_map(|message| {
            let files = message["filenames"].as_array()?.iter();
            files
                .filter_map(|file| file.as_str())
                .find(|file| file.ends_with(".wasm"))
                .map(PathBuf::from)
        })
}

/// Adds the target when the toolchain that `folder` is built with does not have it.
fn ensure_target(folder: &Path) -> Result<(), BuildError> {
    let output = RUSTC.output(folder, ["--print", "target-libdir", "--target", TARGET])?;
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
        return Ok(());
    }
    tracing::info!("Adding {TARGET} to the Rust toolchain.");
    let output = RUSTUP.output(folder, ["target", "add", TARGET])?;
    succeeded(output, folder).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_in_what_cargo_says() {
        let messages = br#"{"reason":"compiler-artifact","filenames":["/t/libserde.rlib"]}
{"reason":"compiler-artifact","filenames":["/t/my_plugin.wasm"]}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(component(messages), Some("/t/my_plugin.wasm".into()));
        assert_eq!(component(b"not JSON\n{}"), None);
    }
}
