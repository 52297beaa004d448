//! Which source folders have changed, by the times of their files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What builds write beside the sources, and `tests`, which no component is built from.
const NO_SOURCES: [&str; 9] = [
    "Cargo.lock",
    "__pycache__",
    "bindings",
    "dist",
    "node_modules",
    "package-lock.json",
    "target",
    "tests",
    "venv",
];

/// Tells which source folders have changed.
#[derive(Debug, Default)]
pub struct Sources {
    seen: BTreeMap<PathBuf, BTreeMap<PathBuf, SystemTime>>,
}

impl Sources {
    /// The folders of `folders` whose sources are not what they were when this was last asked; all of them the first
    /// time. Looks at every source file's time.
    pub fn changed(&mut self, folders: &[PathBuf]) -> Vec<PathBuf> {
        let changed = |folder: &&PathBuf| {
            let files = source_files(folder);
            self.seen.insert((*folder).clone(), files.clone()) != Some(files)
        };
        folders.iter().filter(changed).cloned().collect()
    }
}

/// The files that `folder` is built from, with the time each was changed. What a build writes there does not count.
pub(super) fn source_files(folder: &Path) -> BTreeMap<PathBuf, SystemTime> {
    /// No package is nested deeper; a circle of links is.
    const DEPTH: usize = 16;
    let mut files = BTreeMap::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".")
                || NO_SOURCES.iter().any(|other| name == *other)
            {
                continue;
            }
            match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() && depth < DEPTH => {
                    folders.push((entry.path(), depth + 1));
                }
                Ok(metadata) if metadata.is_file() => {
                    let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    files.insert(entry.path(), changed);
                }
                _ => {}
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::{super::source_folders, *};

    #[test]
    fn only_a_change_of_sources_is_a_change() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a");
        fs::create_dir_all(folder.join("src")).unwrap();
        fs::create_dir_all(folder.join("target")).unwrap();
        fs::write(folder.join("Cargo.toml"), "").unwrap();
        let folders = source_folders(parent.path());
        assert_eq!(folders, std::slice::from_ref(&folder));
        let mut sources = Sources::default();
        assert_eq!(sources.changed(&folders), folders, "the first time");
        fs::write(folder.join("target/x"), "").unwrap();
        fs::write(folder.join("Cargo.lock"), "").unwrap();
        fs::create_dir_all(folder.join("tests")).unwrap();
        fs::write(folder.join("tests/records.jsonl"), "").unwrap();
        assert!(sources.changed(&folders).is_empty());
        fs::write(folder.join("src/lib.rs"), "").unwrap();
        assert_eq!(sources.changed(&folders), folders);
        assert!(sources.changed(&folders).is_empty());
    }
}
