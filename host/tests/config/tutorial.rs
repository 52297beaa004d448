//! What the five names of the tutorial come to, on the repository's file and on others.

use std::path::Path;

use keyway::config::{BUILT_IN, Broker, Config, ConfigErrors, Group, Topic};

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
    Config::parse(text, "keyway.toml", Path::new(""), environment)
}

fn topic<'c>(config: &'c Config, name: &str) -> &'c Topic {
    config.topics.iter().find(|topic| &*topic.name == name).unwrap()
}

fn reads(group: &Group) -> Vec<&str> {
    group.topics.iter().map(|topic| &**topic).collect()
}

const TWO_GROUPS: &str = r#"
[[topics]]
name = "orders"
partitions = 12
key-selector = { plugin = "json-key" }

[[topics]]
name = "payments"
partitions = 5

[[groups]]
id = "billing"
topics = ["orders", "payments"]
consumers = 3
handler = { plugin = "print" }

[[groups]]
id = "audit"
topics = ["orders"]
consumers = 2
handler = { plugin = "print" }
allow = { topics = ["orders"] }
"#;

#[test]
fn the_servers_alone_put_the_repositorys_file_on_kafka() {
    let config = read(BUILT_IN, &[("KAFKA_BOOTSTRAP_SERVERS", "kafka:29092")]).unwrap();
    let Broker::Kafka { bootstrap_servers, properties, .. } = config.broker else {
        panic!("embedded")
    };
    assert_eq!((bootstrap_servers.as_str(), properties.len()), ("kafka:29092", 0));
    assert_eq!(config.groups[0].consumers, 4);
}

#[test]
fn a_consumer_of_the_tutorial_is_one_member_of_the_group() {
    let config = read(
        BUILT_IN,
        &[
            ("KAFKA_BOOTSTRAP_SERVERS", "kafka:29092"),
            ("KAFKA_TOPIC", "my-topic"),
            ("KAFKA_CONSUMER_GROUP_ID", "my-topic-group-1"),
        ],
    )
    .unwrap();
    assert_eq!(&*config.groups[0].id, "my-topic-group-1");
    assert_eq!(config.groups[0].consumers, 1);
    assert_eq!(reads(&config.groups[0]), ["my-topic"]);
    assert_eq!(topic(&config, "my-topic").partitions, 3);
}

#[test]
fn the_producer_of_the_tutorial_describes_the_topic() {
    let config = read(
        BUILT_IN,
        &[
            ("KAFKA_BOOTSTRAP_SERVERS", "kafka:29092"),
            ("KAFKA_TOPIC", "other"),
            ("KAFKA_TOPIC_PARTITIONS", "6"),
            ("KAFKA_REPLICATION_FACTOR", "2"),
            ("KAFKA_HEAP_OPTS", "not ours"),
        ],
    )
    .unwrap();
    assert_eq!(config.http.default_topic.as_deref(), Some("other"));
    for name in ["other", "my-topic-out"] {
        let topic = topic(&config, name);
        assert_eq!((topic.partitions, topic.replication_factor), (6, 2), "{name}");
    }
    assert_eq!(config.topics.len(), 2);
}

#[test]
fn another_name_for_the_topic_keeps_what_the_file_says_of_it() {
    let config =
        read(TWO_GROUPS, &[("KAFKA_TOPIC", "events"), ("KAFKA_TOPIC_PARTITIONS", "6")]).unwrap();
    assert_eq!(config.http.default_topic.as_deref(), Some("events"));
    let events = topic(&config, "events");
    assert_eq!(events.partitions, 6);
    assert!(events.key_selector.is_some());
    assert_eq!(config.topics.len(), 2);
    assert_eq!(reads(&config.groups[0]), ["events", "payments"]);
    assert_eq!(reads(&config.groups[1]), ["events"]);
    assert!(config.groups[1].handler.allow.topics.contains("events"));
}

#[test]
fn a_topic_that_the_file_describes_already_is_taken_as_it_is() {
    let config =
        read(TWO_GROUPS, &[("KAFKA_TOPIC", "payments"), ("KAFKA_CONSUMER_GROUP_ID", "audit")])
            .unwrap();
    assert_eq!(config.http.default_topic.as_deref(), Some("payments"));
    assert_eq!(topic(&config, "payments").partitions, 5);
    assert_eq!(topic(&config, "orders").partitions, 12);
    assert_eq!(reads(&config.groups[0]), ["orders", "payments"]);
    assert_eq!(reads(&config.groups[1]), ["payments"]);
    assert_eq!((config.groups[0].consumers, config.groups[1].consumers), (3, 1));
}

#[test]
fn a_file_without_topics_gets_the_one_that_is_described() {
    let group = "[[groups]]\nid = \"g\"\ntopics = [\"t\"]\nhandler = { plugin = \"print\" }\n";
    let config =
        read(group, &[("KAFKA_TOPIC_PARTITIONS", "4"), ("KAFKA_REPLICATION_FACTOR", "2")]).unwrap();
    assert_eq!((topic(&config, "t").partitions, topic(&config, "t").replication_factor), (4, 2));
    let config = read("", &[("KAFKA_TOPIC", "t")]).unwrap();
    assert_eq!((config.topics.len(), topic(&config, "t").partitions), (1, 3));
}

#[test]
fn any_other_variable_comes_after_the_tutorials() {
    let environment = [
        ("KAFKA_CONSUMER_GROUP_ID", "mine"),
        ("KEYWAY__GROUPS__MINE__CONSUMERS", "7"),
        ("KAFKA_TOPIC", ""),
    ];
    let config = read(BUILT_IN, &environment).unwrap();
    assert_eq!((&*config.groups[0].id, config.groups[0].consumers), ("mine", 7));
    assert_eq!(reads(&config.groups[0]), ["my-topic"]);
}

#[test]
fn a_name_that_clashes_with_the_file_is_told_where_it_clashes() {
    let errors = read(BUILT_IN, &[("KAFKA_TOPIC", "my-topic-out")]).unwrap_err().to_string();
    assert!(
        errors.contains(
            " groups.my-topic-group-1.output-topic: one of the topics that the group reads"
        ),
        "{errors}"
    );
    assert_eq!(errors.lines().count(), 1, "{errors}");
}
