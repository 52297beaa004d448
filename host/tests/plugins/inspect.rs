//! What is told of a component without running it.

use std::fs;

use keyway::plugin::{Grant, Role, inspect};

use crate::{examples, guests};

#[test]
fn an_example_is_told_by_its_role_its_language_and_what_it_asks_for() {
    let bytes = fs::read(examples::built().join("print.wasm")).unwrap();
    let found = inspect(&bytes).unwrap();
    assert_eq!((found.roles, found.refused), (vec![Role::Handler], None));
    assert_eq!(found.language, Some("Rust"));
    assert_eq!(found.exports, ["keyway:plugin/handler@0.1.0"]);
    let asks = |name: &str| found.imports.iter().find(|import| import.name.starts_with(name));
    assert_eq!(asks("wasi:config/store").unwrap().grant, Grant::Always);
    assert!(found.producers.iter().any(|producer| producer.name == "wit-bindgen-rust"));
    assert!(found.modules > 0 && found.code > 0 && found.code < found.size);
    assert!(found.memory >= 64 << 10);
}

#[test]
fn outgoing_http_is_told_apart_from_what_everyone_has() {
    let bytes = fs::read(guests::built().join("probe.wasm")).unwrap();
    let found = inspect(&bytes).unwrap();
    let http: Vec<_> = found.imports.iter().filter(|import| import.grant == Grant::Http).collect();
    assert_eq!(http.len(), 1);
    assert!(http[0].name.starts_with("wasi:http/outgoing-handler@"), "{}", http[0].name);
}
