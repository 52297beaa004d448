//! Why a plugin could not be built, in words that its author can act on.

use std::{io, path::PathBuf};

/// Why a plugin could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The folder is no plugin's.
    #[error(
        "{} is no plugin's source folder: there is no Cargo.toml, package.json, app.py, go.mod or .c file in it",
        .0.display()
    )]
    NoSources(PathBuf),
    /// Something of the language's own tools is not installed.
    #[error("{} is not built: {what} is not installed, which {purpose}. {install}", folder.display())]
    Missing {
        /// The source folder.
        folder: PathBuf,
        /// What is missing: a program, or a part of one.
        what: String,
        /// What it is for, as "compiles Go".
        purpose: &'static str,
        /// How it is installed, as a sentence.
        install: String,
    },
    /// A program is there, and cannot be started.
    #[error("cannot run `{program}`: {source}")]
    Program {
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// The compiler refused the sources, or the package manager what they need.
    #[error("{} does not build:\n{output}", folder.display())]
    Compile {
        /// The source folder.
        folder: PathBuf,
        /// What was said.
        output: String,
    },
    /// The sources build, but to no component.
    #[error("{} builds to no component: {reason}", folder.display())]
    NoComponent {
        /// The source folder.
        folder: PathBuf,
        /// What is wrong, or what would do.
        reason: String,
    },
    /// `wit/`, which says what the plugin is, is not there or is wrong.
    #[error("{}: {reason}", folder.join("wit").display())]
    World {
        /// The source folder.
        folder: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl BuildError {
    /// Whether it is not the plugin that is at fault, but the machine: what would build it is not installed.
    pub fn is_missing_tool(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}
