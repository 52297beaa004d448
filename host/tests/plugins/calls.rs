//! Calls into handlers: what becomes of each record, and what else it touches.

use std::time::{Duration, Instant};

use keyway::{
    config::{Isolation, Limits, PluginUse},
    handler::{Failure, Outcome},
};

use crate::{
    examples,
    fixture::{Fixture, delivery, emitted, handle, run, soon, until, using},
    hostile::{GOOD, Handler},
};

#[tokio::test]
async fn a_handler_handles_a_run_in_order_on_one_generation() {
    let fixture = Fixture::new().with(&["uppercase"]);
    let handler = fixture.handler(&using("uppercase")).await.unwrap();
    let report = run(&handler, &["a", "b", "c"]).await;
    assert_eq!(report.generation, handler.generation());
    assert_eq!(report.deliveries.len(), 3);
    let outcomes: Vec<_> = report.outcomes.iter().flat_map(emitted).collect();
    assert_eq!(outcomes, ["A", "B", "C"]);
    let Outcome::Handled(records) = &report.outcomes[0] else { panic!("not handled") };
    assert_eq!(&*records[0].topic, "out");
    assert_eq!(records[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(records[0].timestamp, Some(1_700_000_000_000));
}

#[tokio::test]
async fn absent_and_empty_stay_apart_through_a_handler() {
    let fixture = Fixture::new().with(&["uppercase"]);
    let handler = fixture.handler(&using("uppercase")).await.unwrap();
    let mut tombstone = delivery(0, "");
    tombstone.record.value = None;
    tombstone.record.key = Some("".into());
    let report = handler.handle(vec![tombstone, delivery(1, "")]).await;
    let records: Vec<_> = report
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Handled(records) => &records[0],
            other => panic!("not handled: {other:?}"),
        })
        .collect();
    assert_eq!(records[0].value, None);
    assert_eq!(records[0].key.as_deref(), Some(&b""[..]));
    assert_eq!(records[1].value.as_deref(), Some(&b""[..]));
}

#[tokio::test]
async fn a_run_ends_after_the_first_record_that_is_not_handled() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    let report = run(&handler, &["{}", r#"{"do": "reject", "reason": "no"}"#, "{}"]).await;
    assert_eq!(report.deliveries.len(), 3);
    assert_eq!(report.outcomes[0], Outcome::Handled(vec![]));
    assert_eq!(report.outcomes[1..], [Outcome::Reject { reason: "no".into() }]);
}

#[tokio::test]
async fn an_empty_run_is_an_empty_report() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    assert!(run(&handler, &[]).await.outcomes.is_empty());
}

#[tokio::test]
async fn what_a_handler_says_is_the_outcome() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    let later = Outcome::Retry { reason: "later".into(), after: Some(Duration::from_millis(50)) };
    assert_eq!(handle(&handler, r#"{"do": "retry", "reason": "later", "after": 50}"#).await, later);
    let later = Outcome::Retry { reason: "told to".into(), after: None };
    assert_eq!(handle(&handler, r#"{"do": "retry"}"#).await, later);
    let Outcome::Reject { reason } = handle(&handler, "poison").await else {
        panic!("not rejected")
    };
    assert!(reason.starts_with("the value is not JSON"), "{reason}");
}

#[tokio::test]
async fn a_handler_sees_the_attempt() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    let mut delivery = delivery(0, r#"{"do": "retry", "times": 1}"#);
    let first = handler.handle(vec![delivery.clone()]).await;
    assert!(matches!(first.outcomes[..], [Outcome::Retry { .. }]));
    delivery.attempt = 2;
    let second = handler.handle(vec![delivery]).await;
    assert_eq!(second.outcomes, [Outcome::Handled(vec![])]);
}

#[tokio::test]
async fn a_trap_is_a_failure_with_its_reason_and_the_next_record_gets_a_new_instance() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    let outcome = handle(&handler, r#"{"do": "trap", "reason": "boom"}"#).await;
    let Outcome::Failed(Failure::Trap(reason)) = outcome else { panic!("no trap: {outcome:?}") };
    assert!(reason.contains("unreachable") && reason.contains("boom"), "{reason}");
    assert_eq!(handle(&handler, "{}").await, Outcome::Handled(vec![]));
}

/// It counts in its memory and traps on its second call.
const ONCE: Handler<'_> = Handler {
    fields: "(global $calls (mut i32) (i32.const 0))",
    handle: "(if (global.get $calls) (then unreachable)) (global.set $calls (i32.const 1)) i32.const 0",
    ..GOOD
};

#[tokio::test]
async fn instances_are_kept_between_records_unless_each_record_is_to_have_its_own() {
    let fixture = Fixture::new();
    fixture.put("once", &ONCE.component());
    let kept = fixture.handler(&using("once")).await.unwrap();
    let outcomes = run(&kept, &["a", "b"]).await.outcomes;
    assert!(matches!(outcomes[..], [Outcome::Handled(_), Outcome::Failed(Failure::Trap(_))]));
    let fresh =
        fixture.host.handler("group f", &using("once"), None, Isolation::Record, 4).await.unwrap();
    for _ in 0..2 {
        let outcomes = run(&fresh, &["a", "b"]).await.outcomes;
        assert_eq!(outcomes, [Outcome::Handled(vec![]), Outcome::Handled(vec![])]);
    }
}

#[tokio::test]
async fn handlers_that_never_end_do_not_hold_up_another_groups() {
    let fixture = Fixture::new().with(&["flaky", "uppercase"]);
    let limits = Limits { time: Duration::from_secs(3600), ..Limits::default() };
    let flaky = fixture.handler(&PluginUse { limits, ..using("flaky") }).await.unwrap();
    let good = fixture
        .host
        .handler("group good", &using("uppercase"), Some("out".into()), Isolation::None, 4)
        .await
        .unwrap();
    // more of them than there are threads
    let loops: Vec<_> = (0..3)
        .map(|_| tokio::spawn(flaky.handle(vec![delivery(0, r#"{"do": "loop"}"#)])))
        .collect();
    for _ in 0..20 {
        assert_eq!(emitted(&handle(&good, "a").await), ["A"]);
    }
    assert!(loops.iter().all(|run| !run.is_finished()), "the others were handled meanwhile");
    loops.iter().for_each(|run| run.abort());
}

#[tokio::test]
async fn as_many_guests_as_a_member_may_have_in_flight_wait_at_the_same_time() {
    let fixture = Fixture::new().with(&["flaky"]);
    let limits = Limits { time: Duration::from_secs(60), ..Limits::default() };
    let plugin = PluginUse { limits, ..using("flaky") };
    let handler =
        fixture.host.handler("group g", &plugin, None, Isolation::None, 4096).await.unwrap();
    // Longer than it takes to begin them all, so that every one of them is in its call when the first ends.
    let wait = |offset| vec![delivery(offset, r#"{"do": "sleep", "ms": 3000}"#)];
    let runs = (0..4096).map(|offset| handler.handle(wait(offset)));
    for report in soon(futures_util::future::join_all(runs)).await {
        assert_eq!(report.outcomes, [Outcome::Handled(vec![])]);
    }
}

#[tokio::test]
async fn short_waits_end_on_time() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    // With a clock of whole milliseconds that rounds up, it would be ten each time; busy as a machine is, some try is
    // undisturbed.
    for _ in 0..1000 {
        let begin = Instant::now();
        for _ in 0..5 {
            let outcome = handle(&handler, r#"{"do": "sleep", "ms": 1}"#).await;
            assert_eq!(outcome, Outcome::Handled(vec![]));
        }
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(5), "one ended early");
        if took < Duration::from_millis(8) {
            return;
        }
    }
    panic!("five waits of 1 ms never took less than 8 ms");
}

#[tokio::test]
async fn runs_beyond_the_bound_wait_and_are_all_handled() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler =
        fixture.host.handler("group g", &using("flaky"), None, Isolation::None, 1).await.unwrap();
    let runs =
        (0..5).map(|offset| handler.handle(vec![delivery(offset, r#"{"do": "sleep", "ms": 5}"#)]));
    for report in soon(futures_util::future::join_all(runs)).await {
        assert_eq!(report.outcomes, [Outcome::Handled(vec![])]);
    }
}

#[tokio::test]
async fn a_run_that_nobody_waits_for_any_more_is_ended() {
    let fixture = Fixture::new().with_guests(&["probe"]);
    let limits = Limits { time: Duration::from_secs(3600), ..Limits::default() };
    let plugin = PluginUse { limits, ..using("probe") };
    let handler = fixture.host.handler("group g", &plugin, None, Isolation::None, 1).await.unwrap();
    let run = tokio::spawn(handler.handle(vec![delivery(0, r#"{"do": "loop"}"#)]));
    until("the run has begun", || {
        let uses = fixture.host.metrics();
        uses.iter().any(|it| it.metrics.contains_key("loops")).then_some(())
    })
    .await;
    run.abort();
    let next = r#"{"do": "add", "name": "next"}"#;
    let report = soon(handler.handle(vec![delivery(1, next)])).await;
    assert_eq!(report.outcomes, [Outcome::Handled(vec![])]);
}

#[tokio::test]
async fn a_long_run_gives_its_results_back_before_it_is_through() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    let run = vec![delivery(0, r#"{"do": "sleep", "ms": 20}"#), delivery(1, "{}")];
    let report = handler.handle(run).await;
    assert_eq!(report.outcomes, [Outcome::Handled(vec![])]);
    assert_eq!(report.deliveries.len(), 2);
}

#[tokio::test]
async fn a_handler_outlives_its_host() {
    let fixture = Fixture::new();
    examples::install("flaky", &fixture.directory, "flaky");
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    drop(fixture);
    assert_eq!(handle(&handler, "{}").await, Outcome::Handled(vec![]));
}
