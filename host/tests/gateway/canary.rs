//! A canary on a gateway that runs: ended by what becomes of its records, or promoted by an operator.

use std::fs;

use serde_json::{Value, json};

use tempfile::TempDir;

use super::{
    Gateway, directory, done, group, kafka, plugins, records, records_of, said, send, start,
    start_on, topic, wait_for_lag_of_zero, wait_until,
};

const DELIVERIES: [&str; 2] = ["at-least-once", "exactly-once"];

fn shown(gateway: &Gateway, plugin: &str) -> Value {
    gateway.get(&format!("/api/v1/plugins/{plugin}")).1
}

#[test]
fn a_bad_canary_is_ended_and_what_it_failed_at_is_handled_by_what_serves() {
    for delivery in DELIVERIES {
        let directory = with_bad_canary("a", delivery);
        let gateway = start(&directory);
        is_ended(&gateway, "a");
        wait_until("it is remembered", || {
            let file = directory.path().join("keyway-data/plugins/uppercase/history.json");
            let text = fs::read_to_string(file).unwrap_or_default();
            if text.contains("attempts were not handled") { Ok(()) } else { Err(text) }
        });
        gateway.kill();
        let gateway = start(&directory);
        let plugin = shown(&gateway, "uppercase");
        assert_eq!(plugin["uses"][0]["canary"], Value::Null, "it is not tried again: {plugin}");
    }
}

#[test]
fn on_kafka_a_bad_canary_is_ended_and_what_it_failed_at_is_handled_by_what_serves() {
    let Some(servers) = kafka::shared(kafka::Kind::Kraft) else { return };
    for delivery in DELIVERIES {
        let name = format!("canary-{}", fastrand::u32(..));
        is_ended(&start_on(servers, &with_bad_canary(&name, delivery)), &name);
    }
}

/// A group on a topic, both of this name, where half of the keys go to a canary that fails whatever it is told to.
fn with_bad_canary(name: &str, delivery: &str) -> TempDir {
    let handler = "{ plugin = \"uppercase\", canary = { file = \"plugins/flaky.wasm\", percent = 50, \
                   minimum-sample = 5 } }";
    let more = format!(
        "ordering = \"key\"\nretry = {{ attempts = 100, backoff = \"10ms\", max-backoff = \"20ms\" }}\n\
         output-topic = \"{name}-out\"\ndelivery = \"{delivery}\""
    );
    directory(&[topic(name), topic(&format!("{name}-out")), group(name, name, handler, &more)])
}

fn is_ended(gateway: &Gateway, name: &str) {
    assert_eq!(shown(gateway, "uppercase")["uses"][0]["canary"]["percent"], 50);
    for key in 0..40 {
        let value = json!({"do": "trap", "reason": key.to_string()});
        let record = json!({"topic": name, "key": key.to_string(), "value": value});
        assert_eq!(gateway.send(&record).0, 200);
    }
    wait_for_lag_of_zero(gateway, name);
    let plugin = shown(gateway, "uppercase");
    assert_eq!(plugin["uses"][0]["canary"], Value::Null, "{plugin}");
    let reason = plugin["aborted"][0]["reason"].as_str().expect("it has one");
    assert!(reason.contains("attempts were not handled"), "{reason}");
    let mut handled: Vec<_> = records_of(gateway, &format!("{name}-out"), 40)
        .iter()
        .map(|record| record["value"].as_str().expect("it is text").to_owned())
        .collect();
    handled.sort();
    handled.dedup();
    assert_eq!(handled.len(), 40, "each is handled by uppercase, once: {handled:?}");
    assert!(records(gateway, &format!("{name}.dead-letters")).is_empty());
}

#[test]
fn a_canary_that_is_begun_and_promoted_on_the_command_line_serves_every_group() {
    let directory = directory(&[
        topic("a"),
        group("g", "a", "{ plugin = \"print\", config = { prefix = \"got\" } }", ""),
        group(
            "h",
            "a",
            "{ plugin = \"print\", config = { prefix = \"also\" } }",
            "output-topic = \"out\"",
        ),
    ]);
    let other = directory.path().join("candidate.wasm");
    fs::copy(plugins::built().join("uppercase.wasm"), other).expect("it is there");
    let gateway = start(&directory);
    let run = |arguments: &[&str]| done(&gateway, &directory, arguments);
    let begin = ["--file", "candidate.wasm", "--percent", "100", "--group", "h"];
    let text = run(&[&["plugin", "canary", "print"], &begin[..]].concat());
    assert!(
        text.contains("is tried with 100 % of group h\n") && !text.contains("group g"),
        "{text}"
    );
    send(&gateway, "a", json!("one"));
    wait_until("the canary emits", || match records(&gateway, "out").len() {
        1 => Ok(()),
        _ => Err(gateway.tail()),
    });
    wait_until("the other group's serves", || said(&gateway, "got a/0@0"));
    assert!(!gateway.said("also a/0@0"), "{}", gateway.tail());
    let text = run(&["plugin", "list", "print"]);
    assert!(text.contains("canary   1         1        0"), "{text}");
    run(&["plugin", "promote", "print"]);
    let plugin = shown(&gateway, "print");
    assert_eq!(plugin["generations"][1]["by"], "canary", "{plugin}");
    let (code, text) = gateway.command(directory.path(), &["plugin", "abort", "print"]);
    assert!(code == 1 && text.contains("no such generation of print is tried"), "{text}");
}
