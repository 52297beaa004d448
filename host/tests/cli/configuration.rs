//! What a wrong configuration looks like from a shell.

use std::fs;

use super::{keyway, run, stderr, stdout};

#[test]
fn every_mistake_is_told_at_once_and_exits_with_64() {
    let directory = tempfile::tempdir().unwrap();
    let file = "[http]\nlisten = \"nowhere\"\n[plugin]\ndirectory = \"plugins\"\n";
    fs::write(directory.path().join("keyway.toml"), file).unwrap();
    for command in [&["check"][..], &["run"], &["dev"], &["topics"], &["send", "v"]] {
        let output = run(directory.path(), command);
        assert_eq!(output.status.code(), Some(64), "{command:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("keyway.toml:2:10"), "{command:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("keyway.toml:3:2"), "{command:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{command:?}");
    }
}

#[test]
fn a_file_that_is_named_and_not_there_is_wrong_usage() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["check", "-c", "none.toml"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("none.toml"), "{}", stderr(&output));
}

#[test]
fn questions_go_to_the_admin_port_that_is_configured() {
    let directory = tempfile::tempdir().unwrap();
    // Port 1 is nobody's.
    let output = keyway(directory.path(), &["groups"])
        .env("KEYWAY__ADMIN__LISTEN", "127.0.0.1:1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("http://127.0.0.1:1 "), "{}", stderr(&output));
}

#[test]
fn sources_that_do_not_build_are_named_and_their_plugin_is_missed() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("plugins/print");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("Cargo.toml"), "no manifest").unwrap();
    let output = keyway(directory.path(), &["dev"])
        .env("KEYWAY__HTTP__LISTEN", "127.0.0.1:0")
        .env("KEYWAY__ADMIN__LISTEN", "127.0.0.1:0")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("plugins/print does not build"), "{told}");
    assert!(stderr(&output).contains("plugins/print.wasm does not exist"), "{}", stderr(&output));
}

#[test]
fn a_plugin_that_is_missing_is_named_and_nothing_runs() {
    let directory = tempfile::tempdir().unwrap();
    let output = keyway(directory.path(), &["run"])
        .env("KEYWAY__HTTP__LISTEN", "127.0.0.1:0")
        .env("KEYWAY__ADMIN__LISTEN", "127.0.0.1:0")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    assert!(stderr(&output).contains("plugins/print.wasm does not exist"), "{}", stderr(&output));
}
