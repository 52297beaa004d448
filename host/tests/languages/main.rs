//! Plugins in every language through the public surface: what `keyway plugin new` writes builds with `keyway plugin build`
//! and does its work in a gateway, and so do the examples, on both brokers.
//!
//! A language whose tools are not installed is skipped, and standard error says so on one line; with
//! `KEYWAY_TEST_REQUIRE_LANGUAGES=1` that is a failure instead.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/gateway.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod gateway;
#[path = "../support/kafka.rs"]
mod kafka;

mod examples;
mod new;
#[path = "../support/plugins.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod plugins;

use std::{env, io::Write as _};

use gateway::{Gateway, command, wait_until};
use serde_json::Value;
use tempfile::TempDir;

/// Says that tests are skipped because `said` names what is not installed, unless none may be.
fn skip(said: &str) {
    assert!(
        env::var_os("KEYWAY_TEST_REQUIRE_LANGUAGES").is_none_or(|value| value != "1"),
        "no test may be skipped, and this one cannot run: {said}",
    );
    // Not by a macro: what those print is shown only for tests that fail.
    let line = format!("SKIPPED tests of a language: {}\n", said.trim());
    std::io::stderr().write_all(line.as_bytes()).ok(); // nowhere left to complain
}

/// Starts a gateway in `directory` and waits until it can do its work.
fn start(directory: &TempDir) -> Gateway {
    // A language's runtime takes a while to compile, and a busy machine its time: here nobody waits for an address.
    let (code, text) = command(directory.path(), &["check"], &[]);
    assert_eq!(code, 0, "{text}");
    let gateway = Gateway::start(directory.path(), &["run"], &[]);
    wait_until("the gateway is ready", || match gateway.get("/ready") {
        (200, _) => Ok(()),
        (_, reasons) => Err(format!("{reasons}\n{}", gateway.tail())),
    });
    gateway
}

/// Waits until `topic`, of one partition, has so many records.
fn records(gateway: &Gateway, topic: &str, count: usize) -> Vec<Value> {
    wait_until(&format!("{topic} has {count} records"), || {
        let (_, page) = gateway.get(&format!("/api/v1/topics/{topic}/records?limit=1000"));
        let records = page["records"].as_array().cloned().unwrap_or_default();
        match records.len() == count {
            true => Ok(records),
            false => Err(format!("{records:?}\n{}", gateway.tail())),
        }
    })
}
