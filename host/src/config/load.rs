//! From a path and an environment to a [`Config`]: the one file here that reads anything.

use std::{
    ffi::OsString,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

use super::{
    Config, ConfigErrors, Place,
    document::Node,
    environment,
    read::Table,
    report::{Report, position},
    sections,
};

/// The file that is read where none is named.
pub const FILE: &str = "keyway.toml";

/// What holds where none is named and none is there: the `keyway.toml` of the repository, so that there is one truth.
pub const BUILT_IN: &str = include_str!("../../../keyway.toml");

const BUILT_IN_NAME: &str = "the built-in keyway.toml";

/// What the TOML parser says of a key or table that is there twice. The rest of the file can still be judged then.
pub(super) const DUPLICATE_KEY: &str = "duplicate key";

/// A configuration and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// The file that was read; `None`: there was none, and [`BUILT_IN`] holds.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads a configuration: the file at `path`, else `keyway.toml` in the working directory, else [`BUILT_IN`];
    /// then what the environment says, usually `std::env::vars_os()`.
    ///
    /// # Errors
    /// Everything that is wrong, at once. A `path` where there is no file is an error.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, ConfigErrors> {
        let file = path.unwrap_or(Path::new(FILE));
        let (name, directory) = (file.to_string_lossy(), file.parent().unwrap_or(Path::new("")));
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if path.is_none() && error.kind() == ErrorKind::NotFound => {
                let config = Self::parse(BUILT_IN, BUILT_IN_NAME, Path::new(""), environment)?;
                return Ok(Loaded { config, file: None });
            }
            Err(error) => {
                let message = format!("cannot be read, got \"{error}\", give the path of a file");
                let place = Place::Unreadable { file: (&*name).into() };
                return Err(ConfigErrors::of(place, message));
            }
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let (line, column) = position(&bytes, error.valid_up_to());
            let byte = bytes[error.valid_up_to()];
            let message = format!("not UTF-8, got the byte {byte:#04x}, save the file as UTF-8");
            ConfigErrors::of(Place::File { file: (&*name).into(), line, column }, message)
        })?;
        let config = Self::parse(text, &name, directory, environment)?;
        Ok(Loaded { config, file: Some(file.to_owned()) })
    }

    /// Reads a configuration from a text that stands in the file `name` of `directory`. Pure: touches neither disk
    /// nor process.
    ///
    /// # Errors
    /// Everything that is wrong, at once; but where the text is not TOML, only that.
    pub fn parse(
        text: &str,
        name: &str,
        directory: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigErrors> {
        let report = Report::new(name, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        errors.iter().for_each(|error| report.push_syntax(error));

        let legible = errors.iter().all(|error| error.message() == DUPLICATE_KEY);
        let config = legible.then(|| {
            let mut document = Node::document(table.get_ref());
            environment::lay_over(&mut document, environment, &report);
            sections::config(Table::root(&document, &report), directory)
        });
        match (report.into_errors(), config) {
            (None, Some(config)) => Ok(config),
            (Some(errors), _) => Err(errors),
            (None, None) => unreachable!("a text that is not legible has an error"),
        }
    }
}
