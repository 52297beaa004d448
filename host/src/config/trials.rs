//! The walk over what a handler tries beside the generation that serves: its `canary` and its `shadow`.

use std::path::{Path, PathBuf};

use super::read::Table;

/// Another generation that handles a share of a group's records, and is ended when it is worse than `terms` allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// The generation.
    pub source: Source,
    /// How it is tried.
    pub terms: Terms,
}

/// Where a generation comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A component file.
    File(PathBuf),
    /// One that is kept, by the first digits of its digest.
    Generation(String),
}

/// How a canary is tried, and what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How many of 100 keys are its, from 1 to 100.
    pub percent: u8,
    /// Attempts before it is judged, at least 1.
    pub minimum_sample: u64,
    /// Percentage points that its share of attempts that were not handled may be above the serving generation's.
    pub more_failures: u8,
    /// How many times as long an attempt may take.
    pub slower: u32,
}

impl Default for Terms {
    /// As in `keyway.toml` where nothing else is given, and for 5 of 100 keys.
    fn default() -> Self {
        Self { percent: 5, minimum_sample: 100, more_failures: 5, slower: 3 }
    }
}

/// Reads a canary. Paths are seen from `directory`.
pub(super) fn canary(mut table: Table<'_>, directory: &Path) -> Option<Canary> {
    let default = Terms::default();
    let source = source(&mut table, directory);
    let percent = table
        .required("percent", "how many of 100 keys it gets")
        .and_then(|field| field.integer(1..=100));
    let terms = Terms {
        percent: percent.unwrap_or(default.percent),
        minimum_sample: table
            .read("minimum-sample", |field| field.integer(1..=1_000_000))
            .unwrap_or(default.minimum_sample),
        more_failures: table
            .read("more-failures", |field| field.integer(0..=100))
            .unwrap_or(default.more_failures),
        slower: table.read("slower", |field| field.integer(1..=1000)).unwrap_or(default.slower),
    };
    table.finish();
    source.map(|source| Canary { source, terms })
}

/// Reads a shadow. Paths are seen from `directory`.
pub(super) fn shadow(mut table: Table<'_>, directory: &Path) -> Option<Source> {
    let source = source(&mut table, directory);
    table.finish();
    source
}

fn source(table: &mut Table<'_>, directory: &Path) -> Option<Source> {
    let file = table.read("file", |field| field.path(directory));
    let generation = table.read("generation", |field| {
        let text = field.text()?;
        let is_short = (4..=64).contains(&text.len());
        if !is_short || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            field.refuse(
                "no generation",
                "give at least 4 of the digits that keyway plugin list shows",
            );
            return None;
        }
        Some(text.to_owned())
    });
    match (file, generation) {
        (Some(_), Some(_)) => {
            if let Some(field) = table.field("generation") {
                field.refuse("given beside a file", "leave one of them out");
            }
            None
        }
        (Some(file), None) => Some(Source::File(file)),
        (None, Some(generation)) => Some(Source::Generation(generation)),
        (None, None) => {
            if table.field("generation").is_none() && table.field("file").is_none() {
                table.required("file", "the component to try, or a generation that is kept");
            }
            None
        }
    }
}
