//! Plugins from their sources: built by their language's own tools, and the component put where the gateway looks.
//!
//! A source folder is a project that builds to `NAME.wasm`, NAME being the folder's. One file a language; what a folder's
//! language is, its files say (see [`Language::of`]). `world` is what C and Go share. Everything here blocks for as long as
//! compilers and package managers take. Knows nothing of running plugins.
//!
//! Invariant: `NAME.wasm` is replaced at once, by a component that was built whole, or it stays as it is.

mod c;
mod error;
mod go;
mod javascript;
mod python;
mod rust;
mod sources;
mod tool;
mod world;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::file;
pub use error::BuildError;
pub use sources::Sources;

/// What a plugin is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Rust.
    Rust,
    /// JavaScript.
    JavaScript,
    /// TypeScript.
    TypeScript,
    /// Python.
    Python,
    /// Go.
    Go,
    /// C.
    C,
}

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

impl Language {
    /// The language of a source folder: Rust where there is a `Cargo.toml`; TypeScript where there are a `package.json` and a
    /// `tsconfig.json`, JavaScript without the latter; Go where there is a `go.mod`; and, beside `wit/`, Python where there is
    /// an `app.py`, C where there is a `.c` file. `None` where it is no plugin's.
    pub fn of(folder: &Path) -> Option<Self> {
        let has = |file: &str| folder.join(file).is_file();
        let has_wit = || folder.join("wit").is_dir();
        if has("Cargo.toml") {
            Some(Self::Rust)
        } else if has("package.json") {
            Some(if has("tsconfig.json") { Self::TypeScript } else { Self::JavaScript })
        } else if has("go.mod") {
            Some(Self::Go)
        } else if has("app.py") && has_wit() {
            Some(Self::Python)
        } else if has_wit() && entries(folder).any(|path| c::is_source(&path)) {
            Some(Self::C)
        } else {
            None
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript",
            Self::TypeScript => "TypeScript",
            Self::Python => "Python",
            Self::Go => "Go",
            Self::C => "C",
        })
    }
}

/// The source folders in `directory`, by name. Folders whose names begin with a dot are none.
pub fn source_folders(directory: &Path) -> Vec<PathBuf> {
    let hidden = |path: &Path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let mut folders: Vec<_> = entries(directory)
        .filter(|path| !hidden(path) && path.is_dir() && Language::of(path).is_some())
        .collect();
    folders.sort();
    folders
}

/// Builds every folder of `folders` to `destination/NAME.wasm`, each of which is replaced at once and only when it
/// differs. What is compiled on the way, and can be used again, is kept in `target_directory`.
///
/// # Errors
/// The first folder that does not build; those before it are built.
pub fn build(
    folders: &[PathBuf],
    target_directory: &Path,
    destination: &Path,
) -> Result<Vec<Built>, BuildError> {
    folders.iter().map(|folder| build_one(folder, target_directory, destination)).collect()
}

fn build_one(
    folder: &Path,
    target_directory: &Path,
    destination: &Path,
) -> Result<Built, BuildError> {
    let language = Language::of(folder).ok_or_else(|| BuildError::NoSources(folder.into()))?;
    let name = plugin_name(folder)?;
    let target_directory = std::path::absolute(target_directory).map_err(at(target_directory))?;
    let work = || work_directory(&target_directory, &name);
    let bytes = match language {
        Language::Rust => rust::build(folder, &target_directory)?,
        Language::JavaScript | Language::TypeScript => javascript::build(folder)?,
        Language::Python => python::build(folder, &target_directory, &work()?)?,
        Language::Go => go::build(folder, &work()?)?,
        Language::C => c::build(folder, &work()?)?,
    };
    fs::create_dir_all(destination).map_err(at(destination))?;
    let component = destination.join(format!("{name}.wasm"));
    let changed = fs::read(&component).ok().as_ref() != Some(&bytes);
    if changed {
        file::replace(&component, &bytes).map_err(at(&component))?;
    }
    Ok(Built { name, component, changed })
}

/// The name of the plugin that `folder` builds to: its own.
///
/// # Errors
/// The folder is not there.
pub fn plugin_name(folder: &Path) -> Result<String, BuildError> {
    let folder = fs::canonicalize(folder).map_err(at(folder))?;
    Ok(folder.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// Whether `component` was written after every source of `folder`, so that nothing is to be built. Cargo knows better, as it
/// sees dependencies outside of the folder, and it knows quickly.
pub fn is_up_to_date(folder: &Path, component: &Path) -> bool {
    let newest = sources::source_files(folder).into_values().max();
    Language::of(folder) != Some(Language::Rust) && modified(component) > newest
}

/// Writes the bindings of a project that is compiled against such, for the editor's sake: a build does so too.
///
/// # Errors
/// `wit/` is wrong, or a file cannot be written.
pub fn write_bindings(folder: &Path) -> Result<(), BuildError> {
    match Language::of(folder) {
        Some(Language::C) => c::write_bindings(folder),
        Some(Language::Go) => go::write_bindings(folder),
        _ => Ok(()),
    }
}

fn work_directory(target_directory: &Path, name: &str) -> Result<PathBuf, BuildError> {
    let directory = target_directory.join("work").join(name);
    fs::create_dir_all(&directory).map_err(at(&directory))?;
    Ok(directory)
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BuildError + '_ {
    move |source| BuildError::File { path: path.into(), source }
}
