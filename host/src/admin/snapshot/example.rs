//! A process, a topic and a group for tests: two members that read here, one that waits, and one elsewhere.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::View;
use crate::{
    broker::{Committed, GroupInfo, GroupMember, GroupState, PartitionOffsets, TopicInfo},
    config::{self, Config},
    dispatch::{GroupStatus, HotKey, MemberState, MemberStatus, PartitionStatus},
    handler::{Generation, Outcome},
    plugin::{
        By, CanaryStatus, Comparisons, Difference, Fate, Figures, FirstOffset, GenerationStatus,
        MetricValue, PluginStatus, RefusedStatus, Role, ShadowStatus, UseMetrics, UseStatus,
    },
    produce,
    record::{NewRecord, TopicPartition},
};

pub(crate) fn config() -> Arc<Config> {
    let plugin = |name: &str| config::PluginUse {
        plugin: name.into(),
        config: BTreeMap::new(),
        limits: config::Limits::default(),
        allow: config::Allow::default(),
    };
    Arc::new(Config {
        broker: config::Broker::Embedded {
            path: "keyway-data".into(),
            retention: config::Retention { time: None, bytes: None },
        },
        http: config::Http {
            listen: ([127, 0, 0, 1], 0).into(),
            default_topic: None,
            max_body: 8 << 20,
            max_connections: 100,
        },
        admin: config::Admin { listen: None },
        plugins: config::Plugins { directory: "plugins".into() },
        topics: vec![config::Topic {
            name: "my-topic".into(),
            partitions: 3,
            replication_factor: 1,
            key_selector: Some(plugin("json-key")),
        }],
        groups: vec![config::Group {
            id: "my-topic-group-1".into(),
            topics: vec!["my-topic".into()],
            consumers: 3,
            canary: None,
            shadow: None,
            handler: plugin("print"),
            output_topic: None,
            ordering: config::Ordering::Partition,
            start: config::Start::Earliest,
            max_in_flight: 64,
            drain: Duration::from_secs(20),
            retry: config::Retry {
                attempts: 5,
                backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(30),
            },
            on_reject: config::OnReject::DeadLetter,
            dead_letter_topic: None,
            isolation: config::Isolation::None,
            delivery: config::Delivery::AtLeastOnce,
            instance_id: None,
        }],
    })
}

pub(crate) fn my_topic() -> TopicInfo {
    TopicInfo {
        name: "my-topic".into(),
        partitions: [(0, 42), (5, 7), (0, 0)]
            .map(|(beginning, end)| PartitionOffsets { beginning, end })
            .into(),
    }
}

pub(crate) fn group_info() -> GroupInfo {
    let member = |id: &str, process: &str, partitions: &[u32]| GroupMember {
        id: id.into(),
        process: process.into(),
        partitions: partitions.iter().map(|p| TopicPartition::new("my-topic", *p)).collect(),
    };
    GroupInfo {
        id: "my-topic-group-1".into(),
        state: GroupState::Stable,
        members: vec![
            member("m-0", "here:1", &[0]),
            member("m-1", "here:1", &[1]),
            member("m-3", "there:2", &[2]),
            member("m-2", "here:1", &[]),
        ],
        committed: vec![(
            TopicPartition::new("my-topic", 0),
            Committed { offset: 40, metadata: String::new() },
        )],
    }
}

pub(crate) fn generation(plugin: &str, byte: u8) -> Generation {
    Generation { plugin: plugin.into(), digest: [byte; 32] }
}

pub(crate) fn view() -> View {
    let member = |id: &str, state, partition: Option<u32>| MemberStatus {
        id: Some(id.into()),
        state,
        trouble: None,
        partitions: partition.map(reading).into_iter().collect(),
        hottest: match partition {
            Some(0) => vec![HotKey {
                partition: TopicPartition::new("my-topic", 0),
                key: "ada".into(),
                waiting: 1,
            }],
            _ => Vec::new(),
        },
    };
    View {
        taken: SystemTime::UNIX_EPOCH + Duration::from_millis(5_500),
        config: config(),
        answers: vec![(200, 7), (503, 1)],
        groups: vec![GroupStatus {
            id: "my-topic-group-1".into(),
            pauses: Arc::default(),
            members: vec![
                member("m-0", MemberState::Active, Some(0)),
                member("m-1", MemberState::Active, Some(1)),
                member("m-2", MemberState::Inactive, None),
            ],
            dropped: 1,
            trouble: None,
            dead_lettered: 2,
            parked: 4,
            handled: 40,
            retried: 3,
        }],
        plugins: vec![print(), plugin("json-key", 0x0b, Role::Selector)],
        plugin_metrics: vec![UseMetrics {
            plugin: "print".into(),
            owner: "group my-topic-group-1".into(),
            dropped: 5,
            metrics: BTreeMap::from([
                ("lines".into(), MetricValue::Counter(7)),
                (
                    "line_bytes".into(),
                    MetricValue::Distribution {
                        sum: 12.5,
                        buckets: vec![(10.0, 2), (f64::MAX, 1)],
                    },
                ),
            ]),
        }],
    }
}

/// Most records go to partition 0, by their keys.
pub(crate) fn skew() -> produce::Skew {
    let hot = |key: &'static str, most, least| produce::Hot { key: key.into(), most, least };
    let share = |records| produce::Share { records, bytes: 10 * records, spread: 0 };
    produce::Skew {
        partitions: vec![share(180), share(20)],
        hottest: vec![hot("ada", 150, 140)],
        hottest_of_callers: Some(vec![hot("k", 200, 200)]),
        skewed: Some(produce::Skewed { partition: 0, share: 0.9 }),
    }
}

fn since() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

/// A plugin with one generation.
fn plugin(name: &str, byte: u8, role: Role) -> PluginStatus {
    PluginStatus {
        name: name.into(),
        roles: vec![role],
        generation: Some(generation(name, byte)),
        since: Some(since()),
        last_error: None,
        generations: vec![GenerationStatus {
            generation: generation(name, byte),
            since: since(),
            until: None,
            by: By::File,
            fate: Fate::Serving,
            kept: Some(1000),
            first_offsets: Vec::new(),
        }],
        refused: Vec::new(),
        aborted: Vec::new(),
        rolled_back_from: Vec::new(),
        history_error: None,
        uses: Vec::new(),
    }
}

/// One that is tried and fails now and then.
fn canary() -> CanaryStatus {
    let figures = |handled, failed, micros| Figures {
        attempts: handled + failed,
        handled,
        failed,
        emitted: handled,
        time: Duration::from_micros(micros),
        ..Figures::default()
    };
    CanaryStatus {
        generation: generation("print", 0x0e),
        since: since(),
        percent: 5,
        serving: figures(19, 0, 950),
        canary: figures(2, 1, 300),
    }
}

/// One that has seen most records, and refuses one.
fn shadow() -> ShadowStatus {
    let difference = Difference {
        place: "my-topic/0@7".parse().expect("a place"),
        key: Some("k".into()),
        value: Some("v".into()),
        attempt: 1,
        what: "handled, rejected".into(),
        serving: Outcome::Handled(vec![NewRecord::new("out", "V")]),
        shadow: Outcome::Reject { reason: "no such user".into() },
    };
    ShadowStatus {
        generation: generation("print", 0x0f),
        since: since(),
        compared: Comparisons { equal: 30, different: 1, failed: 0 },
        shed: 4,
        differences: vec![difference.into()],
    }
}

/// One that was rolled back, and whose file was refused.
fn print() -> PluginStatus {
    let error = "plugins/print.wasm: not a component".to_owned();
    let mut print = plugin("print", 0x0a, Role::Handler);
    print.last_error = Some(error.clone());
    print.generations[0].first_offsets = vec![FirstOffset {
        group: Some("my-topic-group-1".into()),
        topic: "my-topic".into(),
        partition: 0,
        offset: 17,
    }];
    print.refused =
        vec![RefusedStatus { generation: generation("print", 0x0c), at: since(), reason: error }];
    print.rolled_back_from = vec![generation("print", 0x0d)];
    print.uses = vec![UseStatus {
        owner: "group my-topic-group-1".into(),
        role: Role::Handler,
        config: vec!["prefix".into()],
        instances: 1,
        calls: 40,
        failures: 2,
        canary: Some(canary()),
        shadow: Some(shadow()),
    }];
    print
}

/// Partition 0 has records in the handler's hands, the others have not begun.
fn reading(partition: u32) -> PartitionStatus {
    let begun = partition == 0;
    PartitionStatus {
        partition: TopicPartition::new("my-topic", partition),
        in_flight: usize::from(begun),
        waiting: usize::from(begun),
        lanes: 2 * usize::from(begun),
        deferred: usize::from(begun),
        oldest: begun.then_some(4_000),
        committed: begun.then_some(40),
        generation: begun.then(|| generation("print", 0x0a)),
        stopped: None,
        parked_lanes: usize::from(begun),
        parked_records: 3 * usize::from(begun),
    }
}
