//! A handler that was built for another host, in a group.

use serde_json::json;

use super::{
    directory, group, header, plugins, records_of, send, start, topic, wait_for_lag_of_zero,
};

#[test]
fn a_component_of_another_host_handles_records_and_what_it_publishes_is_written_if_it_ends_well() {
    for guest in ["wasmcloud", "wasi-messaging"] {
        handles(guest);
    }
}

fn handles(guest: &str) {
    let more = "output-topic = \"out\"\nretry = { attempts = 2, backoff = \"1ms\", max-backoff = \"2ms\" }";
    let handler = format!("{{ plugin = \"{guest}\" }}");
    let parts = [topic("a"), topic("out"), group("g", "a", &handler, more)];
    let directory = directory(&parts);
    let guests = plugins::build_all("tests/guests", "test-guests");
    let component = guests.join(format!("{guest}.wasm"));
    plugins::copy(&component, &directory.path().join("plugins"), guest);
    let gateway = start(&directory);
    send(&gateway, "a", json!({"publish": 2}));
    send(&gateway, "a", json!({"publish": 1, "then": "fail"}));
    send(&gateway, "a", json!({"publish": 1, "then": "request"}));
    send(&gateway, "a", json!({"publish": 1}));
    wait_for_lag_of_zero(&gateway, "g");
    let values: Vec<_> =
        records_of(&gateway, "out", 3).iter().map(|record| record["value"].clone()).collect();
    assert_eq!(values, ["a 0", "a 1", "a 0"]);
    let letters = records_of(&gateway, "a.dead-letters", 2);
    assert_eq!(header(&letters[0], "keyway.reason"), "told to");
    assert!(header(&letters[1], "keyway.reason").contains("no request and reply"), "{letters:?}");
}
