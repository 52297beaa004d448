//! What is asked for, held against what there is: the handler, and the offsets of each partition. Nothing is done before
//! all of it is found to be possible.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Means, Stop};
use crate::{
    admin::{replay::Request, seek::Target, snapshot::Range},
    broker::{Broker, BrokerError, PartitionOffsets, TopicInfo, TopicSpec},
    config::{Allow, Config, Group, Isolation, Limits, PluginUse, Retry},
    handler::Handler,
};

/// Without a group there is nobody who says how often: once.
const ONCE: Retry = Retry { attempts: 1, backoff: Duration::ZERO, max_backoff: Duration::ZERO };

/// What is to be done, found to be possible.
pub(super) struct Plan {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) retry: Retry,
    pub(super) into: Arc<str>,
    pub(super) ranges: Vec<Range>,
}

impl Plan {
    pub(super) async fn make(
        means: &Means,
        config: &Config,
        request: &Request,
    ) -> Result<Self, Stop> {
        let group = group(config, request)?;
        let topic = topic(request, group)?;
        let into: Arc<str> = request.into.as_str().into();
        if *into == *topic {
            let detail =
                format!("the output of {topic:?} cannot go into itself; give another topic");
            return Err(Stop::Failed(detail));
        }
        let used = plugin(request, group)?;
        let info = means.broker.topic(topic).await?;
        let ranges = ranges(&*means.broker, &info, request).await?;
        let isolation = group.map_or(Isolation::None, |group| group.isolation);
        let output = Some(into.clone());
        let handler = means.plugins.handler("a replay", &used, output, isolation, 1).await?;
        if !request.dry_run {
            let spec = TopicSpec {
                name: into.clone(),
                partitions: info.partitions.len() as u32,
                replication_factor: None,
                keep_forever: false,
            };
            means.broker.ensure_topic(&spec).await?;
        }
        Ok(Self { handler, retry: group.map_or(ONCE, |group| group.retry), into, ranges })
    }
}

fn group<'a>(config: &'a Config, request: &Request) -> Result<Option<&'a Group>, Stop> {
    let Some(id) = &request.group else { return Ok(None) };
    match config.groups.iter().find(|group| *group.id == **id) {
        Some(group) => Ok(Some(group)),
        None => Err(Stop::Failed(format!(
            "no group {id:?} is configured; give one that is, or a handler and a topic without a group"
        ))),
    }
}

fn topic<'a>(request: &'a Request, group: Option<&'a Group>) -> Result<&'a str, Stop> {
    match (&request.topic, group.map(|group| &group.topics[..])) {
        (Some(topic), _) => Ok(topic),
        (None, Some([topic])) => Ok(topic),
        (None, Some(topics)) => {
            Err(Stop::Failed(format!("of which topic? the group reads {}", topics.join(", "))))
        }
        (None, None) => Err(Stop::Failed("give the topic that is to be read, or a group".into())),
    }
}

/// The handler that is asked for, with the configuration of the group where there is one.
fn plugin(request: &Request, group: Option<&Group>) -> Result<PluginUse, Stop> {
    let name = request.handler.as_deref().map(Arc::from);
    let mut used = match (group, &name) {
        (Some(group), _) => group.handler.clone(),
        (None, Some(name)) => PluginUse {
            plugin: Arc::clone(name),
            config: BTreeMap::new(),
            limits: Limits::default(),
            allow: Allow::default(),
        },
        (None, None) => return Err(Stop::Failed("give a handler, or a group that has one".into())),
    };
    used.plugin = name.unwrap_or(used.plugin);
    Ok(used)
}

/// What is to be handled of each partition. An offset that a partition does not have is the nearest one that it has.
async fn ranges(
    broker: &dyn Broker,
    topic: &TopicInfo,
    request: &Request,
) -> Result<Vec<Range>, Stop> {
    let count = topic.partitions.len() as u32;
    let numbers = request.partitions.clone().unwrap_or_else(|| (0..count).collect());
    if let Some(number) = numbers.iter().find(|number| **number >= count) {
        let name = &topic.name;
        return Err(Stop::Failed(format!(
            "{name} has {count} partitions, from 0, and no {number}"
        )));
    }
    let from = offsets(broker, topic, request.from).await?;
    let to = offsets(broker, topic, request.to).await?;
    let range = |partition: u32| {
        let (from, to) = (from[partition as usize], to[partition as usize]);
        Range { topic: topic.name.to_string(), partition, from, to: to.max(from) }
    };
    Ok(numbers.into_iter().map(range).collect())
}

/// An offset for each partition.
async fn offsets(
    broker: &dyn Broker,
    topic: &TopicInfo,
    target: Target,
) -> Result<Vec<u64>, BrokerError> {
    let since = match target {
        Target::Time(timestamp) => broker.offsets_at(&topic.name, timestamp).await?,
        _ => Vec::new(),
    };
    let offset = |(number, ends): (usize, &PartitionOffsets)| match target {
        Target::Beginning => ends.beginning,
        Target::End => ends.end,
        Target::Offset(offset) => offset.clamp(ends.beginning, ends.end),
        Target::Time(_) => {
            since.get(number).map_or(ends.end, |offset| (*offset).clamp(ends.beginning, ends.end))
        }
    };
    Ok(topic.partitions.iter().enumerate().map(offset).collect())
}
