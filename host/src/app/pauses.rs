//! What operators have paused, remembered in a file over a restart of this process.
//!
//! The file is in the directory that `[broker] path` names, so every gateway that runs from the same directory shares
//! it: a pause holds for all of them, whichever was asked, and the others follow within a second. A gateway elsewhere has
//! its own. One file for each kind of broker: what was paused while records were kept here says nothing about a Kafka.
//!
//! Invariant: the file is replaced as a whole, under a lock, and is durable before anyone is told without a reservation
//! that something is paused or resumed. A file that is not understood stops the gateway rather than have it handle what is paused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::parts::Parts;
use crate::{
    config::Broker,
    dispatch::{Pause, PausedAsAWhole, Pauses, Scope},
    file,
};

/// How often the file is looked at; it is small.
const LOOK: Duration = Duration::from_secs(1);

/// Paused groups by id, and the file that remembers them.
pub(super) struct PauseFile {
    path: PathBuf,
    known: Mutex<Known>,
}

/// What the file held when it was read or written last.
#[derive(Default)]
struct Known {
    text: Vec<u8>,
    groups: BTreeMap<String, Arc<Pauses>>,
}

/// Why something was not paused or resumed, or the file could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum PauseError {
    #[error(transparent)]
    PausedAsAWhole(#[from] PausedAsAWhole),
    #[error("{}: {cause}; it remembers which groups are paused: mend it, or remove it to pause none", .path.display())]
    Unreadable { path: PathBuf, cause: String },
    #[error("that is in force now, but could not be remembered in {}, so a restart forgets it: {cause}", .path.display())]
    Unwritable { path: PathBuf, cause: io::Error },
}

/// The file as it is written.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    groups: BTreeMap<String, Vec<Entry>>,
}

/// One pause: of the group, or of a topic, or of one partition.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    topic: Option<Arc<str>>,
    partition: Option<u32>,
    /// RFC 3339.
    since: String,
    by: Option<String>,
}

impl PauseFile {
    /// Reads the file, where there is one.
    ///
    /// # Errors
    /// It is not understood.
    pub(super) fn open(broker: &Broker) -> Result<Self, PauseError> {
        let (directory, name) = match broker {
            Broker::Embedded { path, .. } => (path, "paused.json"),
            Broker::Kafka { path, .. } => (path, "paused-on-kafka.json"),
        };
        let path = directory.join(name);
        let known = read(&path)?;
        Ok(Self { path, known: Mutex::new(known) })
    }

    /// What is paused of a group.
    pub(super) fn of(&self, group: &str) -> Arc<Pauses> {
        self.known().groups.get(group).cloned().unwrap_or_default()
    }

    /// Reads the file again where another process has changed it. Blocks on the disk.
    ///
    /// # Errors
    /// It is not understood; what was known before stays.
    pub(super) fn refresh(&self) -> Result<(), PauseError> {
        self.known().refresh(&self.path)
    }

    /// Pauses part of a group or all of it. Blocks until the disk has it.
    pub(super) fn pause(
        &self,
        group: &str,
        scope: &Scope,
        by: Option<String>,
    ) -> Result<(), PauseError> {
        let pause = Pause { since: now(), by };
        self.change(group, |pauses| {
            pauses.pause(scope, &pause);
            Ok(())
        })
    }

    /// Resumes part of a group or all of it. Blocks until the disk has it.
    pub(super) fn resume(&self, group: &str, scope: &Scope) -> Result<(), PauseError> {
        self.change(group, |pauses| Ok(pauses.resume(scope)?))
    }

    fn change(
        &self,
        group: &str,
        change: impl FnOnce(&mut Pauses) -> Result<(), PauseError>,
    ) -> Result<(), PauseError> {
        // Held until the change is made: other processes read, change and write the same file.
        let lock = file::lock(&self.path.with_extension("lock"));
        let mut known = self.known();
        known.refresh(&self.path)?;
        let mut pauses = known.groups.remove(group).unwrap_or_default();
        let changed = change(Arc::make_mut(&mut pauses));
        if !pauses.is_empty() {
            known.groups.insert(group.to_owned(), pauses);
        }
        changed?;
        let text = Document::of(&known.groups).text();
        if text != known.text {
            lock.and_then(|_lock| file::replace_for_good(&self.path, &text))
                .map_err(|cause| PauseError::Unwritable { path: self.path.clone(), cause })?;
            known.text = text;
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn refresh(&mut self, path: &Path) -> Result<(), PauseError> {
        if content(path)? != self.text {
            *self = read(path)?;
        }
        Ok(())
    }
}

/// Has every group follow what other processes change, until it is dropped.
pub(super) async fn follow(parts: Arc<Parts>) {
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let trouble =
            parts.change_pauses(PauseFile::refresh).await.err().map(|error| error.to_string());
        if let Some(error) = trouble.as_ref().filter(|_| trouble != told) {
            tracing::error!(%error, "What is paused stays as it is.");
        }
        told = trouble;
    }
}

/// As the file keeps it: to the millisecond.
fn now() -> SystemTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_millis(since.as_millis() as u64)
}

/// Empty where there is no file.
fn content(path: &Path) -> Result<Vec<u8>, PauseError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|error| unreadable(path, error.to_string())),
    }
}

fn read(path: &Path) -> Result<Known, PauseError> {
    let text = content(path)?;
    if text.is_empty() {
        return Ok(Known::default());
    }
    let document: Document =
        serde_json::from_slice(&text).map_err(|error| unreadable(path, error.to_string()))?;
    let mut groups = BTreeMap::new();
    for (group, entries) in document.groups {
        let mut pauses = Pauses::default();
        for entry in entries {
            let (scope, pause) = entry.read().map_err(|cause| unreadable(path, cause))?;
            pauses.pause(&scope, &pause);
        }
        groups.insert(group, Arc::new(pauses));
    }
    Ok(Known { text, groups })
}

fn unreadable(path: &Path, cause: String) -> PauseError {
    PauseError::Unreadable { path: path.into(), cause }
}

impl Document {
    fn of(groups: &BTreeMap<String, Arc<Pauses>>) -> Self {
        let entries = |pauses: &Pauses| pauses.iter().flat_map(Entry::of).collect();
        let groups = groups.iter().map(|(group, pauses)| (group.clone(), entries(pauses)));
        Self { groups: groups.collect() }
    }

    fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("it has only keys that are text");
        text.push(b'\n');
        text
    }
}

impl Entry {
    fn of((scope, pause): (Scope, &Pause)) -> Vec<Self> {
        let entry = |topic, partition| Self {
            topic,
            partition,
            since: humantime::format_rfc3339_millis(pause.since).to_string(),
            by: pause.by.clone(),
        };
        match scope {
            Scope::Group => vec![entry(None, None)],
            Scope::Topic(topic) => vec![entry(Some(topic), None)],
            Scope::Partitions(topic, numbers) => {
                numbers.iter().map(|number| entry(Some(topic.clone()), Some(*number))).collect()
            }
        }
    }

    fn read(self) -> Result<(Scope, Pause), String> {
        let scope = match (self.topic, self.partition) {
            (None, None) => Scope::Group,
            (Some(topic), None) => Scope::Topic(topic),
            (Some(topic), Some(number)) => Scope::Partitions(topic, BTreeSet::from([number])),
            (None, Some(number)) => return Err(format!("partition {number} of no topic")),
        };
        let since = humantime::parse_rfc3339(&self.since)
            .map_err(|error| format!("since {:?}: {error}", self.since))?;
        Ok((scope, Pause { since, by: self.by }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Retention, record::TopicPartition};

    fn broker(directory: &Path) -> Broker {
        Broker::Embedded {
            path: directory.join("data"),
            retention: Retention { time: None, bytes: None },
        }
    }

    fn partition(number: u32) -> Scope {
        Scope::Partitions("t".into(), BTreeSet::from([number]))
    }

    #[test]
    fn what_is_paused_is_there_when_the_file_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let broker = broker(directory.path());
        let file = PauseFile::open(&broker).unwrap();
        file.pause("g", &partition(1), Some("ada".into())).unwrap();
        file.pause("h", &Scope::Group, None).unwrap();
        let again = PauseFile::open(&broker).unwrap();
        let pauses = again.of("g");
        let pause = pauses.of(&TopicPartition::new("t", 1)).unwrap();
        assert_eq!(pause.by.as_deref(), Some("ada"));
        assert!(pauses.of(&TopicPartition::new("t", 0)).is_none());
        assert!(again.of("h").whole().is_some() && again.of("i").is_empty());
        again.resume("h", &Scope::Group).unwrap();
        assert!(PauseFile::open(&broker).unwrap().of("h").is_empty());
    }

    #[test]
    fn two_that_share_the_file_keep_each_others_pauses_and_see_them() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = [(), ()].map(|()| PauseFile::open(&broker(directory.path())).unwrap());
        one.pause("g", &partition(0), None).unwrap();
        other.pause("g", &partition(1), None).unwrap();
        one.refresh().unwrap();
        assert_eq!(one.of("g"), other.of("g"));
        assert_eq!(one.of("g").iter().count(), 2);
    }

    #[test]
    fn a_pause_is_in_force_though_a_process_stands_still_with_the_lock_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = PauseFile::open(&broker(directory.path())).unwrap();
        let held = file::lock(&directory.path().join("data/paused.lock")).unwrap();
        let error = file.pause("g", &Scope::Group, None).unwrap_err().to_string();
        assert!(error.contains("in force now") && error.contains("stand still"), "{error}");
        assert!(file.of("g").whole().is_some());
        drop(held);
        file.pause("h", &Scope::Group, None).unwrap();
        let again = PauseFile::open(&broker(directory.path())).unwrap();
        assert!(again.of("g").whole().is_some(), "it is written with the next");
    }

    #[test]
    fn a_file_that_is_not_understood_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        for text in [
            "{",
            r#"{"groups": {"g": [{"topic": null, "partition": 1, "since": "", "by": null}]}}"#,
        ] {
            fs::write(data.join("paused.json"), text).unwrap();
            let error = PauseFile::open(&broker(directory.path())).err().unwrap().to_string();
            assert!(error.contains("paused.json: ") && error.contains("remove it"), "{error}");
        }
    }
}
