//! A shadow on a gateway that runs: from the configuration and from the command line.

use std::fs;

use serde_json::json;

use tempfile::TempDir;

use super::{
    Gateway, directory, done, group, kafka, plugins, records_of, send, start, start_on, topic,
    wait_for_lag_of_zero, wait_until,
};

const DELIVERIES: [&str; 2] = ["at-least-once", "exactly-once"];

#[test]
fn a_shadow_is_compared_on_live_records_and_writes_none() {
    for delivery in DELIVERIES {
        let directory = with_shadow("a", delivery);
        is_compared(&start(&directory), &directory, "a");
    }
}

#[test]
fn on_kafka_a_shadow_is_compared_on_live_records_and_writes_none() {
    let Some(servers) = kafka::shared(kafka::Kind::Kraft) else { return };
    for delivery in DELIVERIES {
        let name = format!("shadow-{}", fastrand::u32(..));
        let directory = with_shadow(&name, delivery);
        is_compared(&start_on(servers, &directory), &directory, &name);
    }
}

/// A group on a topic, both of this name.
fn with_shadow(name: &str, delivery: &str) -> TempDir {
    let handler = "{ plugin = \"uppercase\", shadow = { file = \"plugins/print.wasm\" } }";
    let more = format!("output-topic = \"{name}-out\"\ndelivery = \"{delivery}\"");
    directory(&[topic(name), topic(&format!("{name}-out")), group(name, name, handler, &more)])
}

fn is_compared(gateway: &Gateway, directory: &TempDir, name: &str) {
    let run = |arguments: &[&str]| done(gateway, directory, arguments);
    send(gateway, name, json!("one"));
    let compared = |text: &str| {
        wait_until("the shadow has compared", || {
            let shown = done(gateway, directory, &["plugin", "list", "uppercase"]);
            if shown.contains(text) { Ok(()) } else { Err(shown) }
        });
    };
    compared(&format!("runs in the shadow for group {name}, since"));
    compared(": 0 equal, 1 different,\n0 failed, 0 shed");
    let text = run(&["plugin", "diff", "uppercase"]);
    assert!(text.starts_with(&format!("{name}/0@0 of group {name}, ")), "{text}");
    let serving = format!(": 1 emitted, 0 emitted\n  - = one\n- handled\n-   {name}-out: - = ONE");
    for part in [serving.as_str(), "\n+ handled\n"] {
        assert!(text.contains(part), "{text}");
    }

    let same = directory.path().join("same.wasm");
    let mut bytes = fs::read(plugins::built().join("uppercase.wasm")).expect("it is there");
    bytes.extend([0, 3, 1, b'v', 1]); // a custom section: another digest
    fs::write(same, bytes).expect("it can be written");
    run(&["plugin", "shadow", "uppercase", "--file", "same.wasm", "--group", name]);
    for number in 0..50 {
        send(gateway, name, json!(number));
    }
    compared(": 50 equal, 0 different,\n0 failed, 0 shed");
    run(&["plugin", "abort", "uppercase"]);
    let text = run(&["plugin", "diff", "uppercase"]);
    assert_eq!(text, "No shadow has made something else of a record.\n");
    wait_for_lag_of_zero(gateway, name);
    assert_eq!(records_of(gateway, &format!("{name}-out"), 51).len(), 51, "each is written once");
}
