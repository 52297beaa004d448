//! A real Apache Kafka for tests: the one that the environment names, or one that `.ci/kafka` starts where Java and Maven
//! are. Where there is neither, tests skip, and standard error says so on one line, once; with
//! `KEYWAY_TEST_REQUIRE_KAFKA=1` that is a failure instead.

#![allow(dead_code, reason = "every test binary uses its own part of this")]

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

/// Which Kafka.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// The current one, without ZooKeeper. `KEYWAY_TEST_KAFKA=HOST:PORT` names one that runs.
    Kraft,
    /// The last one that had ZooKeeper. `KEYWAY_TEST_KAFKA_ZOOKEEPER=HOST:PORT` names one that runs.
    Zookeeper,
}

impl Kind {
    fn variable(self) -> &'static str {
        match self {
            Self::Kraft => "KEYWAY_TEST_KAFKA",
            Self::Zookeeper => "KEYWAY_TEST_KAFKA_ZOOKEEPER",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kraft => "kraft",
            Self::Zookeeper => "zookeeper",
        }
    }
}

/// The `HOST:PORT` of a Kafka that all tests of this binary share; `None`: the test is to be skipped.
pub(crate) fn shared(kind: Kind) -> Option<&'static str> {
    static KRAFT: OnceLock<Option<String>> = OnceLock::new();
    static ZOOKEEPER: OnceLock<Option<String>> = OnceLock::new();
    let address = match kind {
        Kind::Kraft => &KRAFT,
        Kind::Zookeeper => &ZOOKEEPER,
    };
    let find = || match env::var(kind.variable()) {
        Ok(address) if !address.is_empty() => Some(address),
        _ => {
            let directory = directory(kind);
            // Statics are never dropped: it ends with this process, which is its owner.
            available(kind, start(kind, &directory))
        }
    };
    address.get_or_init(find).as_deref()
}

/// The class path of Confluent's Parallel Consumer, for a Java that can compile; `None`: the test is to be skipped.
pub(crate) fn parallel_consumer() -> Option<&'static str> {
    static CLASSES: OnceLock<Option<String>> = OnceLock::new();
    let find = || or_skip("with Parallel Consumer", "", script(&["parallel-consumer".as_ref()]));
    CLASSES.get_or_init(find).as_deref()
}

/// A Kafka of a test's own, which it may kill.
pub(crate) struct Own {
    kind: Kind,
    directory: PathBuf,
    /// `HOST:PORT`, the same after a restart.
    pub(crate) address: String,
}

impl Own {
    /// Starts one; `None`: the test is to be skipped.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        let directory = directory(kind);
        let address = available(kind, start(kind, &directory))?;
        Some(Self { kind, directory, address })
    }

    /// Ends the broker with SIGKILL.
    pub(crate) fn kill(&self) {
        script(&["kill".as_ref(), self.directory.as_ref()]).expect("the broker can be killed");
    }

    /// Starts the broker again, with what it had.
    pub(crate) fn restart(&self) {
        start(self.kind, &self.directory).expect("the broker starts again");
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        script(&["stop".as_ref(), self.directory.as_ref()]).ok(); // else it ends with this process
        std::fs::remove_dir_all(&self.directory).ok(); // it is below `target`
    }
}

fn directory(kind: Kind) -> PathBuf {
    let name = format!("kafka-{}-{}-{:08x}", kind.name(), std::process::id(), fastrand::u32(..));
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn start(kind: Kind, directory: &Path) -> Result<String, String> {
    let owner = std::process::id().to_string();
    script(&["start".as_ref(), kind.name().as_ref(), directory.as_ref(), owner.as_ref()])
}

/// Runs `.ci/kafka`; gives what it printed, or the last line of what it complained about.
fn script(arguments: &[&std::ffi::OsStr]) -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/kafka");
    let Output { status, stdout, stderr } = Command::new(&script)
        .args(arguments)
        .output()
        .map_err(|error| format!("{}: {error}", script.display()))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).trim().to_owned());
    }
    let stderr = String::from_utf8_lossy(&stderr);
    Err(stderr.lines().last().unwrap_or("it failed without a word").to_owned())
}

fn available(kind: Kind, started: Result<String, String>) -> Option<String> {
    let way_out = format!("; {} can name one", kind.variable());
    or_skip(&format!("on a real Kafka ({})", kind.name()), &way_out, started)
}

fn or_skip(which: &str, way_out: &str, found: Result<String, String>) -> Option<String> {
    let reason = match found {
        Ok(found) => return Some(found),
        Err(reason) => reason,
    };
    assert!(
        env::var_os("KEYWAY_TEST_REQUIRE_KAFKA").is_none_or(|value| value != "1"),
        "no test may be skipped, and those {which} cannot run: {reason}",
    );
    // Not by a macro: what those print is shown only for tests that fail.
    let line = format!("SKIPPED tests {which}: {reason}{way_out}\n");
    std::io::stderr().write_all(line.as_bytes()).ok(); // nowhere left to complain
    None
}
