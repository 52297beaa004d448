//! Plugins from their sources: `cargo build` for `wasm32-wasip2`, and the component put where the gateway looks.
//!
//! A source folder is a Rust package with a `cdylib`; it builds to `NAME.wasm`, NAME being the folder's. Everything
//! here blocks for as long as the compiler takes. Knows nothing of running plugins.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::SystemTime,
};

use super::file;

/// The target that plugins are built for.
pub const TARGET: &str = "wasm32-wasip2";

/// Variables of an outer cargo, or of whoever runs it, that are meant for the gateway and would spoil a plugin's
/// build. One that ends in `*` stands for all that begin so.
const NOT_INHERITED: [&str; 12] = [
    "CARGO_BUILD_*",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
    "CARGO_PROFILE_*",
    "CARGO_TARGET_*",
    "CARGO_UNSTABLE_*",
    "MAKEFLAGS",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "__CARGO_*",
];

/// A component that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The plugin's name.
    pub name: String,
    /// Where the component is.
    pub component: PathBuf,
    /// Whether it is another one than was there before.
    pub changed: bool,
}

/// Why a plugin could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A program is not there, or cannot be started.
    #[error("cannot run `{program}` ({source}); building a plugin takes Rust: https://rustup.rs")]
    Program {
        /// The program.
        program: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The target is not installed and could not be added.
    #[error("Rust cannot build for {TARGET} and `rustup target add {TARGET}` failed: {0}")]
    Target(String),
    /// The compiler refused the sources.
    #[error("{} does not build:\n{output}", folder.display())]
    Compile {
        /// The source folder.
        folder: PathBuf,
        /// What the compiler said.
        output: String,
    },
    /// The package builds, but to no component.
    #[error("{} builds to no component: its Cargo.toml needs `[lib] crate-type = [\"cdylib\"]`", .0.display())]
    NoComponent(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The source folders in `directory`: those with a `Cargo.toml`, by name.
pub fn source_folders(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.join("Cargo.toml").is_file())
        .collect();
    folders.sort();
    folders
}

/// Builds every folder of `folders` to `destination/NAME.wasm`, each of which is replaced at once and only when it
/// differs. Compiled dependencies are shared in `target_directory`.
///
/// # Errors
/// The first folder that does not build; those before it are built.
pub fn build(
    folders: &[PathBuf],
    target_directory: &Path,
    destination: &Path,
) -> Result<Vec<Built>, BuildError> {
    let Some(first) = folders.first() else { return Ok(Vec::new()) };
    ensure_target(first)?;
    let target_directory = std::path::absolute(target_directory).map_err(at(target_directory))?;
    fs::create_dir_all(destination).map_err(at(destination))?;
    folders.iter().map(|folder| build_one(folder, &target_directory, destination)).collect()
}

fn build_one(
    folder: &Path,
    target_directory: &Path,
    destination: &Path,
) -> Result<Built, BuildError> {
    let mut cargo = command("cargo", folder);
    cargo.args([
        "build",
        "--release",
        "--target",
        TARGET,
        "--message-format",
        "json-render-diagnostics",
    ]);
    let output = run("cargo", cargo.arg("--target-dir").arg(target_directory))?;
    if !output.status.success() {
        let output = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        return Err(BuildError::Compile { folder: folder.into(), output });
    }
    let artifact =
        component(&output.stdout).ok_or_else(|| BuildError::NoComponent(folder.into()))?;
    let name = folder_name(folder)?;
    let bytes = fs::read(&artifact).map_err(at(&artifact))?;
    let component = destination.join(format!("{name}.wasm"));
    let changed = fs::read(&component).ok().as_ref() != Some(&bytes);
    if changed {
        file::replace(&component, &bytes).map_err(at(&component))?;
    }
    Ok(Built { name, component, changed })
}

fn folder_name(folder: &Path) -> Result<String, BuildError> {
    let folder = fs::canonicalize(folder).map_err(at(folder))?;
    Ok(folder.file_name().unwrap_or_default().to_string_lossy().into_owned())
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
    let mut rustc = command("rustc", folder);
    let output = run("rustc", rustc.args(["--print", "target-libdir", "--target", TARGET]))?;
    if Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir() {
        return Ok(());
    }
    tracing::info!("Adding {TARGET} to the Rust toolchain.");
    match run("rustup", command("rustup", folder).args(["target", "add", TARGET])) {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(BuildError::Target(String::from_utf8_lossy(&output.stderr).trim().into()))
        }
        Err(error) => Err(BuildError::Target(error.to_string())),
    }
}

fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder);
    for (name, _) in std::env::vars_os() {
        let inherited =
            name.to_str().is_none_or(|name| !NOT_INHERITED.iter().any(|not| names(not, name)));
        if !inherited {
            command.env_remove(name);
        }
    }
    command
}

fn names(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

fn run(program: &'static str, command: &mut Command) -> Result<Output, BuildError> {
    command.output().map_err(|source| BuildError::Program { program, source })
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BuildError + '_ {
    move |source| BuildError::File { path: path.into(), source }
}

/// Tells which source folders have changed.
#[derive(Debug, Default)]
pub struct Sources {
    seen: BTreeMap<PathBuf, BTreeMap<PathBuf, SystemTime>>,
}

impl Sources {
    /// The folders of `folders` whose sources are not what they were when this was last asked; all of them the first
    /// time. Looks at every source file's time.
    pub fn changed(&mut self, folders: &[PathBuf]) -> Vec<PathBuf> {
        let changed = |folder: &&PathBuf| {
            let files = source_files(folder);
            self.seen.insert((*folder).clone(), files.clone()) != Some(files)
        };
        folders.iter().filter(changed).cloned().collect()
    }
}

/// The files that `folder` is built from, with the time each was changed. What cargo writes there does not count.
fn source_files(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    /// No package is nested deeper; a circle of links is.
    const DEPTH: usize = 16;
    let mut files = BTreeMap::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") || name == "target" || name == "Cargo.lock"
            {
                continue;
            }
            match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() && depth < DEPTH => {
                    folders.push((entry.path(), depth + 1));
                }
                Ok(metadata) if metadata.is_file() => {
                    let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    files.insert(entry.path(), changed);
                }
                _ => {}
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_cargo_does_not_reach_into_the_build() {
        let kept = |name: &str| !NOT_INHERITED.iter().any(|not| names(not, name));
        for name in [
            "RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO_PROFILE_RELEASE_LTO",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            assert!(!kept(name), "{name}");
        }
        for name in [
            "PATH",
            "CARGO_HOME",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
            "CARGO_NET_OFFLINE",
            "HTTPS_PROXY",
        ] {
            assert!(kept(name), "{name}");
        }
    }

    #[test]
    fn the_component_is_found_in_what_cargo_says() {
        let messages = br#"{"reason":"compiler-artifact","filenames":["/t/libserde.rlib"]}
{"reason":"compiler-artifact","filenames":["/t/my_plugin.wasm"]}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(component(messages), Some("/t/my_plugin.wasm".into()));
        assert_eq!(component(b"not JSON\n{}"), None);
    }

    #[test]
    fn only_a_change_of_sources_is_a_change() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a");
        fs::create_dir_all(folder.join("src")).unwrap();
        fs::create_dir_all(folder.join("target")).unwrap();
        fs::write(folder.join("Cargo.toml"), "").unwrap();
        let folders = source_folders(parent.path());
        assert_eq!(folders, std::slice::from_ref(&folder));
        let mut sources = Sources::default();
        assert_eq!(sources.changed(&folders), folders, "the first time");
        fs::write(folder.join("target/x"), "").unwrap();
        fs::write(folder.join("Cargo.lock"), "").unwrap();
        assert!(sources.changed(&folders).is_empty());
        fs::write(folder.join("src/lib.rs"), "").unwrap();
        assert_eq!(sources.changed(&folders), folders);
        assert!(sources.changed(&folders).is_empty());
    }
}
