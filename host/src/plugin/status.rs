//! What the plugin host shows of a plugin: plain data, taken at one moment.

use std::{fmt, sync::Arc, time::SystemTime};

use crate::handler::Generation;

/// One plugin, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginStatus {
    /// The file name without `.wasm`.
    pub name: Arc<str>,
    /// What the serving generation can be.
    pub roles: Vec<Role>,
    /// The generation that serves; `None` when none ever loaded.
    pub generation: Option<Generation>,
    /// Since when it serves.
    pub since: Option<SystemTime>,
    /// What was wrong with the last file that was refused, with the file's name and the cause; `None` once a good one
    /// has replaced it.
    pub last_error: Option<String>,
    /// Every generation of this process's life, oldest first; the last 16.
    pub generations: Vec<GenerationStatus>,
}

/// One generation in a plugin's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationStatus {
    /// Which.
    pub generation: Generation,
    /// When it began to serve.
    pub since: SystemTime,
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
