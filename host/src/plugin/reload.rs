//! Watching the directory: when to look at which plugin's file.
//!
//! What counts is what a path leads to, asked of the file system itself: which file, how long, changed when. So a
//! rename, an overwrite, a switched link at any place of the path, a file or a directory that comes later are all the
//! same thing. Notifications only wake the watcher early; where there are none (a link's target, a network file system,
//! no watches left) it looks each second.
//!
//! A file is read when it has been quiet for a moment. One that is refused may be half written: it is reported when it
//! has stayed as it is for a while.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::{entry::Plugin, host::Inner, registry::Refused};

/// How long a file must not change before it is read.
const QUIET: Duration = Duration::from_millis(100);
/// How long a refused file must not change before it is reported.
const SETTLED: Duration = Duration::from_secs(1);
/// How often to look when nothing is heard.
const REGULARLY: Duration = Duration::from_secs(1);
/// How long to let notifications gather after a look: they come in swarms.
const SWARM: Duration = Duration::from_millis(2);

/// Watches the plugin directory until it is dropped. A load that has begun still ends.
#[must_use = "watching ends when this is dropped"]
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    wake: SyncSender<()>,
}

impl Watch {
    /// Starts the watcher's thread. It keeps no host alive.
    pub(super) fn start(host: Weak<Inner>, directory: &Path) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let stop = Arc::<AtomicBool>::default();
        let mut watcher = Watcher {
            host,
            stop: stop.clone(),
            events: Events::new(directory, wake.clone()),
            files: HashMap::new(),
            histories: HashMap::new(),
        };
        thread::Builder::new().name("keyway-plugins".into()).spawn(move || watcher.run(&woken))?;
        Ok(Self { stop, wake })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wake.try_send(()).ok(); // when the channel is full it is awake already
    }
}

struct Watcher {
    host: Weak<Inner>,
    stop: Arc<AtomicBool>,
    events: Events,
    files: HashMap<Arc<str>, File>,
    histories: HashMap<Arc<str>, Option<Stamp>>,
}

impl Watcher {
    fn run(&mut self, woken: &Receiver<()>) {
        while !self.stop.load(Ordering::Acquire) {
            let Some(host) = self.host.upgrade() else { return };
            self.events.follow();
            let again = self.look(&host);
            drop(host);
            let looked = Instant::now();
            if woken.recv_timeout(again).is_ok() {
                // The first of a swarm is followed at once, the others together.
                thread::sleep(SWARM.saturating_sub(looked.elapsed()));
            }
        }
    }

    /// Looks at every plugin's file; how long until there may be something to do, if nothing changes.
    fn look(&mut self, host: &Inner) -> Duration {
        let mut again = REGULARLY;
        for plugin in host.registry.plugins() {
            self.follow(host, &plugin);
            let file = self.files.entry(plugin.name.clone()).or_default();
            match file.observe(Instant::now(), Stamp::of(&plugin.file)) {
                Step::Rest => {}
                Step::Wait(rest) => again = again.min(rest),
                Step::Read => {
                    let runtime = host.threads.handle();
                    file.refused = runtime.block_on(host.registry.refresh(&plugin)).err();
                    if file.refused.is_some() {
                        again = again.min(SETTLED - QUIET);
                    }
                }
                Step::Report(refused) => {
                    host.threads.handle().block_on(host.registry.report(&plugin, refused));
                }
            }
        }
        again
    }

    /// Reads a plugin's history when it has changed, as another process that shares it may have done.
    fn follow(&mut self, host: &Inner, plugin: &Plugin) {
        let Some(stamp) = plugin.archive.file().as_deref().and_then(Stamp::of) else { return };
        let seen = self.histories.entry(plugin.name.clone()).or_default();
        if seen.as_ref() != Some(&stamp) {
            *seen = Some(stamp);
            host.threads.handle().block_on(host.registry.follow(plugin));
        }
    }
}

/// What was seen of one file.
#[derive(Default)]
struct File {
    stamp: Option<Stamp>,
    changed: Option<Instant>,
    read: bool,
    refused: Option<Refused>,
}

/// What is to be done about one file.
#[derive(Debug)]
enum Step {
    /// Nothing.
    Rest,
    /// Look again when it has been quiet for so much longer.
    Wait(Duration),
    /// It has changed and is quiet.
    Read,
    /// It was refused and has stayed as it is.
    Report(Refused),
}

impl File {
    fn observe(&mut self, now: Instant, stamp: Option<Stamp>) -> Step {
        if self.stamp != stamp {
            *self = Self { stamp, changed: Some(now), read: false, refused: None };
        }
        let (Some(_), Some(changed)) = (&self.stamp, self.changed) else { return Step::Rest };
        let quiet = now.saturating_duration_since(changed);
        if !self.read {
            self.read = quiet >= QUIET;
            return if self.read { Step::Read } else { Step::Wait(QUIET - quiet) };
        }
        match self.refused.take() {
            Some(error) if quiet >= SETTLED => Step::Report(error),
            Some(error) => {
                self.refused = Some(error);
                Step::Wait(SETTLED - quiet)
            }
            None => Step::Rest,
        }
    }
}

/// Which file a path leads to, and in what state: two that are equal hold the same bytes.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Device, inode, and when the inode changed: a write that keeps length and time is seen by these.
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let metadata = fs::metadata(file).ok()?;
        Some(Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            inode: {
                use std::os::unix::fs::MetadataExt;
                (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
            },
        })
    }
}

/// Notifications about the directory, or about the nearest one above it that exists.
struct Events {
    directory: PathBuf,
    watcher: Option<RecommendedWatcher>,
    watched: Option<(PathBuf, PathBuf)>,
}

impl Events {
    fn new(directory: &Path, wake: SyncSender<()>) -> Self {
        let heard = move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too, and we do that ourselves.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                wake.try_send(()).ok(); // when the channel is full it is awake already
            }
        };
        let watcher = notify::recommended_watcher(heard);
        if let Err(error) = &watcher {
            tracing::warn!(%error, "Changes of plugins are seen within a second: there are no notifications.");
        }
        Self { directory: directory.to_owned(), watcher: watcher.ok(), watched: None }
    }

    /// Watches what the directory's path leads to now.
    fn follow(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let Some(there) = nearest(&self.directory) else { return };
        // A link that leads elsewhere now has the same name and another target.
        let Ok(target) = there.canonicalize() else { return };
        let now = Some((there.to_owned(), target));
        if self.watched == now {
            return;
        }
        if let Some((before, _)) = self.watched.take() {
            watcher.unwatch(&before).ok(); // it may be gone, and its watch with it
        }
        match watcher.watch(there, RecursiveMode::NonRecursive) {
            Ok(()) => self.watched = now,
            Err(error) => {
                tracing::warn!(
                    directory = %there.display(), %error,
                    "Changes of plugins are seen within a second: the directory cannot be watched."
                );
                self.watcher = None;
            }
        }
    }
}

/// The directory itself, or the nearest one above it that exists.
fn nearest(directory: &Path) -> Option<&Path> {
    let above = |path: &&Path| path.is_dir();
    // The last ancestor of a relative path is empty, and stands for the working directory.
    directory
        .ancestors()
        .map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path })
        .find(above)
}

#[cfg(test)]
mod tests {
    use super::{super::host::PluginError, *};

    fn stamp(length: u64) -> Option<Stamp> {
        Some(Stamp {
            length,
            modified: None,
            #[cfg(unix)]
            inode: (0, 0, 0, 0),
        })
    }

    fn refused() -> Option<Refused> {
        Some(Refused { error: PluginError::Start("refused".into()), digest: None })
    }

    #[test]
    fn a_file_is_read_once_when_it_is_quiet() {
        let start = Instant::now();
        let mut file = File::default();
        let waits = |step, rest| matches!(step, Step::Wait(wait) if wait == rest);
        assert!(waits(file.observe(start, stamp(1)), QUIET));
        assert!(waits(file.observe(start + QUIET / 2, stamp(2)), QUIET), "it grows");
        assert!(waits(file.observe(start + QUIET, stamp(2)), QUIET / 2));
        assert!(matches!(file.observe(start + QUIET * 2, stamp(2)), Step::Read));
        assert!(matches!(file.observe(start + QUIET * 3, stamp(2)), Step::Rest));
    }

    #[test]
    fn a_refused_file_is_reported_once_when_it_stays_as_it_is() {
        let start = Instant::now();
        let mut file =
            File { stamp: stamp(1), changed: Some(start), read: true, refused: refused() };
        assert!(matches!(file.observe(start + SETTLED / 2, stamp(1)), Step::Wait(_)));
        assert!(matches!(file.observe(start + SETTLED, stamp(1)), Step::Report(_)));
        assert!(matches!(file.observe(start + SETTLED * 2, stamp(1)), Step::Rest));
    }

    #[test]
    fn a_refused_file_that_changes_is_not_reported() {
        let start = Instant::now();
        let mut file =
            File { stamp: stamp(1), changed: Some(start), read: true, refused: refused() };
        assert!(matches!(file.observe(start + SETTLED, stamp(2)), Step::Wait(_)));
        assert!(file.refused.is_none());
    }

    #[test]
    fn a_file_that_goes_away_is_left_alone() {
        let start = Instant::now();
        let mut file = File { stamp: stamp(1), changed: Some(start), read: true, refused: None };
        assert!(matches!(file.observe(start + SETTLED, None), Step::Rest));
        assert!(
            matches!(file.observe(start + SETTLED * 2, stamp(1)), Step::Wait(_)),
            "it came back"
        );
    }

    #[test]
    fn the_nearest_directory_that_exists_is_watched() {
        let parent = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&parent.path().join("a/b")), Some(parent.path()));
        assert_eq!(nearest(Path::new("no-such-directory/b")), Some(Path::new(".")));
    }
}
