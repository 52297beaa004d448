//! A key selector that gives every record the same key, so that all of them land on one partition.

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package example:fixed-key;
        world fixed-key {
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
use wasi::config::store;

static KEY: OnceLock<String> = OnceLock::new();

struct FixedKey;
export!(FixedKey);

impl lifecycle::Guest for FixedKey {
    fn init() -> Result<(), String> {
        let key = store::get("key")
            .ok()
            .flatten()
            .ok_or("config `key` is missing: the key of every record")?;
        KEY.set(key).map_err(|_| "init was called twice".into())
    }
}

impl selector::Guest for FixedKey {
    fn select(_candidate: Candidate, _partitions: u32) -> Result<Target, String> {
        let key = KEY.get().ok_or("init was not called")?;
        Ok(Target::Key(key.clone().into_bytes()))
    }
}
