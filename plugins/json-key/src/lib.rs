//! A key selector: what a JSON pointer (RFC 6901) finds in the value becomes the key.

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package example:json-key;
        world json-key {
            include keyway:plugin/key-selector@0.1.0;
            export keyway:plugin/lifecycle@0.1.0;
            import wasi:config/store@0.2.0-rc.1;
        }
    ",
    generate_all,
});

use std::sync::OnceLock;

use exports::keyway::plugin::{
    lifecycle,
    selector::{self, Candidate, Target},
};
use serde_json::Value;
use wasi::config::store;

/// An instance lives for many records: what is the same for all of them is made once, in `init`.
static POINTER: OnceLock<String> = OnceLock::new();

struct JsonKey;
export!(JsonKey);

impl lifecycle::Guest for JsonKey {
    /// An error here refuses the plugin before it sees a record, and whatever served before serves on.
    fn init() -> Result<(), String> {
        let pointer = store::get("pointer")
            .ok()
            .flatten()
            .ok_or("config `pointer` is missing: a JSON pointer such as \"/user\"")?;
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(format!("config `pointer` must start with `/`, got `{pointer}`"));
        }
        POINTER.set(pointer).map_err(|_| "init was called twice".into())
    }
}

impl selector::Guest for JsonKey {
    fn select(candidate: Candidate, _partitions: u32) -> Result<Target, String> {
        let pointer = POINTER.get().ok_or("init was not called")?;
        key(pointer, candidate.value.as_deref()).map(Target::Key)
    }
}

/// A string is its own bytes, anything else its compact JSON text.
fn key(pointer: &str, value: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let value = value.ok_or_else(|| format!("no key at `{pointer}`: the record has no value"))?;
    let value: Value = serde_json::from_slice(value)
        .map_err(|error| format!("no key at `{pointer}`: the value is not JSON: {error}"))?;
    match value.pointer(pointer) {
        None => Err(format!("no key at `{pointer}`: the value has nothing there")),
        Some(Value::Null) => Err(format!("no key at `{pointer}`: the value has null there")),
        Some(Value::String(text)) => Ok(text.clone().into_bytes()),
        Some(other) => Ok(other.to_string().into_bytes()),
    }
}
