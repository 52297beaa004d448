//! Properties that go through to librdkafka.

use std::{collections::BTreeMap, time::Duration};

use keyway::broker::{Broker, BrokerError, Health, kafka::Kafka};

use crate::{connect_with, eventually, shared};

fn refusal(name: &str, value: &str) -> String {
    let properties = BTreeMap::from([(name.to_owned(), value.to_owned())]);
    match Kafka::connect("127.0.0.1:1", &properties) {
        Err(BrokerError::Fatal(reason)) => reason,
        other => panic!("{name}={value}: {other:?}"),
    }
}

#[test]
fn a_property_that_librdkafka_does_not_know_is_named() {
    let reason = refusal("no.such.property", "1");
    assert!(reason.contains("\"no.such.property\""), "{reason}");
}

#[test]
fn a_value_that_librdkafka_does_not_take_is_named_with_its_property() {
    let reason = refusal("compression.type", "brotli");
    assert!(reason.contains("\"compression.type\" = \"brotli\""), "{reason}");
}

#[tokio::test]
async fn a_property_that_works_changes_nothing_else() {
    let Some(address) = shared().await else { return };
    let broker = connect_with(address, &[("compression.type", "zstd"), ("fetch.min.bytes", "1")]);
    eventually("the broker is ready", async || (broker.health() == Health::Ready).then_some(()))
        .await;
    let topic = crate::topic(&broker, 1).await;
    let record = keyway::record::NewRecord::new(topic, "x".repeat(10_000));
    assert_eq!(broker.produce(record).await.unwrap().offset, 0);
    broker.close(Duration::from_secs(5)).await;
}
