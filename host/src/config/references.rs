//! Topics that are named in one place and made in another.

use std::{collections::HashMap, sync::Arc};

use super::{
    Broker, Config, Topic, names,
    read::Field,
    report::{listing, nearest},
};

/// A topic that is named where it is read from or written to, and has to be made elsewhere.
pub(super) struct Mention<'a> {
    topic: Arc<str>,
    field: Field<'a>,
}

impl<'a> Mention<'a> {
    /// Reads a topic's name and remembers where it stands.
    pub(super) fn read(field: &Field<'a>, mentions: &mut Vec<Self>) -> Option<Arc<str>> {
        let topic = field.name(names::topic)?;
        mentions.push(Self { topic: topic.clone(), field: field.clone() });
        Some(topic)
    }
}

/// An `output-topic` that no `[[topics]]` describes is made like the first topic of its group: the same partitions
/// and replication, no key selector. One group's output may be what the next group reads, hence the rounds.
pub(super) fn add_output_topics(config: &mut Config) {
    let mut known: HashMap<Arc<str>, (u32, u16)> = config
        .topics
        .iter()
        .map(|topic| (topic.name.clone(), (topic.partitions, topic.replication_factor)))
        .collect();
    loop {
        let implied = config.groups.iter().find_map(|group| {
            let output =
                group.output_topic.as_ref().filter(|output| !known.contains_key(*output))?;
            let shape = known.get(group.topics.first()?)?;
            Some((output.clone(), *shape))
        });
        let Some((name, (partitions, replication_factor))) = implied else { return };
        known.insert(name.clone(), (partitions, replication_factor));
        config.topics.push(Topic { name, partitions, replication_factor, key_selector: None });
    }
}

/// On Kafka a topic may be made by somebody else. The embedded broker has nobody else: a topic that is not made here
/// never will be.
pub(super) fn check(config: &Config, mentions: &[Mention<'_>]) {
    if !matches!(config.broker, Broker::Embedded { .. }) {
        return;
    }
    let names = || config.topics.iter().map(|topic| &*topic.name).filter(|name| !name.is_empty());
    for mention in mentions.iter().filter(|mention| !names().any(|name| name == &*mention.topic)) {
        let remedy = match nearest(&mention.topic, names()) {
            Some(near) => format!("did you mean {near:?}?"),
            None if names().next().is_none() => "add it there".to_owned(),
            None => format!("add it there or name {}", listing(names(), "or")),
        };
        mention.field.refuse("not a topic of [[topics]]", &remedy);
    }
}
