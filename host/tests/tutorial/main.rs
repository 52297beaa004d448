//! The tutorial of the README, step by step: one producer, four consumers, three partitions.
//!
//! On Kafka, of either kind, the producer and the consumers are five processes that get the tutorial's environment names
//! and nothing else; on the embedded broker they are one process with `consumers = 4`.

#[path = "../support/gateway.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod gateway;
#[path = "../support/kafka.rs"]
mod kafka;
#[path = "../support/plugins.rs"]
#[allow(dead_code, reason = "each test binary uses its part of the support")]
mod plugins;
mod steps;

use std::fs;

use gateway::{Gateway, working_directory};
use kafka::Kind;
use steps::Stage;
use tempfile::TempDir;

/// What decides keys in the second experiment: `keys`, which is told what either selector wants to know, so that one can
/// replace the other.
const SELECTOR: &str =
    r#"key-selector = { plugin = "keys", config = { key = "fixed", pointer = "/user" } }"#;

/// The first experiment has no key selector.
const NO_SELECTOR: &str = "";

fn configuration(selector: &str) -> String {
    let (topic, group) = (steps::topic(), steps::group_id());
    format!(
        r#"
[http]
default-topic = "{topic}"

[[groups]]
id = "{group}"
topics = ["{topic}"]
consumers = 4
handler = {{ plugin = "print", config = {{ prefix = "got" }} }}

[[topics]]
name = "{topic}"
partitions = 3
{selector}
"#
    )
}

fn set_up(selector: &str) -> TempDir {
    let directory = working_directory(&configuration(selector));
    install(&directory, "print", "print");
    install(&directory, "fixed-key", "keys");
    directory
}

/// Puts an example plugin in place under the name that it is configured by.
fn install(directory: &TempDir, example: &str, name: &str) {
    plugins::install(example, &directory.path().join("plugins"), name);
}

fn configure(directory: &TempDir, selector: &str) {
    fs::write(directory.path().join("keyway.toml"), configuration(selector))
        .expect("it can be written");
}

#[test]
fn on_the_embedded_broker_in_one_process() {
    let directory = set_up(NO_SELECTOR);
    let start = || Gateway::start(directory.path(), &["run"], &[]);

    let gateway = start();
    steps::three_are_active_and_one_says_why_not(&gateway);
    let stage = Stage { producer: &gateway, consumers: &[&gateway] };
    stage.records_without_key_are_spread_and_handled();
    gateway.kill(); // what was acknowledged survives even this

    let gateway = start();
    steps::three_are_active_and_one_says_why_not(&gateway);
    let stage = Stage { producer: &gateway, consumers: &[&gateway] };
    configure(&directory, SELECTOR);
    stage.with_a_fixed_key_one_member_does_all_the_work();
    install(&directory, "json-key", "keys");
    stage.with_a_key_from_the_value_the_load_is_spread_again();
    assert_eq!(gateway.terminate().code(), Some(0));
}

#[test]
fn on_kafka_in_kraft_mode_in_five_processes() {
    if let Some(kafka) = kafka::shared(Kind::Kraft) {
        on_kafka(kafka);
    }
}

#[test]
fn on_kafka_with_zookeeper_in_five_processes() {
    if let Some(kafka) = kafka::shared(Kind::Zookeeper) {
        on_kafka(kafka);
    }
}

fn on_kafka(bootstrap_servers: &str) {
    let directory = set_up(NO_SELECTOR);
    let (topic, group) = (steps::topic(), steps::group_id());
    let topic = [
        ("KAFKA_BOOTSTRAP_SERVERS", bootstrap_servers),
        ("KAFKA_TOPIC", &topic),
        ("KAFKA_TOPIC_PARTITIONS", "3"),
        ("KAFKA_REPLICATION_FACTOR", "1"),
    ];
    let group = [&topic[..], &[("KAFKA_CONSUMER_GROUP_ID", group.as_str())]].concat();

    let producer = Gateway::start(directory.path(), &["run", "--only", "http"], &topic);
    let mut consumers: Vec<Gateway> = (0..4)
        .map(|_| Gateway::start(directory.path(), &["run", "--only", "groups"], &group))
        .collect();
    steps::three_are_active_and_one_says_why_not(&consumers[0]);
    let everyone: Vec<&Gateway> = consumers.iter().collect();
    Stage { producer: &producer, consumers: &everyone }
        .records_without_key_are_spread_and_handled();

    configure(&directory, SELECTOR);
    let hot = Stage { producer: &producer, consumers: &everyone }
        .with_a_fixed_key_one_member_does_all_the_work();

    let owner = steps::members(&consumers[0])
        .into_iter()
        .find(|member| member.partitions.contains(&hot))
        .expect("somebody reads the partition that all the records went to");
    let worker = consumers
        .iter()
        .position(|consumer| owner.process.ends_with(&format!(":{}", consumer.id())));
    consumers.remove(worker.expect("it is one of ours")).kill();
    let left: Vec<&Gateway> = consumers.iter().collect();
    let stage = Stage { producer: &producer, consumers: &left };
    assert_eq!(stage.with_a_fixed_key_one_member_does_all_the_work(), hot);
    steps::all_three_that_are_left_are_active(&consumers[0]);

    install(&directory, "json-key", "keys");
    stage.with_a_key_from_the_value_the_load_is_spread_again();
    for consumer in consumers {
        assert_eq!(consumer.terminate().code(), Some(0));
    }
    assert_eq!(producer.terminate().code(), Some(0));
}
