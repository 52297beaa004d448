//! Files that are no good: named with their cause at start, and without effect while something good serves.

use std::fs;

use keyway::{handler::Outcome, plugin::PluginError};

use crate::{
    examples,
    fixture::{Fixture, configured, handle, using},
    hostile::{GOOD, Handler, LOOP},
};

/// Every kind of bad file, and what its refusal has to say.
fn bad() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = GOOD.component();
    let import = |name: &str| {
        let imports = format!(r#"(import "{name}" (instance))"#);
        Handler { imports: &imports, ..GOOD }.component()
    };
    let refuses = Handler {
        fields: r#"(data (i32.const 0) "\01\00\00\00\40\00\00\00\0b\00\00\00") (data (i32.const 64) "no database")"#,
        ..GOOD
    };
    vec![
        ("empty", vec![], "it is empty"),
        ("text", b"hello".to_vec(), "it is text"),
        ("module", wat::parse_str("(module)").unwrap(), "core WebAssembly module, not a component"),
        ("truncated", good[..good.len() / 2].to_vec(), "not a valid component"),
        (
            "nothing",
            wat::parse_str("(component)").unwrap(),
            "exports neither keyway:plugin/handler nor",
        ),
        ("database", import("wasi:keyvalue/store@0.2.0"), "it imports wasi:keyvalue/store@0.2.0"),
        (
            "version",
            import("keyway:plugin/metrics@0.2.0"),
            "keyway:plugin@0.2.0, this gateway supports keyway:plugin@0.1.0",
        ),
        ("refuses", refuses.component(), "init: no database"),
        ("hangs", Handler { init: LOOP, ..GOOD }.component(), "ran longer than its limit"),
        ("traps", Handler { init: "unreachable", ..GOOD }.component(), "trap"),
        (
            "selector",
            fs::read(examples::built().join("fixed-key.wasm")).unwrap(),
            "does not export keyway:plugin/handler",
        ),
    ]
}

#[tokio::test]
async fn a_bad_file_is_refused_at_start_by_name_and_cause() {
    let fixture = Fixture::new();
    for (name, bytes, cause) in bad() {
        fixture.put(name, &bytes);
        let plugin = configured(name, "key", "k");
        let Err(error) = fixture.handler(&plugin).await else { panic!("{name} was loaded") };
        let error = error.to_string();
        assert!(error.contains(&*fixture.file(name).to_string_lossy()), "{name}: {error}");
        assert!(error.contains(cause), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_bad_file_is_refused_while_the_old_generation_serves_on() {
    let fixture = Fixture::new();
    let bad = bad();
    let mut handlers = Vec::new();
    for (name, ..) in &bad {
        fixture.put(name, &GOOD.component());
        handlers.push(fixture.handler(&configured(name, "key", "k")).await.unwrap());
    }
    let _watch = fixture.host.watch().unwrap();
    for (name, bytes, _) in &bad {
        fixture.put(name, bytes);
    }
    for ((name, _, cause), handler) in bad.iter().zip(&handlers) {
        let refusal = fixture.refusal(name).await;
        assert!(refusal.contains(&*fixture.file(name).to_string_lossy()), "{name}: {refusal}");
        assert!(refusal.contains(cause), "{name}: {refusal}");
        assert_eq!(handle(handler, "").await, Outcome::Handled(vec![]), "{name}");
        let status = fixture.status(name);
        assert_eq!(status.generations.len(), 1, "{name}");
        assert_eq!(status.generation, Some(handler.generation()), "{name}");
    }
}

#[tokio::test]
async fn a_plugin_that_is_not_there_is_named_with_those_that_are() {
    let fixture = Fixture::new().with(&["print", "flaky"]);
    let Err(error) = fixture.handler(&using("prnt")).await else { panic!("it was loaded") };
    assert!(matches!(error, PluginError::Missing { .. }));
    let error = error.to_string();
    assert!(error.contains("`prnt`") && error.ends_with("there are flaky, print"), "{error}");
    assert_eq!(fixture.status("prnt").last_error, Some(error));
}

#[tokio::test]
async fn a_configuration_that_a_plugin_does_not_like_is_refused_in_its_words() {
    let fixture = Fixture::new().with(&["json-key", "fixed-key"]);
    for (plugin, says) in [
        (using("json-key"), "config `pointer` is missing"),
        (configured("json-key", "pointer", "user"), "must start with `/`, got `user`"),
        (using("fixed-key"), "config `key` is missing"),
    ] {
        let Err(error) = fixture.selector(&plugin).await else { panic!("it was loaded") };
        assert!(error.to_string().contains(says), "{error}");
    }
}
