//! A key selector: the record's header `tenant` becomes its key, so that a tenant's records stay in order.

// Everything that `wit/world.wit` names becomes Rust.
wit_bindgen::generate!({ world: "plugin", generate_all });

use exports::keyway::plugin::selector::{Candidate, Guest, Target};
use wasi::config::store;

struct Plugin;
export!(Plugin);

impl Guest for Plugin {
    /// The same record has to get the same answer, or records that belong together are torn apart.
    fn select(candidate: Candidate, _partitions: u32) -> Result<Target, String> {
        // `key-selector = { plugin = "my-plugin", config = { header = "tenant" } }` in keyway.toml
        let name = store::get("header").ok().flatten().unwrap_or_else(|| "tenant".into());
        let header = candidate.headers.into_iter().find(|header| header.key == name);
        match header.and_then(|header| header.value) {
            Some(tenant) => Ok(Target::Key(tenant)),
            // The record is refused, and whoever sent it reads this.
            None => Err(format!("the record has no header `{name}`")),
        }
    }
}
