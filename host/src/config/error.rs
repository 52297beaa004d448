//! What is wrong with a configuration, all of it, each with its place.

use std::{fmt, sync::Arc};

/// Everything that is wrong with a configuration, in the order of the file, then of the environment. Shown one a
/// line: `keyway.toml:LINE:COL KEY: what is wrong, what was given, what would do`. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// Where it was said.
    pub place: Place,
    /// The dotted path of the key, such as `groups.my-group.retry.attempts`; empty where the place says it all.
    pub key: String,
    /// What is wrong, what was given, what would do.
    pub message: String,
}

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere in particular: the file itself, which could not be read.
    Unreadable {
        /// The file, as the user named it.
        file: Arc<str>,
    },
    /// In the file.
    File {
        /// The file, as the user named it.
        file: Arc<str>,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// In an environment variable.
    Environment {
        /// Its name.
        variable: Arc<str>,
    },
}

impl ConfigErrors {
    /// Sorts the errors by place. One said twice at one place is kept once.
    ///
    /// `None` when there are none.
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Option<Self> {
        errors.sort();
        errors.dedup();
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// Of a file that could not be read, or not as text.
    pub(super) fn of(place: Place, message: String) -> Self {
        Self(vec![ConfigError { place, key: String::new(), message }])
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Unreadable { file } => write!(f, "{file}")?,
            Place::File { file, line, column } => write!(f, "{file}:{line}:{column}")?,
            Place::Environment { variable } => write!(f, "{variable}")?,
        }
        if !self.key.is_empty() {
            write!(f, " {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}
