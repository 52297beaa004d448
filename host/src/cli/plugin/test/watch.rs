//! Waits until a file that a test depends on has changed.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use crate::plugin::build::Sources;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(300);

/// Files, and a source folder, as they were when they were last looked at.
#[derive(Debug)]
pub(super) struct Watched {
    folder: Option<PathBuf>,
    sources: Sources,
    files: BTreeMap<PathBuf, Option<Stamp>>,
}

/// When it was written, and how many bytes it has. A file that is not there has none.
type Stamp = (SystemTime, u64);

impl Watched {
    /// As they are now.
    pub(super) fn new(folder: Option<&Path>, files: impl IntoIterator<Item = PathBuf>) -> Self {
        let files = files.into_iter().map(|file| (file, None)).collect();
        let mut watched =
            Self { folder: folder.map(Into::into), sources: Sources::default(), files };
        watched.changed();
        watched
    }

    /// Waits until something is otherwise than when it was last looked at, and says what.
    pub(super) fn wait(&mut self) -> PathBuf {
        loop {
            if let Some(changed) = self.changed() {
                return changed;
            }
            thread::sleep(LOOK);
        }
    }

    fn changed(&mut self) -> Option<PathBuf> {
        let folders = self.sources.changed(self.folder.as_slice());
        let mut changed = folders.into_iter().next();
        for (file, seen) in &mut self.files {
            let now = stamp(file);
            if std::mem::replace(seen, now) != now {
                changed.get_or_insert_with(|| file.clone());
            }
        }
        changed
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_comes_changes_or_goes_is_a_change_and_so_is_a_source() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("a"), "").unwrap();
        let mut watched = Watched::new(Some(&path("folder")), [path("a"), path("b")]);
        assert_eq!(watched.changed(), None);
        fs::write(path("a"), "1").unwrap();
        assert_eq!(watched.changed(), Some(path("a")));
        fs::write(path("b"), "").unwrap();
        assert_eq!(watched.wait(), path("b"));
        fs::remove_file(path("b")).unwrap();
        assert_eq!(watched.changed(), Some(path("b")));
        fs::write(path("folder/app.py"), "").unwrap();
        assert_eq!(watched.changed(), Some(path("folder")));
        assert_eq!(watched.changed(), None);
    }
}
