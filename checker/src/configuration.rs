//! The configuration of an episode's gateways, as text.

use keyway::config;

use crate::{
    cluster::Cluster,
    plan::{PARTITIONS, Setup},
};

/// What the topics and the group are called.
pub(crate) struct Names {
    pub(crate) source: String,
    pub(crate) output: String,
    pub(crate) group: String,
}

/// What of it changes while gateways run.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    /// Members of each process.
    pub(crate) consumers: u32,
    /// Whether the handler is mended: it fails nothing.
    pub(crate) is_mended: bool,
}

/// All of it, on the embedded broker where there is no `cluster`.
pub(crate) fn text(cluster: Option<&Cluster>, names: &Names, setup: &Setup, now: Now) -> String {
    let broker = match cluster {
        None => "kind = \"embedded\"\npath = \"data\"".to_owned(),
        Some(cluster) => kafka(&cluster.address),
    };
    let copies = cluster.map_or(1, Cluster::copies);
    let Names { source, output, group } = names;
    let Setup { promises, max_in_flight, wait, .. } = setup;
    let Now { consumers, is_mended } = now;
    let (retry, reject) = if is_mended { (0, 0) } else { (setup.retry, setup.reject) };
    let ordering = match promises.ordering {
        config::Ordering::Partition => "partition",
        config::Ordering::Key => "key",
        config::Ordering::None => "none",
    };
    let delivery = match promises.delivery {
        config::Delivery::AtLeastOnce => "at-least-once",
        config::Delivery::ExactlyOnce => "exactly-once",
    };
    let on_reject = match promises.on_reject {
        config::OnReject::Park => "park",
        _ => "dead-letter",
    };
    format!(
        r#"[broker]
{broker}
[http]
listen = "127.0.0.1:0"
default-topic = "{source}"
[admin]
listen = "127.0.0.1:0"
[[topics]]
name = "{source}"
partitions = {PARTITIONS}
replication-factor = {copies}
[[topics]]
name = "{output}"
partitions = {PARTITIONS}
replication-factor = {copies}
[[groups]]
id = "{group}"
topics = ["{source}"]
consumers = {consumers}
handler = {{ plugin = "witness", config = {{ wait = "{wait}", retry = "{retry}", reject = "{reject}" }} }}
output-topic = "{output}"
ordering = "{ordering}"
delivery = "{delivery}"
on-reject = "{on_reject}"
max-in-flight = {max_in_flight}
retry = {{ attempts = 3, backoff = "20ms", max-backoff = "200ms" }}
"#
    )
}

/// `[broker]` on Kafka. Sessions are short, so that what is frozen or gone is missed soon.
fn kafka(address: &str) -> String {
    format!(
        r#"kind = "kafka"
bootstrap-servers = "{address}"
[broker.properties]
"session.timeout.ms" = "3000"
"heartbeat.interval.ms" = "500"
"transaction.timeout.ms" = "5000""#
    )
}
