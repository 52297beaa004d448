//! Groups: who reads what, how far it got, and who has nothing to read.

mod members;
mod partitions;
mod process;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use self::{members::members, partitions::partitions, process::this_process};
pub use self::{
    members::{Member, MemberState},
    partitions::{GroupPartition, Parked},
    process::{HotKey, ThisProcess},
};
use super::{PluginGeneration, View};
use crate::{
    broker::{GroupInfo, TopicInfo},
    config::{self, Delivery, Ordering},
    record,
};

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    pub id: String,
    /// `stable`, `rebalancing`, `empty` or `dead`.
    pub state: String,
    /// The topics it reads: as configured here, else as seen from its members and committed offsets.
    pub topics: Vec<String>,
    /// `partition`, `key` or `none`; `null` when the group is not configured here.
    pub ordering: Option<String>,
    /// `at-least-once`; `null` when the group is not configured here.
    pub delivery: Option<String>,
    /// What handles its records; `null` when the group is not configured here.
    pub handler: Option<PluginGeneration>,
    /// Its members, of any process and any client.
    pub members: Vec<Member>,
    /// Its partitions, by topic and number.
    pub partitions: Vec<GroupPartition>,
    /// What this process did for it; `null` when it runs no member of it.
    pub this_process: Option<ThisProcess>,
}

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
}

/// The topics whose offsets [`group`] wants: those configured, and those the group is seen to read or to have read.
pub fn topics_of(info: &GroupInfo, view: &View) -> BTreeSet<String> {
    let configured = view.group_config(&info.id).map_or(&[][..], |group| &group.topics);
    let read = info.members.iter().flat_map(|member| &member.partitions);
    let committed = info.committed.iter().map(|(partition, _)| partition);
    let seen = read.chain(committed).map(|partition| &partition.topic);
    configured.iter().chain(seen).map(|topic| topic.to_string()).collect()
}

/// A group. `topics` may hold more than [`topics_of`] says; one that is missing does not exist. `process` is this
/// process, as [`crate::broker::process_name`] says.
pub fn group(info: &GroupInfo, topics: &[TopicInfo], view: &View, process: &str) -> Group {
    let config = view.group_config(&info.id);
    let status = view.group_status(&info.id);
    let facts = Facts::gather(info, topics, view, config);
    let members = members(info, status, process, &facts);
    Group {
        id: info.id.clone(),
        state: info.state.to_string(),
        topics: facts.topics.iter().map(|(topic, _)| topic.clone()).collect(),
        ordering: facts.ordering.map(|ordering| ordering_name(ordering).to_owned()),
        delivery: config.map(|group| delivery_name(group.delivery).to_owned()),
        handler: config.map(|group| view.plugin_generation(&group.handler.plugin)),
        partitions: partitions(info, topics, &facts, (status, view.taken), &members),
        members,
        this_process: status.map(this_process),
    }
}

/// What the reasons are made of.
struct Facts {
    /// What its members can read, with the number of partitions; 0: there is no such topic.
    topics: Vec<(String, usize)>,
    ordering: Option<Ordering>,
}

impl Facts {
    fn gather(
        info: &GroupInfo,
        topics: &[TopicInfo],
        view: &View,
        config: Option<&config::Group>,
    ) -> Self {
        let names: Vec<String> = match config {
            Some(group) => group.topics.iter().map(|topic| topic.to_string()).collect(),
            None => topics_of(info, view).into_iter().collect(),
        };
        let sized = |name: String| {
            let found = topics.iter().find(|topic| *topic.name == *name);
            (name, found.map_or(0, |topic| topic.partitions.len()))
        };
        Self {
            topics: names.into_iter().map(sized).collect(),
            ordering: config.map(|group| group.ordering),
        }
    }

    fn covers(&self, partition: &TopicPartition) -> bool {
        self.topics.iter().any(|(topic, _)| *topic == partition.topic)
    }
}

fn shown(partition: &record::TopicPartition) -> TopicPartition {
    TopicPartition { topic: partition.topic.to_string(), partition: partition.partition }
}

fn delivery_name(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::AtLeastOnce => "at-least-once",
        Delivery::ExactlyOnce => "exactly-once",
    }
}

fn ordering_name(ordering: Ordering) -> &'static str {
    match ordering {
        Ordering::Partition => "partition",
        Ordering::Key => "key",
        Ordering::None => "none",
    }
}
