//! What the plugin host shows of a plugin: plain data, taken at one moment.

use std::{fmt, sync::Arc, time::SystemTime};

use super::{
    canary::Figures,
    history::{By, Fate, FirstOffset},
    shadow::{Comparisons, Difference},
};
use crate::handler::Generation;

/// One plugin, by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginStatus {
    /// The file name without `.wasm`.
    pub name: Arc<str>,
    /// What the serving generation can be.
    pub roles: Vec<Role>,
    /// The generation that serves; `None` when none ever loaded.
    pub generation: Option<Generation>,
    /// Since when it serves, over restarts.
    pub since: Option<SystemTime>,
    /// What was wrong with the last file that was refused, with the file's name and the cause; `None` once a good one
    /// has replaced it.
    pub last_error: Option<String>,
    /// Every generation that served, oldest first, over restarts; one that served twice is there twice. The last 32.
    pub generations: Vec<GenerationStatus>,
    /// Generations that were refused and never served, oldest first; the last 8.
    pub refused: Vec<RefusedStatus>,
    /// Canaries that were ended, oldest first; the last 8.
    pub aborted: Vec<RefusedStatus>,
    /// What was rolled back from or gave way to a canary, and is not taken from the file again before another one has been there.
    pub rolled_back_from: Vec<Generation>,
    /// What is wrong with the history on disk.
    pub history_error: Option<String>,
    /// Who uses it now.
    pub uses: Vec<UseStatus>,
}

/// One generation in a plugin's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationStatus {
    /// Which.
    pub generation: Generation,
    /// When it began to serve.
    pub since: SystemTime,
    /// When it ended to; `None`: it serves.
    pub until: Option<SystemTime>,
    /// Who let it serve.
    pub by: By,
    /// What became of it.
    pub fate: Fate,
    /// How many bytes are kept of it; `None`: it cannot be rolled back to any more.
    pub kept: Option<u64>,
    /// The lowest offset of each partition that it was given, or that it decided as a key selector, in the processes that
    /// share this history.
    pub first_offsets: Vec<FirstOffset>,
}

/// A generation that was refused, or a canary that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedStatus {
    /// Which.
    pub generation: Generation,
    /// When it was last.
    pub at: SystemTime,
    /// With the file's name and the cause.
    pub reason: String,
}

/// One use of a plugin: each has instances and a configuration of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct UseStatus {
    /// Whose it is, such as `group my-topic-group-1`.
    pub owner: String,
    /// As what.
    pub role: Role,
    /// What is configured, by its keys alone: the values may be secrets.
    pub config: Vec<String>,
    /// Instances that are kept or at work.
    pub instances: usize,
    /// Records that the plugin was called for, since this process started.
    pub calls: u64,
    /// Of them, those that trapped, ran out of time or broke another bound.
    pub failures: u64,
    /// The generation that is tried with a share of its records.
    pub canary: Option<CanaryStatus>,
    /// The generation that is run on its records and compared.
    pub shadow: Option<ShadowStatus>,
}

/// A canary of one use, beside the generation that serves, since it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryStatus {
    /// The generation that is tried.
    pub generation: Generation,
    /// Since when.
    pub since: SystemTime,
    /// How many of 100 keys are its.
    pub percent: u8,
    /// What the serving generation did with the others.
    pub serving: Figures,
    /// What it did.
    pub canary: Figures,
}

/// A shadow of one use, since it began.
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowStatus {
    /// The generation that runs.
    pub generation: Generation,
    /// Since when.
    pub since: SystemTime,
    /// How what it did compares.
    pub compared: Comparisons,
    /// Records that it was not given, because it had enough to do.
    pub shed: u64,
    /// The first 16 records of which it made something else.
    pub differences: Vec<Arc<Difference>>,
}

/// What a component can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// It exports `keyway:plugin/handler`.
    Handler,
    /// It exports `keyway:plugin/selector`.
    Selector,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handler => "handler",
            Self::Selector => "key selector",
        })
    }
}
