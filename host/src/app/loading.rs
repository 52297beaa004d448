//! Loading the plugins of a configuration in their roles, several at a time.
//!
//! All that is wrong is told, in the order of the configuration, however long each takes.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use crate::{
    config::{Config, Group as GroupConfig, PluginUse},
    handler::{Handler, Selector},
    plugin::{Host, PluginError},
    produce::Selectors,
};

/// Plugins that are loaded at the same time: enough to keep processors and the disk busy, few enough for the memory that
/// the compiler takes for each.
const AT_ONCE: usize = 4;

/// A group whose handler is loaded.
pub(super) struct Loaded {
    pub(super) config: Arc<GroupConfig>,
    pub(super) handler: Arc<dyn Handler>,
}

/// How plugins know a group.
pub(super) fn owner(group: &str) -> String {
    format!("group {group}")
}

/// The key selectors of all topics, and what is wrong with those that are not among them.
pub(super) async fn load_selectors(
    plugins: &Host,
    config: &Config,
) -> (Selectors, Vec<PluginError>) {
    let (mut selectors, mut wrong) = (Selectors::new(), Vec::new());
    let uses = config.topics.iter().filter_map(|topic| {
        let used = topic.key_selector.clone()?;
        Some(load_selector(plugins.clone(), topic.name.clone(), used))
    });
    for (topic, selector) in side_by_side(uses.collect()).await {
        match selector {
            Ok(selector) => drop(selectors.insert(topic, selector)),
            Err(error) => wrong.push(error),
        }
    }
    (selectors, wrong)
}

async fn load_selector(
    plugins: Host,
    topic: Arc<str>,
    used: PluginUse,
) -> (Arc<str>, Result<Arc<dyn Selector>, PluginError>) {
    let selector = plugins.selector(&format!("topic {topic}"), &used).await;
    (topic, selector)
}

/// The groups whose handlers can be loaded, and all that is wrong.
pub(super) async fn load_groups(
    plugins: &Host,
    groups: impl Iterator<Item = &GroupConfig>,
) -> (Vec<Loaded>, Vec<PluginError>) {
    let (mut loaded, mut wrong) = (Vec::new(), Vec::new());
    let groups = groups.map(|group| load_group(plugins.clone(), Arc::new(group.clone())));
    for (group, more_wrong) in side_by_side(groups.collect()).await {
        loaded.extend(group);
        wrong.extend(more_wrong);
    }
    (loaded, wrong)
}

async fn load_group(plugins: Host, group: Arc<GroupConfig>) -> (Option<Loaded>, Vec<PluginError>) {
    let (owner, plugin) = (owner(&group.id), &group.handler.plugin);
    let instances = group.max_in_flight * group.consumers as usize;
    let handler = plugins.handler(
        &owner,
        &group.handler,
        group.output_topic.clone(),
        group.isolation,
        instances,
    );
    let handler = match handler.await {
        Ok(handler) => handler,
        Err(error) => return (None, vec![error]),
    };
    let mut wrong = Vec::new();
    let trial = |what, cause| PluginError::Trial { what, owner: owner.clone(), cause };
    if let Some(canary) = &group.canary {
        let begun = plugins.configured_canary(plugin, &owner, canary).await;
        wrong.extend(begun.err().map(|cause| trial("canary", cause)));
    }
    if let Some(shadow) = &group.shadow {
        let begun = plugins.configured_shadow(plugin, &owner, shadow).await;
        wrong.extend(begun.err().map(|cause| trial("shadow", cause)));
    }
    (Some(Loaded { config: group, handler }), wrong)
}

/// Some of them at the same time; what comes of them in their order.
async fn side_by_side<F: Future>(all: Vec<F>) -> Vec<F::Output> {
    stream::iter(all).buffered(AT_ONCE).collect().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt as _;
    use tokio::{sync::oneshot, task::yield_now};

    use super::*;

    #[tokio::test]
    async fn what_comes_of_them_is_told_in_their_order_whichever_ends_first() {
        let (tell, told) = oneshot::channel();
        let first = async { told.await.map(|()| 1) }.boxed();
        let second = async { tell.send(()).map(|()| 2).map_err(|()| unreachable!("1 waits")) };
        assert_eq!(side_by_side(vec![first, second.boxed()]).await, [Ok(1), Ok(2)]);
    }

    #[tokio::test]
    async fn there_are_no_more_at_once_than_there_may_be() {
        let (running, most) = (Cell::new(0), Cell::new(0));
        let load = async || {
            running.set(running.get() + 1);
            most.set(most.get().max(running.get()));
            yield_now().await;
            running.set(running.get() - 1);
        };
        side_by_side((0..5 * AT_ONCE).map(|_| load()).collect()).await;
        assert_eq!(most.get(), AT_ONCE);
    }
}
