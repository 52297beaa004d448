//! One process a directory: an exclusive lock on a file in it, which the operating system lets go of however the
//! process ends.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::Path,
};

use super::OpenError;

/// Holds the directory until dropped.
#[derive(Debug)]
pub(super) struct DirectoryLock(#[expect(dead_code, reason = "held, never used")] File);

impl DirectoryLock {
    /// Takes the lock or says who has it.
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join("keyway.lock");
        let failed = |source| OpenError::Directory { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false) // it may name the process that holds it
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).ok(); // not knowing who is no reason to say less
                let process = holder.trim().parse().ok();
                return Err(OpenError::InUse { directory: directory.into(), process });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self(file))
    }
}
