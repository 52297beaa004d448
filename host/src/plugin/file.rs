//! Files that others read while they are written.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Writes `bytes` to `file` so that whoever opens it, after a power cut too, sees all of the old content or all of the
/// new.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    write(file, bytes, File::sync_all)
}

/// The same without waiting for the disk: after a power cut it may hold anything.
pub(super) fn replace_soon(file: &Path, bytes: &[u8]) -> io::Result<()> {
    write(file, bytes, |_| Ok(()))
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
