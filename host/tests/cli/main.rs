//! The `keyway` binary as a shell sees it: arguments in; output, errors and an exit code out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod against_a_gateway;
mod configuration;
#[path = "../support/plugins.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod examples;
mod inspect;
mod plugin_test;
mod usage;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

/// The binary in a directory of its own, with nothing of the caller's settings in its environment.
fn keyway(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
    let foreign = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        ["KAFKA_", "KEYWAY_", "RUST_LOG"].iter().any(|prefix| name.starts_with(prefix))
    });
    for name in foreign {
        command.env_remove(name);
    }
    command.current_dir(directory).args(arguments).stdin(Stdio::null());
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    keyway(directory, arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
