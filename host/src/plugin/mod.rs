//! The plugin host: WebAssembly components as handlers and key selectors.

mod status;

pub use status::{GenerationStatus, PluginStatus, Role};
