//! A canary on a gateway that runs: ended by what becomes of its records, or promoted by an operator.

use std::fs;

use serde_json::{Value, json};

use super::{
    Gateway, directory, done, group, plugins, records, said, send, start, topic,
    wait_for_lag_of_zero, wait_until,
};

fn shown(gateway: &Gateway) -> Value {
    gateway.get("/api/v1/plugins/print").1
}

#[test]
fn a_bad_canary_is_ended_and_what_it_failed_at_is_handled_by_what_serves() {
    let handler = "{ plugin = \"print\", config = { prefix = \"got\" }, canary = { file = \"plugins/flaky.wasm\", \
                   percent = 50, minimum-sample = 5 } }";
    let more = "ordering = \"key\"\nretry = { attempts = 100, backoff = \"10ms\", max-backoff = \"20ms\" }";
    let directory = directory(&[topic("a"), group("g", "a", handler, more)]);
    let gateway = start(&directory);
    assert_eq!(shown(&gateway)["uses"][0]["canary"]["percent"], 50);
    for key in 0..40 {
        let record = json!({"topic": "a", "key": key.to_string(), "value": {"do": "trap"}});
        assert_eq!(gateway.send(&record).0, 200);
    }
    wait_for_lag_of_zero(&gateway, "g");
    let plugin = shown(&gateway);
    assert_eq!(plugin["uses"][0]["canary"], Value::Null, "{plugin}");
    let reason = plugin["aborted"][0]["reason"].as_str().expect("it has one");
    assert!(reason.contains("attempts were not handled"), "{reason}");
    for offset in 0..40 {
        assert!(gateway.said(&format!("got a/0@{offset} ")), "offset {offset} is handled by print");
    }
    assert!(records(&gateway, "a.dead-letters").is_empty());
    wait_until("it is remembered", || {
        let file = directory.path().join("keyway-data/plugins/print/history.json");
        let text = fs::read_to_string(file).unwrap_or_default();
        if text.contains("attempts were not handled") { Ok(()) } else { Err(text) }
    });
    gateway.kill();
    let gateway = start(&directory);
    assert_eq!(shown(&gateway)["uses"][0]["canary"], Value::Null, "it is not tried again");
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
    let plugin = shown(&gateway);
    assert_eq!(plugin["generations"][1]["by"], "canary", "{plugin}");
    let (code, text) = gateway.command(directory.path(), &["plugin", "abort", "print"]);
    assert!(code == 1 && text.contains("no such generation of print is tried"), "{text}");
}
