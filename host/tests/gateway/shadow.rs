//! A shadow on a gateway that runs: from the configuration and from the command line.

use std::fs;

use serde_json::json;

use super::{
    directory, done, group, plugins, records_of, send, start, topic, wait_for_lag_of_zero,
    wait_until,
};

#[test]
fn a_shadow_is_compared_on_live_records_and_writes_none() {
    let handler = "{ plugin = \"uppercase\", shadow = { file = \"plugins/print.wasm\" } }";
    let directory = directory(&[topic("a"), group("g", "a", handler, "output-topic = \"out\"")]);
    let gateway = start(&directory);
    let run = |arguments: &[&str]| done(&gateway, &directory, arguments);
    send(&gateway, "a", json!("one"));
    let compared = |text: &str| {
        wait_until("the shadow has compared", || {
            let shown = done(&gateway, &directory, &["plugin", "list", "uppercase"]);
            if shown.contains(text) { Ok(()) } else { Err(shown) }
        });
    };
    compared("runs in the shadow for group g, since");
    compared(": 0 equal, 1 different,\n0 failed, 0 shed");
    let text = run(&["plugin", "diff", "uppercase"]);
    assert!(text.starts_with("a/0@0 of group g, "), "{text}");
    for part in [": 1 emitted, 0 emitted\n  - = one\n- handled\n-   out: - = ONE", "\n+ handled\n"]
    {
        assert!(text.contains(part), "{text}");
    }

    let same = directory.path().join("same.wasm");
    let mut bytes = fs::read(plugins::built().join("uppercase.wasm")).expect("it is there");
    bytes.extend([0, 3, 1, b'v', 1]); // a custom section: another digest
    fs::write(same, bytes).expect("it can be written");
    run(&["plugin", "shadow", "uppercase", "--file", "same.wasm", "--group", "g"]);
    for number in 0..50 {
        send(&gateway, "a", json!(number));
    }
    compared(": 50 equal, 0 different,\n0 failed, 0 shed");
    run(&["plugin", "abort", "uppercase"]);
    let text = run(&["plugin", "diff", "uppercase"]);
    assert_eq!(text, "No shadow has made something else of a record.\n");
    wait_for_lag_of_zero(&gateway, "g");
    assert_eq!(records_of(&gateway, "out", 51).len(), 51, "each is written once");
}
