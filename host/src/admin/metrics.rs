//! `/metrics`, in the OpenMetrics text format.
//!
//! Made afresh for every scrape from the same snapshots as the API, so that the path of a record touches no registry.
//! What the broker would have to be asked for (lag, offsets) is left out of a scrape that it does not answer in time.

mod plugins;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use axum::{
    extract::State as Extract,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry},
};

use super::{
    State, inventory,
    problem::Problem,
    snapshot::{Group, View},
};
use crate::{broker::Health, dispatch, produce::Skew};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How long the broker may take, within the ten seconds that Prometheus waits by default.
const BROKER_TIME: Duration = Duration::from_secs(2);

type Labels = Vec<(&'static str, String)>;

pub(super) async fn metrics(Extract(state): Extract<State>) -> Response {
    let view = state.local.view();
    let mut registry = Registry::with_prefix("keyway");
    process(&mut registry, &state);
    plugins(&mut registry, &view);
    let own = plugins::registry(&view.plugin_metrics);
    counters(&mut registry, &view);
    handlers(&mut registry, &view);
    topics(&mut registry, &state.local.skews());
    members(&mut registry, &view);
    offsets(&mut registry, &groups(&state, &view).await);
    answers(&mut registry, &view);
    let mut text = String::new();
    let encoded = encode_registry(&mut text, &registry)
        .and_then(|()| encode_registry(&mut text, &own))
        .and_then(|()| encode_eof(&mut text));
    match encoded {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Problem::new(status, "metrics-failed", error.to_string()).into_response()
        }
    }
}

async fn groups(state: &State, view: &View) -> Vec<Group> {
    let mut groups = Vec::new();
    let ask = async {
        for group in &view.groups {
            groups.extend(inventory::group(&*state.broker, view, &group.id).await.ok());
        }
    };
    // Too late: those that were answered in time are shown.
    tokio::time::timeout(BROKER_TIME, ask).await.ok();
    groups
}

fn register<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn process(registry: &mut Registry, state: &State) {
    let info: Family<Labels, Gauge> = register(registry, "build_info", "The version that runs");
    info.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
    let ready: Gauge = register(registry, "ready", "Whether /ready says so");
    ready.set(state.obstacles().is_empty().into());
    let up: Gauge =
        register(registry, "broker_up", "Whether the broker can be written to and read");
    up.set((state.broker.health() == Health::Ready).into());
}

fn plugins(registry: &mut Registry, view: &View) {
    let info: Family<Labels, Gauge> =
        register(registry, "plugin_info", "The generation of each plugin that serves");
    let refused: Family<Labels, Gauge> =
        register(registry, "plugin_refused", "Whether the last file of the plugin was refused");
    for plugin in &view.plugins {
        let name = ("plugin", plugin.name.to_string());
        refused.get_or_create(&vec![name.clone()]).set(plugin.last_error.is_some().into());
        if let Some(generation) = &plugin.generation {
            info.get_or_create(&vec![name, ("generation", generation.short())]).set(1);
        }
    }
    let dropped: Family<Labels, Counter> = register(
        registry,
        "plugin_metrics_dropped",
        "What a plugin counted or observed that was left out, for a name or a value beyond the bounds",
    );
    for metrics in &view.plugin_metrics {
        dropped.get_or_create(&plugins::labels(metrics)).inc_by(metrics.dropped);
    }
}

fn answers(registry: &mut Registry, view: &View) {
    let family: Family<Labels, Counter> =
        register(registry, "http_requests", "Requests that the data port has answered, by status");
    for (status, count) in &view.answers {
        family.get_or_create(&vec![("status", status.to_string())]).inc_by(*count);
    }
}

fn counters(registry: &mut Registry, view: &View) {
    type Read = fn(&dispatch::GroupStatus) -> u64;
    let all: [(&str, &str, Read); 5] = [
        ("records_handled", "Records handled", |group| group.handled),
        ("records_retried", "Attempts that failed and were put off", |group| group.retried),
        ("records_dead_lettered", "Records written to a dead-letter topic", |group| {
            group.dead_lettered
        }),
        ("records_parked", "Records parked", |group| group.parked),
        ("records_dropped", "Records given up on and dropped by policy", |group| group.dropped),
    ];
    for (name, help, read) in all {
        let family: Family<Labels, Counter> = register(registry, name, help);
        for group in &view.groups {
            family.get_or_create(&of_group(&group.id)).inc_by(read(group));
        }
    }
}

fn handlers(registry: &mut Registry, view: &View) {
    let failing: Family<Labels, Gauge> = register(
        registry,
        "group_handler_failing",
        "Whether the group's handler fails every call, so that records wait for it",
    );
    for group in &view.groups {
        failing.get_or_create(&of_group(&group.id)).set(group.trouble.is_some().into());
    }
}

/// Of the topics that this process has written to lately, whose number the produce path bounds.
fn topics(registry: &mut Registry, skews: &[(Arc<str>, Skew)]) {
    let fullest: Family<Labels, Gauge<f64, AtomicU64>> = register(
        registry,
        "topic_fullest_partition_ratio",
        "The largest share that one partition got of the records of the last one to two minutes, by their keys, from 0 to 1",
    );
    let skewed: Family<Labels, Gauge> = register(
        registry,
        "topic_skewed",
        "Whether one of the topic's partitions gets most of its records, so that there is a warning",
    );
    for (topic, skew) in skews {
        let Some(share) = skew.fullest() else { continue };
        let labels = vec![("topic", topic.to_string())];
        fullest.get_or_create(&labels).set(share);
        skewed.get_or_create(&labels).set(skew.skewed.is_some().into());
    }
}

fn members(registry: &mut Registry, view: &View) {
    let members: Family<Labels, Gauge> =
        register(registry, "group_members", "Members of the group in this process, by state");
    let in_flight: Family<Labels, Gauge> = register(
        registry,
        "records_in_flight",
        "Records that are being handled, or whose output is not acknowledged yet",
    );
    let waiting: Family<Labels, Gauge> =
        register(registry, "records_waiting", "Records read that wait for the handler");
    let lanes: Family<Labels, Gauge> =
        register(registry, "lanes", "Lanes with records that wait or are in flight");
    let deferred: Family<Labels, Gauge> =
        register(registry, "lanes_deferred", "Lanes that wait for another attempt");
    let lag: Family<Labels, Gauge<f64, AtomicU64>> = register(
        registry,
        "group_lag_seconds",
        "Time since the oldest record was written that was read and is not finished; absent when there is none",
    );
    let stopped: Family<Labels, Gauge> = register(
        registry,
        "partition_stopped",
        "Whether the partition stands still at a record that was given up on",
    );
    let parked_lanes: Family<Labels, Gauge> =
        register(registry, "lanes_parked", "Lanes whose records are parked");
    let parked_records: Family<Labels, Gauge> =
        register(registry, "parked_records", "Records that are parked and not given back");
    for group in &view.groups {
        for member in &group.members {
            let state = ("state", format!("{:?}", member.state).to_lowercase());
            members.get_or_create(&[of_group(&group.id), vec![state]].concat()).inc();
            for status in &member.partitions {
                let at = &status.partition;
                let labels = of_partition(&group.id, &at.topic, at.partition);
                in_flight.get_or_create(&labels).set(number(status.in_flight as u64));
                waiting.get_or_create(&labels).set(number(status.waiting as u64));
                lanes.get_or_create(&labels).set(number(status.lanes as u64));
                deferred.get_or_create(&labels).set(number(status.deferred as u64));
                if let Some(age) = status.age(view.taken) {
                    lag.get_or_create(&labels).set(age as f64 / 1000.0);
                }
                stopped.get_or_create(&labels).set(status.stopped.is_some().into());
                parked_lanes.get_or_create(&labels).set(number(status.parked_lanes as u64));
                parked_records.get_or_create(&labels).set(number(status.parked_records as u64));
            }
        }
    }
}

fn offsets(registry: &mut Registry, groups: &[Group]) {
    let lag: Family<Labels, Gauge> = register(
        registry,
        "group_lag",
        "Records between the committed offset of the group and the end of the partition, whoever reads it; \
         every process with members of the group reports it, so take the maximum",
    );
    let committed: Family<Labels, Gauge> =
        register(registry, "group_committed_offset", "The committed offset of the group");
    let end: Family<Labels, Gauge> = register(
        registry,
        "partition_end_offset",
        "The offset of the next record, of partitions that a group of this process reads",
    );
    for group in groups {
        for partition in &group.partitions {
            let labels = of_partition(&group.id, &partition.topic, partition.partition);
            if let Some(records) = partition.lag {
                lag.get_or_create(&labels).set(number(records));
            }
            if let Some(offset) = partition.committed_offset {
                committed.get_or_create(&labels).set(number(offset));
            }
            if let Some(offset) = partition.end_offset {
                end.get_or_create(&labels[1..].to_vec()).set(number(offset));
            }
        }
    }
}

fn of_group(id: &str) -> Labels {
    vec![("group", label(id))]
}

/// A text as a label's value, which the encoder writes between quotes as it is.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn of_partition(group: &str, topic: &str, partition: u32) -> Labels {
    let mut labels = of_group(group);
    labels.extend([("topic", topic.to_owned()), ("partition", partition.to_string())]);
    labels
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_have_any_name_without_spoiling_the_format() {
        assert_eq!(of_group(r#"a"b\c"#), [("group", r#"a\"b\\c"#.to_owned())]);
    }
}
