//! What can go wrong with the file, and what it means to whoever asked.

use std::{io, path::PathBuf};

use rusqlite::{ErrorCode, ffi};

use crate::broker::{BrokerError, CommitError, ProduceError, TransactError};

/// Why an embedded broker could not be opened. Nothing was changed, except that a missing directory may have been
/// made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another broker of this one, has it open.
    #[error(
        "{} is in use by another keyway ({}); stop it or choose another [broker] path",
        .directory.display(),
        .process.map_or_else(|| "of unknown process id".into(), |id| format!("process {id}"))
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Who has it, where that can be told.
        process: Option<u32>,
    },
    /// The directory, or the lock in it, cannot be used.
    #[error("cannot use {} for the broker: {source}", .path.display())]
    Directory {
        /// What could not be made or opened.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is there, but it is no log of Keyway.
    #[error("{} is not a Keyway log: {found}; move it away or choose another [broker] path", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// The file was written by a Keyway that keeps its log in another form.
    #[error(
        "{} is a Keyway log of version {found}, this keyway reads version {known}; use the keyway that wrote it",
        .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version that is understood.
        known: i64,
    },
    /// The file is a log of Keyway and cannot be trusted.
    #[error("{} is damaged: {cause}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The file cannot be read or written.
    #[error("cannot open {}: {cause}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

/// Why something was not read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StoreError {
    /// It was definitely not done, and may work later: a full disk, a full queue, an error of the device.
    #[error("{0}")]
    Unavailable(String),
    /// The disk failed to confirm a write: whether it will be there after a crash is not known.
    #[error("{0}")]
    Indefinite(String),
    /// What is in the file contradicts itself.
    #[error("the log is damaged: {0}")]
    Damaged(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(failure, _) = &error else {
            // A column of another type, a number out of range, a row that must be there and is not.
            return Self::Damaged(error.to_string());
        };
        match failure.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                Self::Damaged(error.to_string())
            }
            ErrorCode::DiskFull => Self::Unavailable(format!("no space for the log: {error}")),
            ErrorCode::SystemIoFailure if is_failed_sync(failure) => {
                Self::Indefinite(format!("the disk did not confirm a write: {error}"))
            }
            ErrorCode::SystemIoFailure => {
                Self::Unavailable(format!("cannot read or write the log: {error}"))
            }
            _ => Self::Unavailable(format!("the log cannot be used now: {error}")),
        }
    }
}

fn is_failed_sync(failure: &ffi::Error) -> bool {
    matches!(failure.extended_code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
}

impl From<StoreError> for ProduceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Indefinite(reason) => Self::Indefinite { reason },
            other => Self::Unavailable { reason: other.to_string() },
        }
    }
}

impl From<StoreError> for BrokerError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(_) => Self::Fatal(error.to_string()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<StoreError> for TransactError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Indefinite(reason) => Self::Indefinite(reason),
            other => Self::Aborted(other.to_string()),
        }
    }
}
