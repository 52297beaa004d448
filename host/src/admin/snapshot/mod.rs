//! The JSON shapes of `/api/v1`, and the pure functions that make them.
//!
//! What they are made of: the broker's word on topics and groups, and a [`View`] of one process. Members of other
//! processes and other clients come from the broker alone; this process's members are matched by id and shown with
//! what only it knows. A view in which nothing runs is fine: that is how the command line looks at Kafka when there
//! is no gateway to ask. The command line reads these shapes back, so they deserialise too.

mod dead_letter;
mod difference;
#[cfg(test)]
pub(crate) mod example;
mod group;
mod idle;
mod pause;
mod plugin;
mod preview;
mod replay;
mod skew;
mod topic;

use std::{sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};

pub use dead_letter::{DeadLetter, DeadLetters, RedriveLine, Source, dead_letter};
pub use difference::{Difference, Emitted, Ending, differences};
pub use group::{
    Group, GroupPartition, HotKey, Member, MemberState, Parked, ThisProcess, TopicPartition, group,
    topics_of,
};
pub use idle::Idle;
pub use pause::{Pause, PausedPart};
pub use plugin::{Canary, FirstOffset, Generation, Plugin, Refused, Shadow, Side, Use, plugins};
pub use preview::{KeyPreview, Place, PreviewedPartition, PreviewedRecord};
pub use replay::{Output, Range, ReplayLine};
pub use skew::{PartitionShare, Skew, SkewWarning, WrittenKey};
pub use topic::{Header, Partition, Payload, Record, Records, Topic, record, topic};

use crate::{
    config::{self, Config},
    dispatch::GroupStatus,
    plugin::{PluginStatus, UseMetrics},
};

/// One process: what it is configured to do, and what runs of that.
#[derive(Clone, Debug)]
pub struct View {
    /// When.
    pub taken: SystemTime,
    /// The configuration that is in force.
    pub config: Arc<Config>,
    /// The groups that run here.
    pub groups: Vec<GroupStatus>,
    /// The plugins that this process knows.
    pub plugins: Vec<PluginStatus>,
    /// What those have counted and measured themselves.
    pub plugin_metrics: Vec<UseMetrics>,
    /// How often the data port has answered with each status.
    pub answers: Vec<(u16, u64)>,
}

impl View {
    /// A view in which nothing runs.
    pub fn idle(config: Arc<Config>) -> Self {
        Self {
            taken: SystemTime::now(),
            config,
            groups: Vec::new(),
            plugins: Vec::new(),
            plugin_metrics: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn group_config(&self, id: &str) -> Option<&config::Group> {
        self.config.groups.iter().find(|group| &*group.id == id)
    }

    fn group_status(&self, id: &str) -> Option<&GroupStatus> {
        self.groups.iter().find(|group| &*group.id == id)
    }

    fn plugin_generation(&self, plugin: &str) -> PluginGeneration {
        let status = self.plugins.iter().find(|status| &*status.name == plugin);
        PluginGeneration {
            plugin: plugin.to_owned(),
            generation: status
                .and_then(|status| status.generation.as_ref())
                .map(|generation| generation.short()),
        }
    }
}

/// A plugin in a role, and which generation of it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginGeneration {
    /// The plugin's name.
    pub plugin: String,
    /// The first twelve hexadecimal digits of its digest; `null` when none is loaded.
    pub generation: Option<String>,
}
