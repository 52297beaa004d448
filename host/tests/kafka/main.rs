//! What only the Kafka adapter has to show, on a real Kafka: bad days of the broker, clients that are not Keyway's,
//! properties. What every broker promises is in the conformance suite.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod groups;
mod metadata;
mod outage;
mod producer;
mod properties;
#[path = "../support/kafka.rs"]
mod support;
mod topics;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use keyway::{
    broker::{Broker, Member, MemberEvent, MemberSpec, TopicSpec, kafka::Kafka},
    config::Start,
};

/// How long what must come may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Kafka to connect to that all tests share.
async fn shared() -> Option<&'static str> {
    tokio::task::spawn_blocking(|| support::shared(support::Kind::Kraft)).await.unwrap()
}

fn connect(address: &str) -> Arc<Kafka> {
    connect_with(address, &[])
}

fn connect_with(address: &str, properties: &[(&str, &str)]) -> Arc<Kafka> {
    let properties: BTreeMap<_, _> =
        properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Arc::new(Kafka::connect(address, &properties).unwrap())
}

/// A name that nothing else uses, for topics and groups.
fn unique(prefix: &str) -> Arc<str> {
    format!("{prefix}-{}-{:016x}", std::process::id(), fastrand::u64(..)).into()
}

async fn topic(broker: &Kafka, partitions: u32) -> Arc<str> {
    let name = unique("topic");
    let spec = TopicSpec {
        name: name.clone(),
        partitions,
        replication_factor: Some(1),
        keep_forever: false,
    };
    broker.ensure_topic(&spec).await.unwrap();
    name
}

fn spec(group: &Arc<str>, topic: &Arc<str>) -> MemberSpec {
    MemberSpec {
        group: group.clone(),
        topics: vec![topic.clone()],
        start: Start::Earliest,
        index: 0,
        instance_id: None,
    }
}

/// Takes events until `wanted` makes something of one.
async fn until<T>(
    member: &mut Member,
    what: &str,
    mut wanted: impl FnMut(MemberEvent) -> Option<T>,
) -> T {
    let found = async {
        loop {
            let event = member.events.recv().await.expect(what);
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect(what)
}

/// Asks again and again until the answer is good.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
