//! The plugin host: WebAssembly components as handlers and key selectors.
//!
//! Owns the engine, every instance, every limit, and which generation of a plugin serves. Knows no broker, no group
//! and no socket: the rest of the gateway sees [`Host`] and the two traits of [`crate::handler`].
//!
//! - [`Host`] gives a plugin in a role, as a [`Handler`](crate::handler::Handler) or a
//!   [`Selector`](crate::handler::Selector). `registry` knows every plugin by name and where its next generation
//!   comes from, `entry` is one of them and exchanges its generation for all its uses at once; `reload` watches the
//!   directory and says when.
//! - `canary` tries another generation with a share of the records, and judges it; `shadow` runs one on records that are
//!   handled, and compares; `rollout` begins and promotes them. `preview` looks at a key selector that does not serve.
//! - `rehearsal` calls a plugin record by record, for whoever wants to see what each call does and takes.
//! - `history` is what a plugin's generations have been, and `archive` keeps it, and their bytes, on disk.
//! - `loader` reads and compiles a file, `component` is the checked, compiled code (`interface` is the check, `cache`
//!   spares the compiler); `instance` is the one place where a store is made; `usage` keeps the instances of one use.
//! - `handler` and `selector` run calls, the first by its `workers`, a `batch` at a time, which a `breaker` holds up while
//!   every call fails; `limits` and `output` hold them to their bounds, `capability` is what a guest may call.
//! - [`inspect`] tells what a file is without compiling or running it.
//! - [`build`] makes components from the source folders beside them, [`template`] new source folders; they need the tools of
//!   a language and no engine.
//!
//! Invariants: a store has one owner at a time and nothing locks one across a call; an instance that failed is never
//! called again; a refused file changes nothing but the status.

pub mod build;
pub mod template;

mod archive;
mod batch;
mod bindings;
mod breaker;
mod cache;
mod canary;
mod capability;
mod component;
mod engine;
mod entry;
mod handler;
mod history;
mod host;
mod inspect;
mod instance;
mod interface;
mod limits;
mod loader;
mod output;
mod preview;
mod registry;
mod rehearsal;
mod reload;
mod rollout;
mod selector;
mod shadow;
mod status;
mod usage;
mod workers;

pub use canary::Figures;
pub use capability::metrics::{MetricValue, UseMetrics};
pub use history::{By, Fate, FirstOffset};
pub use host::{GenerationError, Host, HostSettings, PluginError};
pub use inspect::{Import, Inspection, Producer, inspect};
pub use interface::Grant;
pub use rehearsal::{Call, Rehearsal};
pub use reload::Watch;
pub use shadow::{Comparisons, Difference};
pub use status::{
    CanaryStatus, GenerationStatus, PluginStatus, RefusedStatus, Role, ShadowStatus, UseStatus,
};
