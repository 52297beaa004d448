//! `keyway plugin new`, `build` and `test`, in a directory far from this repository.

use std::{env, fs, path::Path, process::Command};

use serde_json::json;
use tempfile::TempDir;

use super::{records, skip, start};
use crate::gateway::working_directory;

const CONFIGURATION: &str = r#"
[http]
default-topic = "in"

[[topics]]
name = "in"
partitions = 1
key-selector = { plugin = "my-selector", config = { header = "customer" } }

[[groups]]
id = "greeters"
topics = ["in"]
handler = { plugin = "my-handler", config = { greeting = "good morning" } }
output-topic = "out"
"#;

/// `keyway ARGUMENTS`, with what package managers need of the environment.
fn keyway(directory: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
    for (name, _) in env::vars_os() {
        if ["KAFKA_", "KEYWAY_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let output = command.current_dir(directory).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Two new plugins in `language`, built; `None` where its tools are not installed.
fn walked(language: &str) -> Option<TempDir> {
    let directory = working_directory(CONFIGURATION);
    for kind in ["handler", "selector"] {
        let name = format!("my-{kind}");
        let new = ["plugin", "new", "--language", language, "--kind", kind, &name];
        let (done, text) = keyway(directory.path(), &new);
        assert!(done, "{text}");
        for next in ["build", "test"] {
            assert!(text.contains(&format!("keyway plugin {next} plugins/{name}")), "{text}");
        }
        let (done, text) = keyway(directory.path(), &new);
        assert!(!done && text.contains("is there already and stays as it is"), "{text}");
    }
    let (done, text) = keyway(directory.path(), &["plugin", "build"]);
    if !done && text.contains("is not installed") {
        skip(&text);
        return None;
    }
    assert!(done, "{text}");
    let (done, text) = keyway(directory.path(), &["plugin", "build", "plugins/my-selector"]);
    assert!(done && text.contains("built plugins/my-selector.wasm"), "again: {text}");
    for kind in ["handler", "selector"] {
        let component = format!("plugins/my-{kind}.wasm");
        let (done, text) = keyway(directory.path(), &["plugin", "test", &component]);
        assert!(done && text.contains("2 records: 1 "), "{text}");
    }
    if language == "c" {
        // Built once more, to where no gateway finds it: in C that takes no time.
        let (done, text) = keyway(directory.path(), &["plugin", "test", "my-handler"]);
        assert!(done && text.contains("building plugins/my-handler"), "{text}");
        assert!(directory.path().join("target/plugins/test/my-handler.wasm").is_file());
    }
    Some(directory)
}

/// What is the same in every language: the greeting, the header as key, and what either refuses.
fn works(language: &str) {
    let Some(directory) = walked(language) else { return };
    let gateway = start(&directory);
    let record = json!({"value": "Zoë", "headers": {"customer": "acme"}});
    let (status, answer) = gateway.send(&record);
    assert_eq!((status, &answer["key"]), (200, &json!("acme")), "{answer}\n{}", gateway.tail());
    let (status, answer) = gateway.send(&json!({"value": "nobody's"}));
    assert_eq!(status, 422, "{answer}");
    assert!(answer.to_string().contains("no header `customer`"), "{answer}");

    let written = &records(&gateway, "out", 1)[0];
    assert_eq!(written["value"], "good morning, Zoë", "{written}\n{}", gateway.tail());
    assert_eq!(written["key"], "acme", "{written}");
    assert_eq!(written["headers"], json!([{"key": "customer", "value": "acme"}]));
    assert!(gateway.said("greeting in/0@0"), "{}", gateway.tail());

    let tombstone = json!({"value": null, "headers": {"customer": "acme"}});
    assert_eq!(gateway.send(&tombstone).0, 200);
    let letter = &records(&gateway, "in.dead-letters", 1)[0];
    assert!(letter.to_string().contains("the record has no value"), "{letter}");
    assert_eq!(gateway.terminate().code(), Some(0));
}

#[test]
fn a_new_plugin_in_rust_builds_and_works() {
    works("rust");
}

#[test]
fn a_new_plugin_in_javascript_builds_and_works() {
    works("javascript");
}

#[test]
fn a_new_plugin_in_typescript_builds_and_works() {
    works("typescript");
}

#[test]
fn a_new_plugin_in_python_builds_and_works() {
    works("python");
}

#[test]
fn a_new_plugin_in_go_builds_and_works() {
    works("go");
}

#[test]
fn a_new_plugin_in_c_builds_and_works() {
    works("c");
}

#[test]
fn the_first_plugin_in_a_directory_comes_with_a_configuration_that_uses_it() {
    let directory = working_directory(CONFIGURATION);
    let file = directory.path().join("keyway.toml");
    fs::remove_file(&file).unwrap();
    let (done, text) = keyway(directory.path(), &["plugin", "new", "-l", "c", "first"]);
    assert!(done && text.contains("keyway dev"), "{text}");
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.contains(r#"handler = { plugin = "first""#), "{written}");

    let (done, text) = keyway(directory.path(), &["plugin", "new", "-l", "c", "second"]);
    assert!(done && text.contains("Use it, in keyway.toml below [[groups]]"), "{text}");
    assert_eq!(fs::read_to_string(&file).unwrap(), written);
}

#[test]
fn what_is_not_installed_is_named_with_what_installs_it() {
    let directory = working_directory(CONFIGURATION);
    for (language, program) in [
        ("rust", "rustc"),
        ("javascript", "npm"),
        ("typescript", "npm"),
        ("python", "python3"),
        ("go", "go"),
        ("c", "clang"),
    ] {
        let (done, text) =
            keyway(directory.path(), &["plugin", "new", "-l", language, &format!("in-{language}")]);
        assert!(done, "{text}");
        let output = Command::new(env!("CARGO_BIN_EXE_keyway"))
            .current_dir(directory.path())
            .args(["plugin", "build", &format!("plugins/in-{language}")])
            .env_clear()
            .env("PATH", directory.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(&format!("`{program}` is not installed, which ")), "{text}");
        assert!(text.contains("Install "), "{text}");
    }
}
