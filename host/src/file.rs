//! Files that others read and change meanwhile: this process and those that run from the same directory.
//!
//! Invariant: nobody waits for ever for a process that stands still, whatever it holds.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// How long a lock is waited for. Whoever holds one writes a small file, which takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a lock that is held is tried.
const POLL: Duration = Duration::from_millis(5);

/// Writes `bytes` to `file` so that whoever opens it, after a power cut too, sees all of the old content or all of the
/// new.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    write(file, bytes, File::sync_all)
}

/// The same without waiting for the disk: after a power cut it may hold anything.
pub(crate) fn replace_soon(file: &Path, bytes: &[u8]) -> io::Result<()> {
    write(file, bytes, |_| Ok(()))
}

/// The same, and once this has returned a power cut leaves the new content.
pub(crate) fn replace_for_good(file: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(file, bytes)?;
    file.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Is the only one, among threads and processes, that has the lock of that name until what it gives is dropped. Makes
/// `file` and its directory where they are not there. Blocks for two seconds at the most.
///
/// # Errors
/// The file cannot be made, or another one keeps the lock: a process that was stopped while it had it, say.
pub(crate) fn lock(file: &Path) -> io::Result<File> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let lock = File::create(file)?;
    let end = Instant::now() + PATIENCE;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < end => thread::sleep(POLL),
            Err(TryLockError::WouldBlock) => {
                let text = format!(
                    "another process has held the lock {} for {PATIENCE:?}; does it stand still?",
                    file.display()
                );
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
        }
    }
}

fn write(file: &Path, bytes: &[u8], sync: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(format!(".{}.{:08x}.tmp", std::process::id(), fastrand::u32(..)));
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut written = File::create(&temporary)?;
        written.write_all(bytes)?;
        sync(&written)
    };
    write()
        .and_then(|()| fs::rename(&temporary, file))
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
}
