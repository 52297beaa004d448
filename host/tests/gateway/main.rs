//! A whole gateway as a process, on the embedded broker: what becomes of records that fail, and of a configuration that
//! changes while it runs.

mod breaker;
mod canary;
#[path = "../support/gateway.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod gateway;
mod generations;
#[path = "../support/kafka.rs"]
mod kafka;
mod messaging;
#[path = "../support/plugins.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod plugins;
mod replay;
mod selectors;
mod shadow;
mod steering;
mod swaps;

use std::{fs, path::Path};

use gateway::{Gateway, command, wait_until, working_directory};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A group that reads `topic` with a handler, given as the table that the configuration wants.
fn group(id: &str, topic: &str, handler: &str, more: &str) -> String {
    format!("[[groups]]\nid = \"{id}\"\ntopics = [\"{topic}\"]\nhandler = {handler}\n{more}\n")
}

fn topic(name: &str) -> String {
    format!("[[topics]]\nname = \"{name}\"\npartitions = 1\n")
}

/// A directory with this configuration and every example plugin.
fn directory(parts: &[String]) -> TempDir {
    let directory = working_directory(&configuration(parts));
    for example in ["print", "uppercase", "json-key", "fixed-key", "flaky"] {
        plugins::install(example, &directory.path().join("plugins"), example);
    }
    directory
}

fn configuration(parts: &[String]) -> String {
    format!("[http]\ndefault-topic = \"a\"\n{}", parts.concat())
}

/// Starts it and waits until it is ready and its members have joined their groups.
fn start(directory: &TempDir) -> Gateway {
    start_with(directory, &[])
}

/// The same on the Kafka at this address.
fn start_on(servers: &str, directory: &TempDir) -> Gateway {
    start_with(directory, &[("KAFKA_BOOTSTRAP_SERVERS", servers)])
}

fn start_with(directory: &TempDir, environment: &[(&str, &str)]) -> Gateway {
    let gateway = Gateway::start(directory.path(), &["run"], environment);
    wait_until("the gateway is ready", || match gateway.get("/ready") {
        (200, _) => Ok(()),
        (_, reasons) => Err(format!("{reasons}\n{}", gateway.tail())),
    });
    wait_until("its members have joined", || {
        let (_, groups) = gateway.get("/api/v1/groups");
        let listed = groups.as_array().into_iter().flatten();
        let mut members =
            listed.flat_map(|group| group["members"].as_array().into_iter().flatten());
        let joined =
            members.all(|member| member["id"].is_string() && member["state"] != "rebalancing");
        if joined && groups.is_array() {
            Ok(())
        } else {
            Err(format!("{groups}\n{}", gateway.tail()))
        }
    });
    gateway
}

fn send(gateway: &Gateway, topic: &str, value: Value) {
    let (status, answer) = gateway.send(&json!({"topic": topic, "value": value}));
    assert_eq!(status, 200, "{answer}");
}

fn records(gateway: &Gateway, topic: &str) -> Vec<Value> {
    let (_, page) = gateway.get(&format!("/api/v1/topics/{topic}/records?limit=1000"));
    page["records"].as_array().cloned().unwrap_or_default()
}

/// Waits until a topic has so many records, and returns them.
fn records_of(gateway: &Gateway, topic: &str, count: usize) -> Vec<Value> {
    wait_until(&format!("{topic} has {count} records"), || {
        let records = records(gateway, topic);
        if records.len() == count {
            Ok(records)
        } else {
            Err(format!("{records:?}\n{}", gateway.tail()))
        }
    })
}

fn wait_for_lag_of_zero(gateway: &Gateway, group: &str) {
    wait_until(&format!("{group} has handled everything"), || {
        let (_, shown) = gateway.get(&format!("/api/v1/groups/{group}"));
        let partitions = shown["partitions"].as_array().cloned().unwrap_or_default();
        let done =
            !partitions.is_empty() && partitions.iter().all(|partition| partition["lag"] == 0);
        done.then_some(()).ok_or_else(|| format!("{shown:#}\n{}", gateway.tail()))
    });
}

fn header<'a>(record: &'a Value, name: &str) -> &'a str {
    let headers = record["headers"].as_array().expect("a list");
    let header = headers.iter().find(|header| header["key"] == name);
    header
        .and_then(|header| header["value"].as_str())
        .unwrap_or_else(|| panic!("{name} in {record}"))
}

/// A command that succeeds, on a gateway.
fn done(gateway: &Gateway, directory: &TempDir, arguments: &[&str]) -> String {
    let (code, text) = gateway.command(directory.path(), arguments);
    assert_eq!(code, 0, "{arguments:?}: {text}");
    text
}

/// A command on the broker itself: nobody listens on port 1.
fn without_gateway(directory: &Path, arguments: &[&str], more: &[(&str, &str)]) -> (i32, String) {
    command(directory, arguments, &[&[("KEYWAY__ADMIN__LISTEN", "127.0.0.1:1")], more].concat())
}

#[test]
fn poison_among_good_records_goes_to_the_dead_letters_with_its_cause() {
    // Memory is at its limit well within the time, and only what loops runs into that, on a slow machine too.
    let retry = "retry = { attempts = 2, backoff = \"1ms\", max-backoff = \"2ms\" }\n\
                 limits = { time = \"1s\", memory = \"8MiB\" }";
    let handler = "{ plugin = \"flaky\" }";
    let directory = directory(&[topic("a"), group("g", "a", handler, retry)]);
    let gateway = start(&directory);
    let poison = [
        (json!({"do": "reject", "reason": "no such user"}), "no such user", "1"),
        (json!({"do": "trap", "reason": "boom"}), "trap", "2"),
        (json!({"do": "loop"}), "longer than its limit", "2"),
        (json!({"do": "memory"}), "memory", "2"),
        (json!({"do": "emit", "count": 1, "topic": "elsewhere"}), "elsewhere", "2"),
    ];
    for (value, _, _) in &poison {
        send(&gateway, "a", json!({"do": "ok"}));
        send(&gateway, "a", value.clone());
    }
    send(&gateway, "a", json!({"do": "trap", "times": 1}));
    wait_for_lag_of_zero(&gateway, "g");
    let letters = records_of(&gateway, "a.dead-letters", poison.len());
    for ((letter, (value, reason, attempts)), number) in letters.iter().zip(&poison).zip(0..) {
        assert_eq!(letter["value"], value.to_string(), "as it was, and in order");
        assert_eq!(header(letter, "keyway.source"), format!("a/0@{}", 2 * number + 1));
        assert!(header(letter, "keyway.reason").contains(reason), "{letter}");
        assert_eq!(header(letter, "keyway.attempts"), *attempts, "{letter}");
        assert!(header(letter, "keyway.handler").starts_with("flaky@"), "{letter}");
    }
}

#[test]
fn a_handler_that_never_returns_keeps_no_other_group_waiting() {
    let loops = group("loops", "a", "{ plugin = \"flaky\" }", "limits = { time = \"20s\" }");
    let works = group("works", "b", "{ plugin = \"uppercase\" }", "output-topic = \"out\"");
    let directory = directory(&[topic("a"), topic("b"), loops, works]);
    let gateway = start(&directory);
    send(&gateway, "a", json!({"do": "loop"}));
    for number in 0..100 {
        send(&gateway, "b", json!(format!("record {number}")));
    }
    let out = records_of(&gateway, "out", 100);
    assert_eq!(out[99]["value"], "RECORD 99");
    let (_, shown) = gateway.get("/api/v1/groups/loops");
    assert_eq!(shown["partitions"][0]["lag"], 1, "it still runs: {shown}");
}

#[test]
fn a_partition_that_stops_says_why_and_goes_on_with_a_mended_plugin_when_it_is_resumed() {
    let stop = "on-reject = \"stop\"\nretry = { attempts = 1 }";
    let directory = directory(&[topic("a"), group("g", "a", "{ plugin = \"flaky\" }", stop)]);
    let gateway = start(&directory);
    send(&gateway, "a", json!({"do": "trap", "times": 1}));
    send(&gateway, "a", json!({"do": "ok"}));
    wait_until("the group says that it stands still", || {
        let (_, shown) = gateway.get("/api/v1/groups/g");
        let text = shown.to_string();
        if text.contains("offset 0") && text.contains("trap") { Ok(()) } else { Err(text) }
    });
    let (_, shown) = gateway.get("/api/v1/groups/g");
    assert_eq!(shown["partitions"][0]["lag"], 2, "{shown}");

    let (_, before) = gateway.get("/api/v1/plugins/flaky");
    plugins::install("print", &directory.path().join("plugins"), "flaky");
    wait_until("another plugin serves under that name", || {
        let (_, now) = gateway.get("/api/v1/plugins/flaky");
        if now["generation"] != before["generation"] { Ok(()) } else { Err(gateway.tail()) }
    });
    assert_eq!(gateway.post("/api/v1/groups/g/resume").0, 200);
    wait_for_lag_of_zero(&gateway, "g");
    assert!(gateway.said("got a/0@0") && gateway.said("got a/0@1"), "{}", gateway.tail());
}

#[test]
fn a_changed_group_starts_again_and_the_others_never_notice() {
    let print =
        |prefix: &str| format!("{{ plugin = \"print\", config = {{ prefix = \"{prefix}\" }} }}");
    let stays = group("stays", "b", &print("steady"), "");
    let parts = |prefix: &str, more: String| {
        [topic("a"), topic("b"), stays.clone(), group("changes", "a", &print(prefix), ""), more]
    };
    let directory = directory(&parts("before", String::new()));
    let gateway = start(&directory);
    send(&gateway, "a", json!(1));
    wait_until("the first handler works", || said(&gateway, "before a/0@0"));
    let member =
        |gateway: &Gateway| gateway.get("/api/v1/groups/stays").1["members"][0]["id"].clone();
    let before = wait_until("the member of the other group has joined", || {
        let id = member(&gateway);
        if id.is_string() { Ok(id) } else { Err(gateway.tail()) }
    });

    let new = topic("c") + &group("new", "c", &print("new"), "");
    fs::write(directory.path().join("keyway.toml"), configuration(&parts("after", new))).unwrap();
    wait_until("the new topic is there", || match gateway.get("/api/v1/topics/c") {
        (200, _) => Ok(()),
        (_, answer) => Err(format!("{answer}\n{}", gateway.tail())),
    });
    send(&gateway, "a", json!(2));
    send(&gateway, "b", json!(3));
    send(&gateway, "c", json!(4));
    for line in ["after a/0@1", "steady b/0@0", "new c/0@0"] {
        wait_until(line, || said(&gateway, line));
    }
    assert_eq!(member(&gateway), before, "the unchanged group's member is the same");
    assert!(!gateway.said("before a/0@1"), "{}", gateway.tail());
}

#[test]
fn a_changed_default_topic_holds_from_the_next_record_on() {
    let directory = directory(&[topic("a"), topic("b")]);
    let gateway = start(&directory);
    let sent_to = || gateway.send(&json!({"value": 1})).1["topic"].clone();
    assert_eq!(sent_to(), "a");
    let changed = configuration(&[topic("a"), topic("b")]).replacen("\"a\"", "\"b\"", 1);
    fs::write(directory.path().join("keyway.toml"), changed).unwrap();
    wait_until("records without a topic go to the other one", || {
        if sent_to() == "b" { Ok(()) } else { Err(gateway.tail()) }
    });
}

fn said(gateway: &Gateway, text: &str) -> Result<(), String> {
    if gateway.said(text) { Ok(()) } else { Err(gateway.tail()) }
}

#[test]
fn a_change_that_does_not_check_is_refused_as_a_whole() {
    let parts = [topic("a"), group("g", "a", "{ plugin = \"print\" }", "")];
    let directory = directory(&parts);
    let gateway = start(&directory);
    let refused = "The changed configuration was refused";
    for (change, cause) in [
        ("consumer = 3\n".to_owned(), "did you mean"),
        (
            topic("b") + &group("h", "b", "{ plugin = \"absent\" }", ""),
            "there is no plugin `absent`",
        ),
        ("[broker]\npath = \"elsewhere\"\n".to_owned(), "[broker] cannot change"),
    ] {
        let text = configuration(&parts) + &change;
        fs::write(directory.path().join("keyway.toml"), text).unwrap();
        wait_until(&format!("{change} is refused"), || said(&gateway, cause));
    }
    assert!(gateway.said(refused));
    send(&gateway, "a", json!("still here"));
    wait_until("the old configuration is in force", || said(&gateway, "still here"));
    assert_eq!(gateway.get("/api/v1/topics/b").0, 404);
}

#[test]
fn sigterm_ends_it_with_everything_committed_and_exit_code_0() {
    let directory = directory(&[topic("a"), group("g", "a", "{ plugin = \"print\" }", "")]);
    let gateway = start(&directory);
    (0..50).for_each(|number| send(&gateway, "a", json!(number)));
    wait_until("the last record is handled", || said(&gateway, "a/0@49"));
    assert_eq!(gateway.terminate().code(), Some(0));
    let gateway = start(&directory);
    send(&gateway, "a", json!("next"));
    wait_until("the next record is handled", || said(&gateway, "a/0@50"));
    assert!(!gateway.said("a/0@49"), "what was committed is not handled again");
}
