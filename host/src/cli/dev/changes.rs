//! What is different between two snapshots of a gateway, as what happened: pure.

use crate::{
    admin::snapshot::{Group, Member, MemberState, Plugin},
    record::TopicPartition,
};

/// A gateway at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    pub(super) groups: Vec<Group>,
    pub(super) plugins: Vec<Plugin>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Members of a group came or went, or partitions changed hands: how it stands now.
    Group {
        /// The group's id.
        id: String,
        /// For each member its number from 1, and what it reads or why it does not.
        members: Vec<(usize, String)>,
    },
    /// A plugin has a (new) generation.
    Loaded {
        /// The plugin's name.
        plugin: String,
        /// The generation that serves now.
        generation: String,
        /// The one before it.
        before: Option<String>,
    },
    /// A plugin's file was refused.
    Refused {
        /// The plugin's name.
        plugin: String,
        /// Why, in words.
        error: String,
        /// The generation that serves on.
        serves: Option<String>,
    },
}

impl Scene {
    /// The number from 1 of the member that reads a partition.
    pub(super) fn member_of(&self, group: &str, at: &TopicPartition) -> Option<usize> {
        let group = self.groups.iter().find(|shown| shown.id == group)?;
        let reads = |member: &Member| {
            member.partitions.iter().any(|p| *p.topic == *at.topic && p.partition == at.partition)
        };
        group.members.iter().position(reads).map(|index| index + 1)
    }
}

/// What happened from `before` to `now`. A group is told about when it has settled, not at each step on the way.
pub(super) fn changes(before: &Scene, now: &Scene) -> Vec<Change> {
    let mut changes = Vec::new();
    for plugin in &now.plugins {
        let old = before.plugins.iter().find(|old| old.name == plugin.name);
        changes.extend(plugin_changes(old, plugin));
    }
    for group in &now.groups {
        let old = before.groups.iter().find(|old| old.id == group.id);
        if settled(group) && old.is_none_or(|old| !settled(old) || standing(old) != standing(group))
        {
            changes.push(Change::Group { id: group.id.clone(), members: standing(group) });
        }
    }
    changes
}

fn plugin_changes(old: Option<&Plugin>, plugin: &Plugin) -> Vec<Change> {
    let mut changes = Vec::new();
    let before = old.and_then(|old| old.generation.clone());
    if let Some(generation) = &plugin.generation
        && before.as_ref() != Some(generation)
    {
        let (plugin, generation) = (plugin.name.clone(), generation.clone());
        changes.push(Change::Loaded { plugin, generation, before });
    }
    if let Some(error) = &plugin.last_error
        && old.is_none_or(|old| old.last_error.as_ref() != Some(error))
    {
        changes.push(Change::Refused {
            plugin: plugin.name.clone(),
            error: error.clone(),
            serves: plugin.generation.clone(),
        });
    }
    changes
}

fn settled(group: &Group) -> bool {
    !group.members.is_empty()
        && group.members.iter().all(|member| member.state != MemberState::Rebalancing)
}

fn standing(group: &Group) -> Vec<(usize, String)> {
    (1..).zip(group.members.iter().map(Member::standing)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::snapshot::{self, View, example};

    fn scene(view: &View) -> Scene {
        let topics = [example::my_topic()];
        let group = snapshot::group(&example::group_info(), &topics, view, "here:1");
        Scene { groups: vec![group], plugins: snapshot::plugins(view) }
    }

    #[test]
    fn at_first_everything_is_new() {
        let changes = changes(&Scene::default(), &scene(&example::view()));
        let loaded = |change: &&Change| matches!(change, Change::Loaded { before: None, .. });
        assert_eq!(changes.iter().filter(loaded).count(), 2);
        let group = changes.iter().find_map(|change| match change {
            Change::Group { members, .. } => Some(members),
            _ => None,
        });
        let members = group.map(Vec::as_slice).unwrap_or_default();
        assert_eq!(members[0], (1, "reads my-topic/0".to_owned()));
        assert!(members[2].1.starts_with("has nothing to read: 4 members, 3 partitions"));
    }

    #[test]
    fn nothing_is_said_when_nothing_happened() {
        let scene = scene(&example::view());
        assert_eq!(changes(&scene, &scene.clone()), []);
    }

    #[test]
    fn a_swap_names_both_generations() {
        let (before, mut view) = (scene(&example::view()), example::view());
        view.plugins[0].generation = Some(example::generation("print", 0x0c));
        view.plugins[0].last_error = None;
        assert_eq!(
            changes(&before, &scene(&view)),
            [Change::Loaded {
                plugin: "print".into(),
                generation: "0c0c0c0c0c0c".into(),
                before: Some("0a0a0a0a0a0a".into()),
            }]
        );
    }

    #[test]
    fn a_rebalance_is_told_about_when_it_is_over() {
        let before = scene(&example::view());
        let mut during = before.clone();
        during.groups[0].members[0].state = MemberState::Rebalancing;
        assert_eq!(changes(&before, &during), []);
        assert_eq!(changes(&during, &before).len(), 1);
    }

    #[test]
    fn a_record_is_traced_to_its_member() {
        let scene = scene(&example::view());
        let member = |topic, partition| {
            scene.member_of("my-topic-group-1", &TopicPartition::new(topic, partition))
        };
        assert_eq!(member("my-topic", 2), Some(4));
        assert_eq!(member("other", 2), None);
    }
}
