//! `keyway plugin inspect`, which needs no gateway.

use std::fs;

use serde_json::{Value, json};

use super::{run, stderr, stdout};

#[test]
fn a_component_is_told_as_json_and_a_gateway_that_would_refuse_it_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let config = "[[topics]]\nname = \"t\"\n\n[[groups]]\nid = \"g\"\ntopics = [\"t\"]\nhandler = { plugin = \"odd\" }\n";
    fs::write(directory.path().join("keyway.toml"), config).unwrap();
    let component =
        wat::parse_str(r#"(component (import "wasi:keyvalue/store@0.2.0" (instance)))"#).unwrap();
    fs::write(directory.path().join("odd.wasm"), component).unwrap();
    let output = run(directory.path(), &["plugin", "inspect", "odd.wasm", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("a gateway would refuse it: it imports wasi:keyvalue/store@0.2.0")
    );
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["name"], "odd");
    assert_eq!(
        report["imports"],
        json!([{"name": "wasi:keyvalue/store@0.2.0", "granted": "never"}])
    );
    assert_eq!(
        report["uses"],
        json!([{"owner": "group g", "role": "handler", "http": [], "topics": [], "ungranted": [], "write": null}])
    );
    assert_eq!(report["digest"].as_str().unwrap().len(), 64);
}

#[test]
fn what_is_no_component_is_called_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("text.wasm"), "hello").unwrap();
    for (file, says) in [
        ("text.wasm", "text.wasm: it is not a WebAssembly component: it is text"),
        ("none.wasm", "none.wasm: No such file"),
    ] {
        let output = run(directory.path(), &["plugin", "inspect", file]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
    }
}
