//! `keyway plugin test` on what a broker has: the last records of a topic, and what a group gave up on.

use serde_json::Value;

use crate::{
    gateway::{Gateway, wait_until},
    plugins,
    shop::{Shop, numbered},
};

#[test]
fn a_plugin_is_tested_on_records_of_a_topic_and_on_dead_letters_of_a_gateway() {
    tested(&Shop::on_embedded("retry = { attempts = 1 }"));
}

#[test]
fn a_plugin_is_tested_on_records_of_a_topic_and_on_dead_letters_of_kafka() {
    let Some(shop) = Shop::on_kafka("tested", "retry = { attempts = 1 }") else { return };
    tested(&shop);
}

fn tested(shop: &Shop) {
    let gateway = shop.start();
    for number in 0..3 {
        shop.send(&gateway, "ada", &numbered("ok", number));
        shop.send(&gateway, "bob", &numbered("reject", number));
    }
    shop.wait_for_lag_of_zero(&gateway);
    shop.wait_until_listed(&gateway, &[1, 3, 5]);
    plugins::install("uppercase", &shop.directory.path().join("plugins"), "mended");

    let source = format!("{}/0@", shop.topic);
    let group = format!("{}-group", shop.topic);
    let last = ["mended", "--topic", &shop.topic, "--last", "2", "--as", &group];
    let letters = ["mended", "--dead-letters", &group];
    let mut brokers = vec![Some(&gateway)];
    brokers.extend(shop.is_kafka.then_some(None)); // the embedded one is the gateway's alone
    for through in brokers {
        let lines = test(shop, through, &last);
        assert_eq!(places(&lines), [format!("{source}4"), format!("{source}5")]);
        assert_eq!(lines[1]["emitted"][0]["topic"], format!("{}-out", shop.topic), "{}", lines[1]);
        assert_eq!(lines[1]["emitted"][0]["key"], "bob", "{}", lines[1]);
        let lines = test(shop, through, &letters);
        let expected = [1, 3, 5].map(|offset| format!("{source}{offset}"));
        assert_eq!(places(&lines), expected, "as their group read them");
        assert_eq!(lines[0]["emitted"][0]["value"]["N"], 0, "{}", lines[0]);
        assert_eq!(lines[0]["emitted"][0]["headers"], serde_json::json!([]), "{}", lines[0]);
    }
    let (_, shown) = gateway.get(&format!("/api/v1/topics/{}-out", shop.topic));
    let ends = shown["partitions"].as_array().into_iter().flatten();
    assert!(
        ends.clone().all(|partition| partition["end_offset"] == 0),
        "nothing is written: {shown}"
    );
}

/// What `keyway plugin test --json` says of each record.
fn test(shop: &Shop, through: Option<&Gateway>, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["test"], arguments, &["--json"]].concat();
    // A topic of letters that was just made has no leader on Kafka yet.
    let output = wait_until("the records are there", || {
        let output = shop.prepared("plugin", through, &arguments).output().unwrap();
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(output) } else { Err(said()) }
    });
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.pop().unwrap()["records"], lines.len());
    lines
}

fn places(lines: &[Value]) -> Vec<String> {
    lines.iter().map(|line| line["record"].as_str().unwrap().to_owned()).collect()
}
