//! Plugins, their generations, and where each generation began.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::View;
use crate::{
    handler,
    plugin::{PluginStatus, Role},
};

/// A plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its name: the file name without `.wasm`.
    pub name: String,
    /// What it can be: `handler`, `selector`.
    pub roles: Vec<String>,
    /// The generation that serves; `null` when none ever loaded.
    pub generation: Option<String>,
    /// The whole digest of that generation, as 64 hexadecimal digits.
    pub digest: Option<String>,
    /// Since when it serves, as RFC 3339.
    pub since: Option<String>,
    /// What was wrong with the file that was refused last; `null` once a good one has replaced it.
    pub last_error: Option<String>,
    /// Every generation, oldest first.
    pub generations: Vec<Generation>,
}

/// A generation in a plugin's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The first twelve hexadecimal digits of its digest.
    pub generation: String,
    /// When it began to serve, as RFC 3339.
    pub since: String,
    /// The first record of each partition that it was given, by the members of this process.
    pub first_offsets: Vec<FirstOffset>,
}

/// Where a generation began on one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstOffset {
    /// The group that handled it.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
}

/// Every plugin that the view knows, by name.
pub fn plugins(view: &View) -> Vec<Plugin> {
    let mut plugins: Vec<_> = view.plugins.iter().map(|status| plugin(status, view)).collect();
    plugins.sort_by(|a, b| a.name.cmp(&b.name));
    plugins
}

fn plugin(status: &PluginStatus, view: &View) -> Plugin {
    let generations = status.generations.iter().map(|generation| Generation {
        generation: generation.generation.short(),
        since: rfc_3339(generation.since),
        first_offsets: first_offsets(&generation.generation, view),
    });
    Plugin {
        name: status.name.to_string(),
        roles: status.roles.iter().map(|role| role_name(*role).to_owned()).collect(),
        generation: status.generation.as_ref().map(handler::Generation::short),
        digest: status.generation.as_ref().map(handler::Generation::long),
        since: status.since.map(rfc_3339),
        last_error: status.last_error.clone(),
        generations: generations.collect(),
    }
}

fn first_offsets(generation: &handler::Generation, view: &View) -> Vec<FirstOffset> {
    let mut first_offsets = Vec::new();
    for group in &view.groups {
        for partition in group.members.iter().flat_map(|member| &member.partitions) {
            let of_this = partition.first_offsets.iter().filter(|(given, _)| given == generation);
            first_offsets.extend(of_this.map(|(_, offset)| FirstOffset {
                group: group.id.to_string(),
                topic: partition.partition.topic.to_string(),
                partition: partition.partition.partition,
                offset: *offset,
            }));
        }
    }
    first_offsets
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Handler => "handler",
        Role::Selector => "selector",
    }
}

pub(super) fn rfc_3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::{super::example, *};

    #[test]
    fn a_plugin_has_the_shape_that_the_interface_promises() {
        let plugins = plugins(&example::view());
        let names: Vec<_> = plugins.iter().map(|plugin| plugin.name.as_str()).collect();
        assert_eq!(names, ["json-key", "print"]);
        assert_eq!(
            serde_json::to_value(&plugins[1]).unwrap(),
            serde_json::json!({
                "name": "print",
                "roles": ["handler"],
                "generation": "0a0a0a0a0a0a",
                "digest": "0a".repeat(32),
                "since": "2023-11-14T22:13:20.000Z",
                "last_error": "plugins/print.wasm: not a component",
                "generations": [{
                    "generation": "0a0a0a0a0a0a",
                    "since": "2023-11-14T22:13:20.000Z",
                    "first_offsets": [
                        {"group": "my-topic-group-1", "topic": "my-topic", "partition": 0, "offset": 17},
                    ],
                }],
            })
        );
    }
}
