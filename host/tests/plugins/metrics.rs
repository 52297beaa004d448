//! What plugins count and measure themselves.

use keyway::{
    config::Isolation,
    plugin::{Host, MetricValue, UseMetrics},
};

use crate::fixture::{Fixture, handle, until, using};

fn of(host: &Host, owner: &str) -> UseMetrics {
    host.metrics().into_iter().find(|metrics| metrics.owner == owner).unwrap()
}

#[tokio::test]
async fn what_a_handler_counts_and_observes_is_kept_for_each_use() {
    let fixture = Fixture::new().with_guests(&["probe"]);
    let host = &fixture.host;
    let (one, other) = (
        host.handler("group one", &using("probe"), None, Isolation::Record, 1).await.unwrap(),
        host.handler("group other", &using("probe"), None, Isolation::None, 1).await.unwrap(),
    );
    handle(&one, r#"{"do": "add", "name": "it_seen", "by": 2}"#).await;
    handle(&one, r#"{"do": "add", "name": "it_seen", "by": 3}"#).await;
    handle(&one, r#"{"do": "observe", "name": "it_took", "value": 0.2}"#).await;
    handle(&other, r#"{"do": "add", "name": "it_seen"}"#).await;
    let metrics = of(host, "group one");
    assert_eq!((&*metrics.plugin, metrics.dropped), ("probe", 0));
    assert_eq!(metrics.metrics["it_seen"], MetricValue::Counter(5), "whatever instance counts");
    let MetricValue::Distribution { sum, buckets } = &metrics.metrics["it_took"] else {
        panic!("no distribution")
    };
    assert_eq!((*sum, buckets.iter().map(|bucket| bucket.1).sum::<u64>()), (0.2, 1));
    assert_eq!(of(host, "group other").metrics["it_seen"], MetricValue::Counter(1));
}

#[tokio::test]
async fn a_metric_beyond_the_bounds_fails_nothing_and_is_counted() {
    let fixture = Fixture::new().with_guests(&["probe"]);
    let handler = fixture.handler(&using("probe")).await.unwrap();
    for order in [
        r#"{"do": "add", "name": "no name"}"#,
        r#"{"do": "observe", "name": "it_is_nan", "value": null}"#,
    ] {
        assert_eq!(handle(&handler, order).await, keyway::handler::Outcome::Handled(vec![]));
    }
    for name in 0..70 {
        handle(&handler, &format!(r#"{{"do": "add", "name": "it_{name}"}}"#)).await;
    }
    let metrics = of(&fixture.host, "group g");
    assert_eq!((metrics.dropped, metrics.metrics.len()), (2 + 6, 64));
}

#[tokio::test]
async fn the_metrics_of_a_use_go_with_it() {
    let fixture = Fixture::new().with_guests(&["probe"]);
    let handler = fixture.handler(&using("probe")).await.unwrap();
    handle(&handler, r#"{"do": "add", "name": "it_goes"}"#).await;
    assert_eq!(fixture.host.metrics().len(), 1);
    drop(handler);
    until("it is gone", || fixture.host.metrics().is_empty().then_some(())).await;
}
