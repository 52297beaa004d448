//! A plugin's history on disk: `history.json`, and beside it the bytes of its generations by digest.
//!
//! What is asked is answered from memory; a change is in force in memory whatever the disk says, and is told to have
//! failed when it would not outlast a restart. Processes that run from the same directory share it: each change is made
//! to what the file holds then, under a lock. A history that is damaged is moved aside and said; bytes that do not have
//! the digest they are kept under are as good as none.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    component, file,
    history::{Bounds, Change, Digest, History},
};

const BOUNDS: Bounds = Bounds { generations: 16, bytes: 256 << 20 };
const HISTORY: &str = "history.json";
const DAMAGED: &str = "history.damaged.json";
const COMPONENT: &str = ".wasm";
/// Changes that may wait for the disk.
const PENDING: usize = 65_536;

/// What is known of one plugin's past.
pub(super) struct Archive {
    directory: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// What the file held when it was read or written last; `None`: it never was.
    text: Option<Vec<u8>>,
    history: History,
    /// Generations whose bytes are there, with how many.
    kept: BTreeMap<Digest, u64>,
    /// Made to `history`, and not on disk.
    pending: Vec<Change>,
    /// What is wrong with the history, in words.
    trouble: Option<String>,
}

/// What is known at one moment.
pub(super) struct View<'a>(MutexGuard<'a, Known>);

impl View<'_> {
    /// The history.
    pub(super) fn history(&self) -> &History {
        &self.0.history
    }

    /// Whether its bytes are there.
    pub(super) fn keeps(&self, digest: Digest) -> bool {
        self.0.kept.contains_key(&digest)
    }

    /// How many bytes it has, where they are there.
    pub(super) fn size(&self, digest: Digest) -> Option<u64> {
        self.0.kept.get(&digest).copied()
    }

    /// What is wrong with the history, in words.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.0.trouble.as_deref()
    }
}

impl Archive {
    /// What the directory has, which is made when there is something to keep. Without one nothing outlasts the process.
    pub(super) fn open(directory: Option<PathBuf>) -> Self {
        let archive = Self { directory, known: Mutex::default() };
        if let Some(directory) = &archive.directory {
            archive.known().refresh(directory);
        }
        archive
    }

    /// What is known now.
    pub(super) fn view(&self) -> View<'_> {
        View(self.known())
    }

    /// The file whose changes by another process are of interest.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(HISTORY))
    }

    /// Reads what another process has changed. Blocks on the disk.
    pub(super) fn refresh(&self) {
        if let Some(directory) = &self.directory {
            self.known().refresh(directory);
        }
    }

    /// Makes a change that is in force at once, and is on disk with the next [`flush`](Self::flush).
    pub(super) fn apply(&self, change: Change) {
        let mut known = self.known();
        if known.history.apply(&change) && known.pending.len() < PENDING {
            known.pending.push(change);
        }
    }

    /// Whether there is something to [`flush`](Self::flush).
    pub(super) fn is_behind(&self) -> bool {
        !self.known().pending.is_empty()
    }

    /// Keeps the bytes of a generation. Blocks on the disk.
    pub(super) fn keep(&self, digest: Digest, bytes: &[u8]) {
        let Some(directory) = &self.directory else { return };
        if self.known().kept.contains_key(&digest) {
            return;
        }
        let written = fs::create_dir_all(directory)
            .and_then(|()| file::replace(&component_file(directory, digest), bytes));
        let mut known = self.known();
        match written {
            Ok(()) => drop(known.kept.insert(digest, bytes.len() as u64)),
            Err(error) => known.complain(format!(
                "a generation cannot be kept in {}: {error}",
                directory.display()
            )),
        }
    }

    /// The bytes of a kept generation. Blocks on the disk. An error says in words why there are none.
    pub(super) fn bytes(&self, digest: Digest) -> Result<Vec<u8>, String> {
        let directory = self.directory.as_ref().ok_or("nothing is kept")?;
        let file = component_file(directory, digest);
        let bytes = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        if component::digest(&bytes) != digest.0 {
            return Err(format!(
                "{} is damaged: it has another digest than its name",
                file.display()
            ));
        }
        Ok(bytes)
    }

    /// Writes what is not on disk, and gives up what there is no more room for. Blocks on the disk.
    ///
    /// # Errors
    /// What was changed is in force, and does not outlast a restart; why, in words.
    pub(super) fn flush(&self) -> Result<(), String> {
        let mut known = self.known();
        if known.pending.is_empty() {
            return Ok(());
        }
        let Some(directory) = &self.directory else {
            known.pending.clear();
            return Ok(());
        };
        let lock = lock(directory);
        known.refresh(directory);
        for surplus in known.history.surplus(&known.kept, BOUNDS) {
            fs::remove_file(component_file(directory, surplus)).ok(); // another process may have been faster
            known.kept.remove(&surplus);
        }
        let mut text =
            serde_json::to_vec_pretty(&known.history).expect("it has only keys that are text");
        text.push(b'\n');
        let written = lock.and_then(|_lock| file::replace(&directory.join(HISTORY), &text));
        if let Err(error) = written {
            let trouble =
                format!("the history cannot be written to {}: {error}", directory.display());
            known.complain(trouble.clone());
            return Err(trouble);
        }
        known.text = Some(text);
        known.pending.clear();
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Reads the directory where its history is not the one that was read or written last.
    fn refresh(&mut self, directory: &Path) {
        let path = directory.join(HISTORY);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                return self.complain(format!("{} cannot be read: {error}", path.display()));
            }
        };
        if Some(&text) == self.text.as_ref() {
            return;
        }
        self.kept = kept(directory);
        match serde_json::from_slice(&text) {
            Ok(history) => {
                self.history = history;
                self.text = Some(text);
                for change in &self.pending {
                    self.history.apply(change);
                }
            }
            Err(error) => {
                fs::rename(&path, directory.join(DAMAGED)).ok(); // if not, it is replaced at the next change
                self.complain(format!("{} was damaged and is begun anew: {error}", path.display()));
            }
        }
    }

    fn complain(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::error!("A plugin's history: {trouble}.");
        }
        self.trouble = Some(trouble);
    }
}

fn component_file(directory: &Path, digest: Digest) -> PathBuf {
    directory.join(format!("{digest}{COMPONENT}"))
}

fn kept(directory: &Path) -> BTreeMap<Digest, u64> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let digest = Digest::try_from(name.strip_suffix(COMPONENT)?.to_owned()).ok()?;
            Some((digest, entry.metadata().ok()?.len()))
        })
        .collect()
}

/// The only one that changes the directory until this is dropped.
fn lock(directory: &Path) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    let lock = File::create(directory.join("history.lock"))?;
    lock.lock()?;
    Ok(lock)
}
