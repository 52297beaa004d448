//! Whether this process can do its work, and if not, why.

use std::collections::BTreeSet;

use super::snapshot::View;
use crate::{
    broker::Health,
    dispatch::{GroupStatus, MemberState},
};

/// Everything that is in the way, in words; empty: ready. `more` is what the process itself adds.
///
/// Members are ready once they have started. How far their group has got with who reads what is not this process's to
/// hasten: other members, and the broker's wait for more of them (`group.initial.rebalance.delay.ms`, three seconds by
/// default), hold it up, and meanwhile the data port can take records. A member that could not go on is in the way; a
/// paused group is not, somebody wanted it so.
pub(super) fn obstacles(health: &Health, view: &View, more: Vec<String>) -> Vec<String> {
    let mut obstacles = more;
    if let Health::Unavailable(reason) = health {
        obstacles.push(format!("the broker is not reachable: {reason}"));
    }
    obstacles.extend(missing_plugins(view));
    obstacles.extend(view.groups.iter().filter_map(failed));
    obstacles
}

/// Plugins that the configuration names and of which no generation was ever loaded. One that serves on with an old
/// generation does its work.
fn missing_plugins(view: &View) -> impl Iterator<Item = String> {
    let selectors = view.config.topics.iter().filter_map(|topic| topic.key_selector.as_ref());
    let handlers = view.config.groups.iter().map(|group| &group.handler);
    let wanted: BTreeSet<_> = selectors.chain(handlers).map(|used| &used.plugin).collect();
    view.plugins
        .iter()
        .filter(move |status| wanted.contains(&status.name) && status.generation.is_none())
        .map(|status| {
            let cause = status.last_error.as_deref().unwrap_or("it is being loaded");
            format!("plugin {} is not loaded: {cause}", status.name)
        })
}

fn failed(group: &GroupStatus) -> Option<String> {
    let failed = group.members.iter().filter(|member| member.state == MemberState::Failed);
    let cause = failed.clone().find_map(|member| member.trouble.as_deref());
    let (number, all) = (failed.count(), group.members.len());
    (number > 0).then(|| {
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("group {}: {number} of {all} members could not go on{cause}", group.id)
    })
}

#[cfg(test)]
mod tests {
    use super::{super::snapshot::example, *};

    #[test]
    fn a_process_whose_members_have_started_is_ready_even_if_they_wait_for_their_group() {
        let mut view = example::view();
        assert_eq!(obstacles(&Health::Ready, &view, Vec::new()), [""; 0]);
        view.groups[0].members[1].state = MemberState::Joining;
        assert_eq!(obstacles(&Health::Ready, &view, Vec::new()), [""; 0]);
    }

    #[test]
    fn every_obstacle_is_named_at_once() {
        let mut view = example::view();
        view.plugins[0].generation = None;
        view.groups[0].members[1].state = MemberState::Failed;
        view.groups[0].members[1].trouble = Some("the member is fenced".into());
        let health = Health::Unavailable("connection refused".into());
        assert_eq!(
            obstacles(&health, &view, vec!["draining".into()]),
            [
                "draining",
                "the broker is not reachable: connection refused",
                "plugin print is not loaded: plugins/print.wasm: not a component",
                "group my-topic-group-1: 1 of 3 members could not go on: the member is fenced",
            ]
        );
    }
}
