//! Compiled code on disk, so that a start does not wait for the compiler.
//!
//! One file a component and engine version. A file begins with a checksum over what it is for and what it holds; one
//! that does not match (torn, foreign, damaged) is as good as none and is replaced. Losing the cache loses time only:
//! nothing here waits for the disk to be sure, and whatever goes wrong is logged and the compiler does the work.
//!
//! There is room for more files than a gateway has plugins, because a gateway takes them in the same order at every
//! start: with room for one less, each would be gone when it is wanted.

use std::{
    cmp::Reverse,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, component::Component};

use crate::{file, handler::Generation};

const CHECKSUM: usize = 32;
/// What is kept; what was used longest ago goes first.
const ROOM: Room = Room { files: 4096, bytes: 4 << 30 };

#[derive(Clone, Copy, Debug)]
struct Room {
    files: usize,
    bytes: u64,
}

/// A file in the cache.
#[derive(Debug)]
struct Kept {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
}

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
        let mut opened = File::open(&file).ok()?;
        let mut bytes = Vec::with_capacity(opened.metadata().map_or(0, |it| it.len() as usize));
        opened.read_to_end(&mut bytes).ok()?;
        let Some(code) = verified(&bytes, &file) else {
            tracing::info!(file = %file.display(), "A damaged file of the plugin cache is replaced.");
            return None;
        };
        #[allow(unsafe_code, reason = "compiled plugins from the cache that Keyway itself wrote")]
        // SAFETY: The code is what `Component::serialize` gave: the checksum before it was written by `store`, in a
        // directory that only this user may write to, and covers the component's digest and the engine's version.
        let component = unsafe { Component::deserialize(engine, code) };
        opened.set_modified(SystemTime::now()).ok(); // it is only about which files go first
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
            file::replace_soon(&path, &bytes)
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
        let kept = entries.flatten().filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            let (used, bytes) = (metadata.modified().ok()?, metadata.len());
            Some(Kept { used, bytes, path: entry.path() })
        });
        for surplus in surplus(kept.collect(), ROOM) {
            fs::remove_file(surplus).ok(); // another process may have been faster
        }
    }
}

/// What there is no room for. The one used last stays whatever its size.
fn surplus(mut kept: Vec<Kept>, room: Room) -> Vec<PathBuf> {
    kept.sort_by_key(|file| Reverse(file.used));
    let mut bytes = 0;
    let stay = kept.iter().take(room.files).enumerate().take_while(|(place, file)| {
        bytes += file.bytes;
        *place == 0 || bytes <= room.bytes
    });
    let stay = stay.count();
    kept.drain(stay..).map(|file| file.path).collect()
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
    fn what_was_used_last_stays() {
        // The number is also when it was used.
        let kept = |files: &[(u64, u64)]| {
            let used = |number| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number);
            let kept = |&(number, bytes): &(u64, u64)| {
                let path = number.to_string().into();
                Kept { used: used(number), bytes, path }
            };
            let room = Room { files: 3, bytes: 100 };
            let surplus = surplus(files.iter().map(kept).collect(), room);
            surplus.iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(kept(&[(1, 30), (3, 30), (2, 30)]), [""; 0], "there is room");
        assert_eq!(kept(&[(1, 1), (4, 1), (2, 1), (5, 1), (3, 1)]), ["2", "1"], "too many");
        assert_eq!(kept(&[(1, 1), (3, 60), (2, 60)]), ["2", "1"], "too large together");
        assert_eq!(kept(&[(1, 1), (2, 200)]), ["1"], "the last one is too large by itself");
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
