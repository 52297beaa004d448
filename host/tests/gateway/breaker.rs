//! A group whose handler fails every call: it waits, says so, and goes on when a better one comes.

use serde_json::json;

use super::{
    directory, done, group, plugins, records, start, topic, wait_for_lag_of_zero, wait_until,
};

#[test]
fn a_handler_that_fails_every_call_costs_no_record_its_attempts_until_a_better_one_comes() {
    let more =
        "ordering = \"key\"\nretry = { attempts = 5, backoff = \"1s\", max-backoff = \"1s\" }";
    let handler = "{ plugin = \"flaky\" }";
    let directory = directory(&[topic("a"), group("g", "a", handler, more)]);
    let gateway = start(&directory);
    let shown = || gateway.get("/api/v1/groups/g").1["this_process"].clone();
    assert!(shown()["trouble"].is_null(), "{}", shown());
    for key in 0..60 {
        let record = json!({"topic": "a", "key": key.to_string(), "value": {"do": "trap"}});
        assert_eq!(gateway.send(&record).0, 200);
    }
    let trouble = wait_until("the group is in trouble", || {
        let here = shown();
        here["trouble"].as_str().map(str::to_owned).ok_or_else(|| here.to_string())
    });
    assert!(trouble.contains("flaky@") && trouble.contains("calls in a row"), "{trouble}");
    let text = done(&gateway, &directory, &["groups", "g"]);
    assert!(text.contains("Its handler is in trouble: flaky@"), "{text}");
    let metrics = || gateway.get("/metrics").1.to_string();
    let failing = r#"keyway_group_handler_failing{group=\"g\"}"#;
    assert!(metrics().contains(&format!("{failing} 1")), "{}", metrics());

    plugins::install("print", &directory.path().join("plugins"), "flaky");
    wait_for_lag_of_zero(&gateway, "g");
    let here = shown();
    assert!(here["trouble"].is_null(), "{here}");
    assert!(metrics().contains(&format!("{failing} 0")), "{}", metrics());
    assert_eq!((&here["handled"], &here["dead_lettered"]), (&json!(60), &json!(0)), "{here}");
    assert_eq!(records(&gateway, "a.dead-letters").len(), 0);
}
