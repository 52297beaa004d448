//! Files that others read while they are written.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Writes `bytes` to `file` so that whoever opens it, after a power cut too, sees all of the old content or all of the
/// new.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(format!(".{}.{:08x}.tmp", std::process::id(), fastrand::u32(..)));
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut written = File::create(&temporary)?;
        written.write_all(bytes)?;
        written.sync_all()
    };
    write()
        .and_then(|()| fs::rename(&temporary, file))
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
}
