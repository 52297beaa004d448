//! Files for the loader.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use keyway::{
    config::{Allow, Isolation, Limits, PluginUse},
    handler::{Delivery, Handler, Outcome},
    plugin::{Host, HostSettings, PluginError},
    record::Record,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::hostile;

/// What a guest may have.
const LIMITS: Limits =
    Limits { memory: 4 << 20, time: Duration::from_millis(100), emit: 10, emit_bytes: 64 << 10 };
/// Far longer than loading a small file, or a call with its limit, takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new().expect("a runtime can be made"));

/// A host over directories of its own.
pub(crate) struct Fixture {
    root: TempDir,
    host: Host,
}

impl Fixture {
    /// The directory of compiled code in `root`.
    pub(crate) fn cache(root: &Path) -> PathBuf {
        root.join("cache")
    }

    /// A host over what is in `root`.
    pub(crate) fn over(root: TempDir) -> Self {
        // The engine is shared by all hosts that there are: kept, it is made once.
        static ENGINE: LazyLock<(TempDir, Host)> = LazyLock::new(|| {
            let root = directory();
            let host = host(root.path());
            (root, host)
        });
        LazyLock::force(&ENGINE);
        let host = host(root.path());
        Self { root, host }
    }

    /// Loads `bytes` as the plugin `name`.
    pub(crate) fn load(&self, name: &str, bytes: &[u8]) -> Result<Arc<dyn Handler>, PluginError> {
        let file = self.root.path().join(format!("{name}.wasm"));
        fs::write(&file, bytes).expect("the directory can be written to");
        let plugin = PluginUse {
            plugin: name.into(),
            config: [].into(),
            limits: LIMITS,
            allow: Allow::default(),
        };
        let loaded = soon(self.host.handler("group g", &plugin, None, Isolation::None, 1));
        if let Err(error) = &loaded {
            let text = error.to_string();
            assert!(text.contains(&*file.to_string_lossy()), "the file is not named: {text}");
            assert!(text.len() < 8 << 10, "{} bytes of error", text.len());
        }
        loaded
    }
}

/// A new directory.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory can be made")
}

fn host(root: &Path) -> Host {
    Host::new(HostSettings {
        directory: root.into(),
        cache_directory: Fixture::cache(root),
        history_directory: None,
        threads: 1,
    })
    .expect("a host can be made")
}

fn soon<T>(work: impl Future<Output = T>) -> T {
    let limited = async { tokio::time::timeout(PATIENCE, work).await };
    RUNTIME.block_on(limited).expect("it ends within its limits")
}

/// What becomes of a record.
fn handle_one(handler: &Arc<dyn Handler>) -> Outcome {
    let record = Record {
        topic: "t".into(),
        partition: 0,
        offset: 0,
        timestamp: None,
        key: Some("k".into()),
        value: Some("v".into()),
        headers: Vec::new(),
    };
    let mut report = soon(handler.handle(vec![Delivery { record, attempt: 1 }]));
    report.outcomes.remove(0)
}

/// A file of these bytes is loaded, or refused with an error that names it and is not long.
pub fn load(bytes: &[u8]) {
    let fixture = Fixture::over(directory());
    if let Ok(handler) = fixture.load("any", bytes) {
        handle_one(&handler);
    }
}

/// A handler whose `init` and `handle` are statements that these bytes choose: it ends, within its limits.
pub fn guest(bytes: &[u8]) {
    let (init, handle) = bytes.split_at(bytes.len() / 4);
    let component = component(&body(init), &body(handle));
    let fixture = Fixture::over(directory());
    let Ok(handler) = fixture.load("guest", &component) else { return };
    match handle_one(&handler) {
        Outcome::Handled(_) | Outcome::Failed(_) => {}
        // What is at 0 may have been written over.
        Outcome::Retry { reason, .. } | Outcome::Reject { reason } => {
            assert!(reason.len() < 8 << 10, "{} bytes of reason", reason.len());
        }
    }
}

fn component(init: &str, handle: &str) -> Vec<u8> {
    let fields =
        "(table $t 1 100000 funcref) (global $g (mut i32) (i32.const 0)) (elem declare func $again)
        (func $again (param i32) (call $again (i32.add (local.get 0) (i32.const 1))))";
    hostile::Handler { imports: "", fields, init, handle }.component()
}

/// Statements: each takes three bytes, the first of which says what it does, the others with what.
fn body(bytes: &[u8]) -> String {
    let mut body = String::new();
    for statement in bytes.chunks_exact(3) {
        let (a, b) = (u32::from(statement[1]), u32::from(statement[2]));
        // Some are within two pages of memory, some are not.
        let (near, far) = (a << 8 | b, a << 24 | b << 16 | a);
        body += &match statement[0] % 16 {
            0 => format!("(drop (memory.grow (i32.const {b})))"),
            1 => format!("(memory.fill (i32.const {near}) (i32.const {a}) (i32.const {near}))"),
            2 => format!("(memory.copy (i32.const {near}) (i32.const {far}) (i32.const {b}))"),
            3 => format!("(i32.store (i32.const {near}) (i32.const {far}))"),
            4 => format!("(i32.store8 (i32.const {b}) (i32.const {a}))"),
            5 => format!("(global.set $g (i32.load (i32.const {far})))"),
            6 => format!("(drop (table.grow $t (ref.null func) (i32.const {near})))"),
            7 => format!("(table.fill $t (i32.const {a}) (ref.func $again) (i32.const {b}))"),
            8 => format!("(call_indirect $t (param i32) (i32.const {a}) (i32.const {b}))"),
            9 => format!("(global.set $g (i32.div_s (i32.const {far}) (i32.const {b})))"),
            10 => format!("(drop (i64.trunc_f64_s (f64.const {a}e{b})))"),
            11 => format!(
                "(if (i32.ge_u (global.get $g) (i32.const {a})) (then (return (i32.const {b}))))"
            ),
            12 => "(loop (global.set $g (i32.add (global.get $g) (i32.const 1)))
                (br_if 0 (i32.lt_u (global.get $g) (i32.const 100000))))"
                .to_owned(),
            13 => format!("(loop (br_if 0 (i32.ne (memory.grow (i32.const {b})) (i32.const -1))))"),
            14 => format!("(if (i32.eq (global.get $g) (i32.const {a})) (then (loop (br 0))))"),
            _ => format!(
                "(if (i32.eq (global.get $g) (i32.const {b})) (then (call $again (i32.const 0))))"
            ),
        };
    }
    body + " i32.const 0"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_is_one_that_can_be_loaded() {
        for statement in 0..16 {
            let component = component("i32.const 0", &body(&[statement, 1, 1]));
            let loaded = Fixture::over(directory()).load("guest", &component);
            assert!(loaded.is_ok(), "{statement}: {:?}", loaded.err());
        }
    }
}
