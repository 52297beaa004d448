//! A plugin's history on disk: `history.json`, and beside it the bytes of its generations by digest.
//!
//! What is asked is answered from memory; a change is in force in memory whatever the disk says, and is told to have
//! failed when it would not outlast a restart. Processes that run from the same directory share it: each change is made
//! to what the file holds then, under a lock. One that stands still while it has that keeps nobody from what is in memory,
//! and is waited for no longer than [`file::lock`] says. A history that is damaged is moved aside and said; bytes that do
//! not have the digest they are kept under are as good as none.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    component,
    history::{Bounds, Change, Digest, History},
};
use crate::file;

const BOUNDS: Bounds = Bounds { generations: 16, bytes: 256 << 20 };
const HISTORY: &str = "history.json";
const LOCK: &str = "history.lock";
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
    /// Why `pending` is not on disk, in words.
    unwritten: Option<String>,
    /// What else is wrong with the history, in words.
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
        self.0.unwritten.as_deref().or(self.0.trouble.as_deref())
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
        if !self.is_behind() {
            return Ok(());
        }
        let Some(directory) = &self.directory else {
            self.known().pending.clear();
            return Ok(());
        };
        let written = file::lock(&directory.join(LOCK)).and_then(|_lock| self.write(directory));
        let written = written.map_err(|error| {
            format!("the history cannot be written to {}: {error}", directory.display())
        });
        let mut known = self.known();
        match &written {
            Ok(()) => known.unwritten = None,
            Err(trouble) => say(&mut known.unwritten, trouble.clone()),
        }
        written
    }

    /// Puts what is pending on disk. What is known can be asked and changed meanwhile.
    fn write(&self, directory: &Path) -> io::Result<()> {
        let mut known = self.known();
        known.refresh(directory);
        for surplus in known.history.surplus(&known.kept, BOUNDS) {
            fs::remove_file(component_file(directory, surplus)).ok(); // another process may have been faster
            known.kept.remove(&surplus);
        }
        let mut text =
            serde_json::to_vec_pretty(&known.history).expect("it has only keys that are text");
        text.push(b'\n');
        let written = known.pending.len();
        drop(known);
        file::replace(&directory.join(HISTORY), &text)?;
        let mut known = self.known();
        known.text = Some(text);
        known.pending.drain(..written);
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
        say(&mut self.trouble, trouble);
    }
}

/// Logs what is wrong, unless that is what was said last.
fn say(last: &mut Option<String>, trouble: String) {
    if last.as_ref() != Some(&trouble) {
        tracing::error!("A plugin's history: {trouble}.");
    }
    *last = Some(trouble);
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

#[cfg(test)]
mod tests {
    use std::{thread, time::SystemTime};

    use super::*;
    use crate::plugin::By;

    fn serve(byte: u8) -> Change {
        Change::Serve { digest: Digest([byte; 32]), by: By::File, since: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn what_is_known_is_told_and_changed_while_a_process_stands_still_with_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::open(Some(directory.path().into()));
        archive.apply(serve(1));
        let held = file::lock(&directory.path().join(LOCK)).unwrap();
        thread::scope(|scope| {
            let flush = scope.spawn(|| archive.flush());
            while !flush.is_finished() {
                archive.apply(serve(2));
                assert_eq!(archive.view().history().serving(), Some(Digest([2; 32])));
                thread::yield_now();
            }
            let error = flush.join().unwrap().unwrap_err();
            assert!(error.contains("history.lock") && error.contains("stand still"), "{error}");
            assert_eq!(archive.view().trouble(), Some(&*error));
        });
        drop(held);
        archive.flush().unwrap();
        assert_eq!(archive.view().trouble(), None, "it is written now");
        let again = Archive::open(Some(directory.path().into()));
        assert_eq!(again.view().history(), archive.view().history());
    }
}
