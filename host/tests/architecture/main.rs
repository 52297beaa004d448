//! The shape of the house, held by a test: which module may import which, and who may name the big dependencies.
//!
//! The tables below are the documentation; the rest of this folder only reads the sources and compares. To change
//! the shape, change a table, and say why in the commit.

mod check;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

use check::{Imports, Names, Shape};

/// Which parts of the crate each part may import. What is not listed may not be imported; a part may always import
/// from itself. The longest name that fits a file counts, so `broker::kafka` has a line of its own beside `broker`.
const IMPORTS: &[Imports] = &[
    // Vocabulary: anyone may use it, and it uses nobody.
    Imports { part: "config", may_import: &[] },
    Imports { part: "record", may_import: &[] },
    Imports { part: "handler", may_import: &["record"] },
    Imports { part: "letter", may_import: &["record"] },
    Imports { part: "file", may_import: &[] },
    // What tests break on purpose.
    Imports { part: "flaw", may_import: &[] },
    // The port, and its two implementations, which know the port and not each other.
    Imports { part: "broker", may_import: &["config", "record"] },
    Imports { part: "broker::embedded", may_import: &["broker", "config", "record"] },
    Imports { part: "broker::kafka", may_import: &["broker", "config", "record"] },
    // What records pass through. `dispatch`, `plugin` and `http` do not know each other: `app` joins them.
    Imports { part: "produce", may_import: &["broker", "handler", "record"] },
    Imports { part: "plugin", may_import: &["config", "file", "handler", "record"] },
    Imports {
        part: "dispatch",
        may_import: &["broker", "config", "flaw", "handler", "letter", "produce", "record"],
    },
    Imports { part: "http", may_import: &["broker", "config", "handler", "produce", "record"] },
    // What shows it: of the parts that do the work, only the plain data that they show of themselves, and of the data
    // port the server, which serves anything.
    Imports {
        part: "admin",
        may_import: &[
            "broker",
            "config",
            "dispatch::GroupStatus",
            "dispatch::HotKey",
            "dispatch::MemberState",
            "dispatch::MemberStatus",
            "dispatch::PartitionStatus",
            "dispatch::Pause",
            "dispatch::Pauses",
            "dispatch::Scope",
            // Where nobody reads a group, an operator's command moves it.
            "dispatch::note_seek",
            "handler",
            "http::BindError",
            "http::Drained",
            "http::Server",
            "http::ServerLimits",
            // A record that is given for a look is written as one that is sent.
            "http::parse_record",
            "letter",
            "plugin::By",
            "plugin::CanaryStatus",
            "plugin::Comparisons",
            "plugin::Difference",
            "plugin::Fate",
            "plugin::Figures",
            "plugin::FirstOffset",
            "plugin::GenerationError",
            "plugin::GenerationStatus",
            "plugin::MetricValue",
            "plugin::PluginStatus",
            "plugin::RefusedStatus",
            "plugin::Role",
            "plugin::ShadowStatus",
            "plugin::UseMetrics",
            "plugin::UseStatus",
            "produce::Hot",
            "produce::Share",
            "produce::Skew",
            "produce::Skewed",
            // The one rule of who decides, for a look at what would become of records.
            "produce::SelectedBy",
            "produce::decide",
            "record",
        ],
    },
    // What joins it, and what starts it.
    Imports { part: "app", may_import: &["*"] },
    Imports {
        part: "cli",
        may_import: &[
            "admin",
            "app",
            "broker",
            "config",
            "dispatch::MemberState",
            "handler",
            // A test's records are taken as the data port takes them.
            "http::JSON_DEPTH",
            "http::compact_json",
            "plugin",
            "record",
            "telemetry",
        ],
    },
    Imports { part: "telemetry", may_import: &[] },
    Imports { part: "main", may_import: &["cli", "telemetry"] },
    Imports { part: "lib", may_import: &[] },
];

/// Parts that the name of the part around them does not open: they are imported only where a line above names them.
const INSIDES: &[&str] = &["broker::embedded", "broker::kafka"];

/// Which crates only some parts may name. A name that ends in `*` stands for all that begin so.
const NAMES: &[Names] = &[
    Names { krate: "rdkafka*", only_in: &["broker::kafka"] },
    Names { krate: "rusqlite", only_in: &["broker::embedded"] },
    Names { krate: "wasmtime*", only_in: &["plugin"] },
    Names { krate: "wit_*", only_in: &["plugin"] },
    Names { krate: "hyper*", only_in: &["http", "admin", "plugin::capability::http"] },
    Names { krate: "rustls*", only_in: &["plugin::capability::http"] },
    Names { krate: "axum", only_in: &["http", "admin"] },
];

/// Lines of a file that one can still hold in one's head, tests included.
const LONGEST_FILE: usize = 600;

const SHAPE: Shape = Shape { imports: IMPORTS, insides: INSIDES, names: NAMES };

#[test]
fn modules_import_only_what_the_tables_allow() {
    let violations: Vec<String> = sources()
        .iter()
        .flat_map(|file| check::imports(&SHAPE, &module_of(&file.path), &file.text, &file.name()))
        .collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn every_module_opens_by_saying_what_it_is() {
    let silent: Vec<String> = sources()
        .iter()
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| {
            format!("{}:1: opens without `//!`: say what it owns and what holds", file.name())
        })
        .collect();
    assert!(silent.is_empty(), "\n{}\n", silent.join("\n"));
}

#[test]
fn no_file_is_too_long_to_hold_in_ones_head() {
    let long: Vec<String> = sources()
        .iter()
        .filter_map(|file| {
            let lines = file.text.lines().count();
            let name = file.name();
            (lines > LONGEST_FILE).then(|| {
                format!("{name}:{lines}: longer than {LONGEST_FILE} lines: a concept wants out")
            })
        })
        .collect();
    assert!(long.is_empty(), "\n{}\n", long.join("\n"));
}

struct SourceFile {
    /// From `src/` on.
    path: PathBuf,
    text: String,
}

impl SourceFile {
    fn name(&self) -> String {
        format!("host/src/{}", self.path.display())
    }
}

fn sources() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the sources are there") {
            let path = entry.expect("the sources can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source is UTF-8");
                let path = path.strip_prefix(&root).expect("it is below the root").to_owned();
                files.push(SourceFile { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 10, "only {} sources found below {}", files.len(), root.display());
    files
}

/// `broker/kafka/mod.rs` is `["broker", "kafka"]`; the two roots go by their file's name.
fn module_of(path: &Path) -> Vec<String> {
    let mut module: Vec<String> = path
        .with_extension("")
        .iter()
        .map(|part| part.to_str().expect("a module's name is ASCII").to_owned())
        .collect();
    module.pop_if(|last| last == "mod");
    module
}
