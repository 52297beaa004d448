//! Handlers that were built for other hosts.

use std::{fs, sync::Arc, time::Duration};

use keyway::{
    config::{Allow, Limits, PluginUse},
    handler::{Failure, Handler, Outcome},
    plugin::{Grant, Role, inspect},
    record::{Header, NewRecord},
};

use crate::{
    fixture::{Fixture, delivery, emitted, handle, run, soon, using},
    guests,
};

/// Each does the same by the interface of its host.
const GUESTS: [&str; 2] = ["wasmcloud", "wasi-messaging"];

async fn handler(guest: &str) -> (Fixture, Arc<dyn Handler>) {
    let fixture = Fixture::new().with_guests(&[guest]);
    let plugin = PluginUse {
        limits: Limits {
            memory: 8 << 20,
            time: Duration::from_secs(30), // a slow machine is none of what these are about
            emit: 3,
            emit_bytes: 1000,
        },
        allow: Allow { topics: ["allowed".into()].into(), ..Allow::default() },
        ..using(guest)
    };
    let handler = fixture.handler(&plugin).await.unwrap();
    (fixture, handler)
}

#[tokio::test]
async fn what_a_handler_of_another_host_publishes_is_what_it_emits() {
    for guest in GUESTS {
        let (_fixture, handler) = handler(guest).await;
        let report = run(&handler, &[r#"{"publish": 2}"#, "{}", r#"{"publish": 1}"#]).await;
        let outcomes: Vec<_> = report.outcomes.iter().map(emitted).collect();
        assert_eq!(outcomes, [vec!["my-topic 0", "my-topic 1"], vec![], vec!["my-topic 0"]]);
        let Outcome::Handled(records) = &report.outcomes[0] else { panic!("not handled") };
        assert_eq!(records[0], NewRecord::new("out", "my-topic 0"), "{guest}");

        let mut tombstone = delivery(0, "");
        tombstone.record.value = None;
        let report = handler.handle(vec![tombstone]).await;
        assert_eq!(emitted(&report.outcomes[0]), ["my-topic had nothing"]);

        let outcome = handle(&handler, r#"{"publish": 1, "subject": "allowed"}"#).await;
        let Outcome::Handled(records) = outcome else { panic!("not handled: {outcome:?}") };
        assert_eq!(&*records[0].topic, "allowed");
    }
}

#[tokio::test]
async fn what_was_published_goes_nowhere_when_the_call_does_not_end_well() {
    for guest in GUESTS {
        let (_fixture, handler) = handler(guest).await;
        let failed = handle(&handler, r#"{"publish": 2, "then": "fail"}"#).await;
        assert_eq!(failed, Outcome::Retry { reason: "told to".into(), after: None });
        let trapped = handle(&handler, r#"{"publish": 2, "then": "trap"}"#).await;
        assert!(matches!(trapped, Outcome::Failed(Failure::Trap(_))), "{trapped:?}");
        let after = handle(&handler, r#"{"publish": 1}"#).await;
        assert_eq!(emitted(&after), ["my-topic 0"], "and not with the next call either");
    }
}

async fn failure(handler: &Arc<dyn Handler>, order: &str) -> Failure {
    match soon(handle(handler, order)).await {
        Outcome::Failed(failure) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

#[tokio::test]
async fn publishing_is_held_to_the_limits_and_the_allow_list_of_any_handler() {
    for guest in GUESTS {
        let (_fixture, handler) = handler(guest).await;
        let many = Failure::Emit { unit: "records", given: 4, limit: 3 };
        assert_eq!(failure(&handler, r#"{"publish": 1000000000}"#).await, many);
        let much = Failure::Emit { unit: "bytes", given: 1200, limit: 1000 };
        assert_eq!(failure(&handler, r#"{"publish": 3, "size": 600}"#).await, much);
        let order = r#"{"publish": 1, "subject": "elsewhere"}"#;
        let Failure::Forbidden(text) = failure(&handler, order).await else {
            panic!("was allowed")
        };
        assert!(text.contains("`elsewhere`") && text.contains("allow.topics"), "{text}");
    }
}

#[tokio::test]
async fn request_and_reply_are_errors_that_say_so() {
    for (guest, order) in [
        ("wasmcloud", r#"{"then": "request"}"#),
        ("wasmcloud", r#"{"publish": 1, "reply-to": "answers"}"#),
        ("wasi-messaging", r#"{"then": "request"}"#),
        ("wasi-messaging", r#"{"then": "reply"}"#),
    ] {
        let (_fixture, handler) = handler(guest).await;
        let Outcome::Retry { reason, .. } = handle(&handler, order).await else {
            panic!("not refused")
        };
        assert!(reason.contains("no request and reply"), "{reason}");
    }
}

#[tokio::test]
async fn an_error_of_wasi_messaging_that_is_no_text_is_retried_with_its_name() {
    let (_fixture, handler) = handler("wasi-messaging").await;
    let outcome = handle(&handler, r#"{"then": "timeout"}"#).await;
    assert_eq!(outcome, Outcome::Retry { reason: "timeout".into(), after: None });
}

#[tokio::test]
async fn headers_that_are_text_go_through_wasi_messaging_both_ways() {
    let header = |key: &str, value: Option<&'static [u8]>| Header {
        key: key.into(),
        value: value.map(Into::into),
    };
    let (_fixture, handler) = handler("wasi-messaging").await;
    let outcome = async |order: &str| {
        let mut delivery = delivery(0, order);
        delivery.record.headers = vec![
            header("a", Some(b"1")),
            header("content-type", Some(b"application/json")),
            header("b", Some(b"2")),
            header("null", None),
            header("bytes", Some(b"\xff")),
            header("a", Some(b"3")),
        ];
        handler.handle(vec![delivery]).await.outcomes.remove(0)
    };
    let described = outcome(r#"{"then": "describe"}"#).await;
    let expected = r#"Some("application/json") Some([("a", "1"), ("b", "2"), ("a", "3")])"#;
    assert_eq!(emitted(&described), [expected]);
    assert_eq!(
        outcome(r#"{"then": "forward"}"#).await,
        Outcome::Handled(vec![NewRecord {
            headers: vec![header("content-type", Some(b"text/plain")), header("a", Some(b"new"))],
            ..NewRecord::new("out", "changed")
        }])
    );
}

#[tokio::test]
async fn messages_that_a_handler_hoards_are_memory_of_its() {
    let (_fixture, handler) = handler("wasi-messaging").await;
    // 4,096 handles of this would be 400 MB
    let order = format!(r#"{{"then": "hoard", "with": "{}"}}"#, "x".repeat(100_000));
    assert_eq!(failure(&handler, &order).await, Failure::Memory(8 << 20));
}

#[test]
fn a_component_of_another_host_is_told_as_the_handler_that_it_is() {
    for (guest, export) in GUESTS
        .into_iter()
        .zip(["wasmcloud:messaging/handler@0.2.0", "wasi:messaging/incoming-handler@0.2.0-draft"])
    {
        let bytes = fs::read(guests::built().join(format!("{guest}.wasm"))).unwrap();
        let found = inspect(&bytes).unwrap();
        assert_eq!((found.roles, found.refused), (vec![Role::Handler], None));
        assert!(found.exports.contains(&export.to_owned()));
        let topics = found.imports.iter().filter(|import| import.grant == Grant::Topics);
        assert_eq!(topics.count(), 1);
    }
}
