//! Key selectors: a look at what another one would decide, before it does; where each generation began; and how keys share
//! records out among partitions.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Gateway, configuration, directory, done, gateway::command, group, kafka, plugins, said, start,
    swaps, topic, wait_until,
};

/// A topic whose key is at this pointer into the value.
fn keyed(name: &str, pointer: &str) -> String {
    format!(
        "[[topics]]\nname = \"{name}\"\npartitions = 3\nkey-selector = {{ plugin = \"json-key\", config = {{ pointer = \"{pointer}\" }} }}\n"
    )
}

fn value(number: usize) -> Value {
    json!({"user": format!("user {number}"), "tenant": format!("tenant {}", number % 2)})
}

/// Where records of these numbers are written, as partition and key.
fn sent(gateway: &Gateway, topic: &str, numbers: std::ops::Range<usize>) -> Vec<(Value, Value)> {
    let one = |number| {
        wait_until("it is written", || {
            match gateway.send(&json!({"topic": topic, "key": "mine", "value": value(number)})) {
                (200, answer) => Ok((answer["partition"].clone(), answer["key"].clone())),
                (_, answer) => Err(format!("{answer}\n{}", gateway.tail())),
            }
        })
    };
    numbers.map(one).collect()
}

fn previewed(gateway: &Gateway, directory: &TempDir, arguments: &[&str]) -> Value {
    let text = done(gateway, directory, &[&["plugin", "preview"], arguments, &["--json"]].concat());
    serde_json::from_str(&text).expect("it is JSON")
}

/// Where the records of a look would go, as partition and key.
fn placed(found: &Value, side: &str) -> Vec<(Value, Value)> {
    let records = found["records"].as_array().expect("a list");
    let place = |record: &Value| {
        let place = &record[side];
        (place["partition"].clone(), place["key"].clone())
    };
    records.iter().map(place).collect()
}

/// What was looked at comes true when the configuration changes.
fn a_preview_comes_true(gateway: &Gateway, directory: &TempDir, topic: &str) {
    let now = sent(gateway, topic, 0..20);
    let found = previewed(gateway, directory, &[topic, "--set", "pointer=/tenant"]);
    assert_eq!(found["previewed"], 20, "{found:#}");
    assert_eq!(placed(&found, "serving").len(), 20);
    let file = directory.path().join("sample.ndjson");
    let record = |number| json!({"key": "mine", "value": value(number)}).to_string() + "\n";
    fs::write(&file, (0..20).map(record).collect::<String>()).expect("it can be written");
    let sample = file.to_str().expect("it is text");
    let given = [topic, "--set", "pointer=/tenant", "--records", sample];
    let found = previewed(gateway, directory, &given);
    assert_eq!(placed(&found, "serving"), now, "what serves decides as it did");
    let expected = placed(&found, "other");
    let moved = now.iter().zip(&expected).filter(|((now, _), (then, _))| now != then).count();
    assert_eq!((&found["moved"], &found["rekeyed"]), (&json!(moved), &json!(20)), "{found:#}");
    let text = done(gateway, directory, &[&["plugin", "preview"], &given[..]].concat());
    assert!(text.contains(&format!("20 records: {moved} move to another partition")), "{text}");

    let changed = configuration(&[keyed(topic, "/tenant")]);
    fs::write(directory.path().join("keyway.toml"), changed).expect("it can be written");
    wait_until("the changed configuration is in force", || {
        let key = &sent(gateway, topic, 0..1)[0].1;
        if key == "tenant 0" { Ok(()) } else { Err(gateway.tail()) }
    });
    assert_eq!(sent(gateway, topic, 0..20), expected);
}

#[test]
fn a_preview_of_another_configuration_says_where_records_then_go() {
    let directory = directory(&[keyed("a", "/user")]);
    let gateway = start(&directory);
    a_preview_comes_true(&gateway, &directory, "a");
}

#[test]
fn on_kafka_a_preview_of_another_configuration_says_where_records_then_go() {
    let Some(servers) = kafka::shared(kafka::Kind::Kraft) else { return };
    let name = format!("preview-{}", fastrand::u32(..));
    let directory = directory(&[keyed(&name, "/user")]);
    let environment = [("KAFKA_BOOTSTRAP_SERVERS", servers)];
    let gateway = Gateway::start(directory.path(), &["run"], &environment);
    a_preview_comes_true(&gateway, &directory, &name);
}

#[test]
fn a_preview_of_a_file_a_kept_generation_or_the_callers_key_changes_nothing_that_serves() {
    let directory = directory(&[keyed("a", "/user"), topic("b")]);
    let gateway = start(&directory);
    sent(&gateway, "a", 0..10);
    let (_, before) = gateway.get("/api/v1/plugins/json-key");
    let file = ["a", "--file", "plugins/fixed-key.wasm", "--set", "key=all"];
    let found = previewed(&gateway, &directory, &file);
    let partition = plugin_partition(&found);
    assert_eq!(found["partitions"][partition]["other"], 10, "one key for all: {found:#}");
    let found = previewed(&gateway, &directory, &["a", "--caller", "--last", "3"]);
    assert_eq!((&found["previewed"], &found["moved"]), (&json!(3), &json!(0)), "{found:#}");
    assert_eq!(found["other"], "caller");
    let (_, after) = gateway.get("/api/v1/plugins/json-key");
    assert_eq!((&after["generations"], &after["uses"]), (&before["generations"], &before["uses"]));
    assert_eq!(gateway.get("/api/v1/plugins/fixed-key").0, 404, "it is not used");

    plugins::install("fixed-key", &directory.path().join("plugins"), "json-key");
    let first = before["generation"].as_str().expect("it serves");
    wait_until("the file is refused, since it wants another configuration", || {
        let (_, plugin) = gateway.get("/api/v1/plugins/json-key");
        if plugin["last_error"].is_string() { Ok(()) } else { Err(plugin.to_string()) }
    });
    let found = previewed(&gateway, &directory, &["a", "--generation", first]);
    assert_eq!(found["serving"], found["other"], "the one that serves may be named: {found:#}");
    let arguments = ["plugin", "preview", "a", "--generation", "77"];
    let (code, text) = gateway.command(directory.path(), &arguments);
    assert!(code == 1 && text.contains("begins with \"77\""), "{text}");
    let arguments = ["plugin", "preview", "b", "--generation", first];
    let (code, text) = gateway.command(directory.path(), &arguments);
    assert!(code == 1 && text.contains("no key selector"), "{text}");
    let arguments = ["plugin", "preview", "b", "--caller", "--set", "a=b"];
    assert_eq!(command(directory.path(), &arguments, &[]).0, 64);
    // A topic without a key selector can be given one for the look.
    let (status, answer) = gateway.send(&json!({"topic": "b", "key": "mine", "value": 1}));
    assert_eq!(status, 200, "{answer}");
    let found = previewed(&gateway, &directory, &[&["b"], &file[1..]].concat());
    assert_eq!((&found["serving"], &found["rekeyed"]), (&json!("caller"), &json!(1)), "{found:#}");
}

/// The one partition that the other gives records.
fn plugin_partition(found: &Value) -> usize {
    let partitions = found["partitions"].as_array().expect("a list");
    partitions.iter().position(|counts| counts["other"] != 0).expect("one has some")
}

/// The lowest offset of each partition that a generation decided, by what callers were answered.
type Firsts = BTreeMap<(String, u64), u64>;

/// Sends records, and says so.
fn send_and_note(gateway: &Gateway, topic: &str, firsts: &mut Firsts) {
    for number in 0..12 {
        let record = json!({"topic": topic, "value": value(number)});
        let answer = wait_until("it is written", || match gateway.send(&record) {
            (200, answer) => Ok(answer),
            (_, answer) => Err(format!("{answer}\n{}", gateway.tail())),
        });
        let by = answer["selected_by"].as_str().expect("it is text").to_owned();
        let [partition, offset] =
            ["partition", "offset"].map(|field| answer[field].as_u64().expect("a number"));
        let first = firsts.entry((by, partition)).or_insert(offset);
        *first = offset.min(*first);
    }
}

/// The same, by the history.
fn first_offsets(gateway: &Gateway, topic: &str) -> Firsts {
    let (_, plugin) = gateway.get("/api/v1/plugins/json-key");
    let generations = plugin["generations"].as_array().expect("a list").iter();
    let of = |generation: &Value| {
        let by = format!("json-key@{}", generation["generation"].as_str().expect("it is text"));
        let firsts = generation["first_offsets"].as_array().expect("a list").clone();
        firsts.into_iter().map(move |first| {
            assert_eq!((&first["group"], &first["topic"]), (&json!(null), &json!(topic)));
            let partition = first["partition"].as_u64().expect("a number");
            ((by.clone(), partition), first["offset"].as_u64().expect("a number"))
        })
    };
    generations.flat_map(of).collect()
}

fn beginnings_are_on_record(begin: impl Fn(&Path) -> Gateway, directory: &TempDir, topic: &str) {
    let mut firsts = Firsts::new();
    let gateway = begin(directory.path());
    send_and_note(&gateway, topic, &mut firsts);
    assert_eq!(first_offsets(&gateway, topic), firsts);
    let serving =
        |gateway: &Gateway| gateway.get("/api/v1/plugins/json-key").1["generation"].clone();
    let first = serving(&gateway);
    swaps::vary(directory.path(), "json-key", 7);
    wait_until("the second generation serves", || {
        if serving(&gateway) == first { Err(gateway.tail()) } else { Ok(()) }
    });
    send_and_note(&gateway, topic, &mut firsts);
    assert!(firsts.len() > 2, "more than one partition of each: {firsts:?}");
    assert_eq!(first_offsets(&gateway, topic), firsts);
    let text = done(&gateway, directory, &["plugin", "list", "json-key"]);
    let (_, began) = text.split_once("BEGAN AT").expect("the history has it");
    assert!(began.contains(&format!("{topic}/0@")), "{text}");
    assert_eq!(gateway.terminate().code(), Some(0));

    let gateway = begin(directory.path());
    send_and_note(&gateway, topic, &mut firsts);
    assert_eq!(first_offsets(&gateway, topic), firsts, "the first stay the first over a restart");
}

#[test]
fn the_first_offsets_of_each_generation_of_a_key_selector_are_on_record_over_a_restart() {
    let directory = directory(&[keyed("a", "/user")]);
    beginnings_are_on_record(|_| start(&directory), &directory, "a");
}

#[test]
fn on_kafka_the_first_offsets_of_each_generation_of_a_key_selector_are_on_record() {
    let Some(servers) = kafka::shared(kafka::Kind::Kraft) else { return };
    let name = format!("began-{}", fastrand::u32(..));
    let directory = directory(&[keyed(&name, "/user")]);
    let environment = [("KAFKA_BOOTSTRAP_SERVERS", servers)];
    let begin = |directory: &Path| Gateway::start(directory, &["run"], &environment);
    beginnings_are_on_record(begin, &directory, &name);
}

#[test]
fn what_is_emitted_exactly_once_counts_for_shares_and_first_offsets() {
    let more = "output-topic = \"a\"\ndelivery = \"exactly-once\"";
    let handles = group("g", "source", "{ plugin = \"uppercase\" }", more);
    let directory = directory(&[topic("source"), keyed("a", "/TENANT"), handles]);
    let gateway = start(&directory);
    for _ in 0..10 {
        let record = json!({"topic": "source", "key": "mine", "value": {"tenant": "hot"}});
        assert_eq!(gateway.send(&record).0, 200);
    }
    let skew = wait_until("all is counted", || {
        let skew = gateway.get("/api/v1/topics/a").1["skew"].clone();
        if skew["records"] == 10 { Ok(skew) } else { Err(format!("{skew}\n{}", gateway.tail())) }
    });
    assert_eq!(skew["hottest"], json!([{"key": "HOT", "records": 10, "at_least": 10}]));
    assert_eq!(skew["hottest_of_callers"][0]["key"], "mine");
    let firsts = first_offsets(&gateway, "a");
    assert_eq!(firsts.into_values().collect::<Vec<_>>(), [0], "one key, one partition");
}

#[test]
fn a_topic_shows_how_keys_share_it_out_and_warns_while_one_partition_gets_most() {
    let directory = directory(&[keyed("a", "/tenant"), topic("one")]);
    let gateway = start(&directory);
    let skew = || gateway.get("/api/v1/topics/a").1["skew"].clone();
    assert_eq!(skew(), json!(null), "nothing was written yet");
    let send = |topic: &str, count, record: &dyn Fn(usize) -> Value| {
        for number in 0..count {
            let mut record = record(number);
            record["topic"] = json!(topic);
            let (status, answer) = gateway.send(&record);
            assert_eq!(status, 200, "{answer}");
        }
    };
    let hot = |number: usize| json!({"key": format!("caller {}", number % 2), "value": {"tenant": "hot"}});
    send("one", 110, &|number| json!({"value": number}));
    send("a", 110, &hot);
    let warned = wait_until("it warns", || {
        let skew = skew();
        if skew["warning"].is_object() { Ok(skew) } else { Err(skew.to_string()) }
    });
    assert_eq!(warned["records"], 110, "{warned:#}");
    assert_eq!(warned["warning"]["percent"], 100.0);
    assert_eq!(warned["hottest"], json!([{"key": "hot", "records": 110, "at_least": 110}]));
    assert_eq!(warned["hottest_of_callers"].as_array().map(Vec::len), Some(2));
    let partition = warned["warning"]["partition"].as_u64().expect("a number");
    let line = "Most records of a topic go to one of its partitions";
    wait_until("it says so", || said(&gateway, line));
    let text = done(&gateway, &directory, &["topics", "a"]);
    assert!(text.contains(&format!("100 % of its records go to partition {partition}")), "{text}");
    let (_, one) = gateway.get("/api/v1/topics/one");
    assert_eq!((&one["skew"]["records"], &one["skew"]["warning"]), (&json!(110), &json!(null)));

    send(
        "a",
        240,
        &|number| json!({"value": 0, "partition": (partition + 1 + number as u64 % 2) % 3}),
    );
    wait_until("it warns no more", || {
        let skew = skew();
        if skew["warning"].is_null() { Ok(()) } else { Err(skew.to_string()) }
    });
    wait_until("it says so", || said(&gateway, "gets most of its records any more"));
}
