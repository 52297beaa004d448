//! Compiled code on disk, so that a start does not wait for the compiler.
//!
//! One file a component and engine version. A file begins with a checksum over what it is for and what it holds; one
//! that does not match (torn, foreign, damaged) is as good as none and is replaced. Losing the cache loses time only:
//! whatever goes wrong here is logged and the compiler does the work.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, component::Component};

use super::file;
use crate::handler::Generation;

const CHECKSUM: usize = 32;
/// Files kept; the oldest go first.
const FILES: usize = 64;

/// The cache, in a directory that only this user may enter.
#[derive(Debug)]
pub(super) struct Cache {
    directory: Option<PathBuf>,
}

impl Cache {
    /// A cache in `directory`, which is made when missing. Loaded code runs with all the rights of the process, so a
    /// directory that cannot be closed to others is not used.
    pub(super) fn open(directory: &Path) -> Self {
        let directory = match private_directory(directory) {
            Ok(()) => Some(directory.to_owned()),
            Err(error) => {
                tracing::warn!(
                    directory = %directory.display(), %error,
                    "Compiled plugins are not cached: the directory cannot be made or is not ours alone."
                );
                None
            }
        };
        Self { directory }
    }

    /// The compiled component of `generation`; `None` when it has to be compiled.
    pub(super) fn load(&self, engine: &Engine, generation: &Generation) -> Option<Component> {
        let file = self.file(engine, generation)?;
        let bytes = fs::read(&file).ok()?;
        let Some(code) = verified(&bytes, &file) else {
            tracing::info!(file = %file.display(), "A damaged file of the plugin cache is replaced.");
            return None;
        };
        #[allow(unsafe_code, reason = "compiled plugins from the cache that Keyway itself wrote")]
        // SAFETY: The code is what `Component::serialize` gave: the checksum before it was written by `store`, in a
        // directory that only this user may write to, and covers the component's digest and the engine's version.
        let component = unsafe { Component::deserialize(engine, code) };
        component
            .inspect_err(|error| {
                tracing::info!(file = %file.display(), %error, "A file of the plugin cache is replaced.");
            })
            .ok()
    }

    /// Keeps a compiled component.
    pub(super) fn store(&self, component: &Component, generation: &Generation) {
        let Some(path) = self.file(component.engine(), generation) else { return };
        let written = component.serialize().map_err(io::Error::other).and_then(|code| {
            let mut bytes = checksum(&code, &path).to_vec();
            bytes.extend_from_slice(&code);
            file::replace(&path, &bytes)
        });
        if let Err(error) = written {
            tracing::warn!(file = %path.display(), %error, "A compiled plugin could not be cached.");
        }
        self.prune();
    }

    /// The file's name says what the code was made of and by which engine, with which settings.
    fn file(&self, engine: &Engine, generation: &Generation) -> Option<PathBuf> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let name = format!("{}-{:016x}.cwasm", generation.long(), hasher.finish());
        self.directory.as_ref().map(|directory| directory.join(name))
    }

    fn prune(&self) {
        let Some(Ok(entries)) = self.directory.as_ref().map(fs::read_dir) else { return };
        let mut files: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(FILES);
        for (_, file) in files.drain(..surplus) {
            fs::remove_file(file).ok(); // another process may have been faster
        }
    }
}

/// The code in `bytes`, when it is whole and belongs under the name of `file`.
fn verified<'a>(bytes: &'a [u8], file: &Path) -> Option<&'a [u8]> {
    let (given, code) = bytes.split_at_checked(CHECKSUM)?;
    (checksum(code, file)[..] == *given).then_some(code)
}

fn checksum(code: &[u8], file: &Path) -> [u8; CHECKSUM] {
    let mut hasher = Sha256::new();
    hasher.update(file.file_name().map_or(&[][..], |name| name.as_encoded_bytes()));
    hasher.update(code);
    hasher.finalize().into()
}

fn private_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Only the owner may do this, so it also tells whether that is us.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_taken_back_only_whole_and_under_its_own_name() {
        let file = Path::new("here/a.cwasm");
        let mut bytes = checksum(b"code", file).to_vec();
        bytes.extend_from_slice(b"code");
        assert_eq!(verified(&bytes, file), Some(&b"code"[..]));
        assert_eq!(verified(&bytes, Path::new("here/b.cwasm")), None, "under another name");
        for length in 0..bytes.len() {
            assert_eq!(verified(&bytes[..length], file), None, "torn at {length}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn the_directory_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/b");
        Cache::open(&directory);
        assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
