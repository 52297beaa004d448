//! The five names under which a Kafka tutorial sets its producer and consumers up, so that its commands run Keyway
//! as they stand.
//!
//! `KAFKA_BOOTSTRAP_SERVERS` puts the broker on Kafka. `KAFKA_TOPIC` is another name for the topic that HTTP writes
//! to and the group reads, wherever the file says it, with its key selector and all; `KAFKA_TOPIC_PARTITIONS` and
//! `KAFKA_REPLICATION_FACTOR` say how it is made. `KAFKA_CONSUMER_GROUP_ID` names the group and makes this process
//! one member of it. The group is the one of the file with that id, else the first. A variable that is empty is as
//! one that is not there: that is how Compose files pass on what nobody set.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    document::{Node, Origin, Value},
    report::Report,
};

const BOOTSTRAP_SERVERS: &str = "KAFKA_BOOTSTRAP_SERVERS";
const TOPIC: &str = "KAFKA_TOPIC";
const TOPIC_PARTITIONS: &str = "KAFKA_TOPIC_PARTITIONS";
const REPLICATION_FACTOR: &str = "KAFKA_REPLICATION_FACTOR";
const CONSUMER_GROUP_ID: &str = "KAFKA_CONSUMER_GROUP_ID";

/// All five.
pub(super) const NAMES: [&str; 5] =
    [BOOTSTRAP_SERVERS, TOPIC, TOPIC_PARTITIONS, REPLICATION_FACTOR, CONSUMER_GROUP_ID];

/// Lays those that are given over the document.
pub(super) fn lay_over(
    document: &mut Node,
    variables: &BTreeMap<Arc<str>, String>,
    report: &Report<'_>,
) {
    let given = |name| {
        let (name, text) = variables.get_key_value(name).filter(|(_, text)| !text.is_empty())?;
        Some(Node::untyped(text, name))
    };
    if let Some(servers) = given(BOOTSTRAP_SERVERS) {
        let kind =
            Node { value: Value::String("kafka".to_owned()), origin: servers.origin.clone() };
        let broker = section(document, "broker", &servers.origin);
        broker.insert("kind", kind);
        broker.insert("bootstrap-servers", servers);
    }
    let id = given(CONSUMER_GROUP_ID);
    let group =
        id.as_ref().and_then(Node::text).and_then(|id| position(document, "groups", "id", id));
    let group = group.unwrap_or(0);

    if let Some(topic) = given(TOPIC) {
        name_topic(document, topic, group);
    }
    for (name, key) in
        [(TOPIC_PARTITIONS, "partitions"), (REPLICATION_FACTOR, "replication-factor")]
    {
        if let Some(number) = given(name) {
            describe_topic(document, key, number, group, report);
        }
    }
    if let Some(id) = id {
        let one = Node { value: Value::Integer(1), origin: id.origin.clone() };
        match document.array_mut("groups").get_mut(group) {
            Some(group) => {
                group.insert("id", id);
                group.insert("consumers", one);
            }
            None => {
                refuse(report, &id, "no group to name", "add one as [[groups]], with its handler")
            }
        }
    }
}

/// Gives the default topic of HTTP and of the group its name.
fn name_topic(document: &mut Node, topic: Node, group: usize) {
    let Some(name) = topic.text().map(str::to_owned) else { return };
    let described = position(document, "topics", "name", &name).is_some();
    if let Some(old) = default_topic(document, group).filter(|old| *old != name && !described) {
        rename(document, &old, &topic);
    }
    section(document, "http", &topic.origin).insert("default-topic", topic.clone());
    if let Some(group) = document.array_mut("groups").get_mut(group)
        && !group
            .get("topics")
            .and_then(Node::items)
            .is_some_and(|topics| topics.iter().any(|topic| topic.text() == Some(&name)))
    {
        let topics = Value::Array(vec![topic.clone()]);
        group.insert("topics", Node { value: topics, origin: topic.origin.clone() });
    }
    if position(document, "topics", "name", &name).is_none() {
        add_topic(document, topic);
    }
}

/// Says how the default topic is made.
fn describe_topic(document: &mut Node, key: &str, number: Node, group: usize, report: &Report<'_>) {
    let Some(name) = default_topic(document, group) else {
        refuse(report, &number, "no topic to describe", "give http.default-topic or KAFKA_TOPIC");
        return;
    };
    if position(document, "topics", "name", &name).is_none() {
        let origin = number.origin.clone();
        add_topic(document, Node { value: Value::String(name.clone()), origin });
    }
    if let Some(index) = position(document, "topics", "name", &name) {
        document.array_mut("topics")[index].insert(key, number);
    }
}

/// The topic that HTTP writes to, else the first that the group reads.
fn default_topic(document: &Node, group: usize) -> Option<String> {
    let http = || document.get("http")?.get("default-topic")?.text();
    let read =
        || document.get("groups")?.items()?.get(group)?.get("topics")?.items()?.first()?.text();
    http().or_else(read).map(str::to_owned)
}

/// Puts the new name wherever a topic of the old one is named.
fn rename(document: &mut Node, old: &str, new: &Node) {
    let replace = |node: Option<&mut Node>| {
        if let Some(node) = node.filter(|node| node.text() == Some(old)) {
            *node = new.clone();
        }
    };
    for topic in document.array_mut("topics") {
        replace(topic.get_mut("name"));
    }
    for group in document.array_mut("groups") {
        group.array_mut("topics").iter_mut().for_each(|topic| replace(Some(topic)));
        replace(group.get_mut("output-topic"));
        if let Some(allow) = group.get_mut("allow") {
            allow.array_mut("topics").iter_mut().for_each(|topic| replace(Some(topic)));
        }
    }
}

fn add_topic(document: &mut Node, name: Node) {
    let origin = name.origin.clone();
    let mut topic = Node::empty_table(origin.clone());
    topic.insert("name", name);
    match document.get_mut("topics") {
        Some(Node { value: Value::Array(topics), .. }) => topics.push(topic),
        Some(_) => {} // not a list of tables: its reader says so
        None => document.insert("topics", Node { value: Value::Array(vec![topic]), origin }),
    }
}

fn position(document: &Node, array: &str, key: &str, text: &str) -> Option<usize> {
    let items = document.get(array)?.items()?;
    items.iter().position(|item| item.get(key).and_then(Node::text) == Some(text))
}

/// The table of a key, made where it is missing.
fn section<'d>(document: &'d mut Node, key: &str, origin: &Origin) -> &'d mut Node {
    if document.get(key).is_none() {
        document.insert(key, Node::empty_table(origin.clone()));
    }
    document.get_mut(key).expect("it was just made, and a document is a table")
}

fn refuse(report: &Report<'_>, value: &Node, wrong: &str, remedy: &str) {
    let given = super::report::given(value);
    report.push(&value.origin, "", format!("{wrong}, got {given}, {remedy}"));
}
