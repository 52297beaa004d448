//! Handlers that were built for other hosts.

use std::{fs, sync::Arc};

use keyway::{
    config::{Allow, Limits, PluginUse},
    handler::{Failure, Handler, Outcome},
    plugin::{Grant, Role, inspect},
};

use crate::{
    fixture::{Fixture, delivery, emitted, handle, run, soon, using},
    guests,
};

const GUEST: &str = "wasmcloud";

async fn handler() -> (Fixture, Arc<dyn Handler>) {
    let fixture = Fixture::new().with_guests(&[GUEST]);
    let plugin = PluginUse {
        limits: Limits { emit: 3, emit_bytes: 1000, ..Limits::default() },
        allow: Allow { topics: ["allowed".into()].into(), ..Allow::default() },
        ..using(GUEST)
    };
    let handler = fixture.handler(&plugin).await.unwrap();
    (fixture, handler)
}

#[tokio::test]
async fn what_a_handler_of_wasmcloud_publishes_is_what_it_emits() {
    let (_fixture, handler) = handler().await;
    let report = run(&handler, &[r#"{"publish": 2}"#, "{}", r#"{"publish": 1}"#]).await;
    let outcomes: Vec<_> = report.outcomes.iter().map(emitted).collect();
    assert_eq!(outcomes, [vec!["my-topic 0", "my-topic 1"], vec![], vec!["my-topic 0"]]);
    let Outcome::Handled(records) = &report.outcomes[0] else { panic!("not handled") };
    assert_eq!((&*records[0].topic, &records[0].key), ("out", &None));

    let mut tombstone = delivery(0, "");
    tombstone.record.value = None;
    let report = handler.handle(vec![tombstone]).await;
    assert_eq!(emitted(&report.outcomes[0]), ["my-topic had nothing"]);

    let outcome = handle(&handler, r#"{"publish": 1, "subject": "allowed"}"#).await;
    let Outcome::Handled(records) = outcome else { panic!("not handled: {outcome:?}") };
    assert_eq!(&*records[0].topic, "allowed");
}

#[tokio::test]
async fn what_was_published_goes_nowhere_when_the_call_does_not_end_well() {
    let (_fixture, handler) = handler().await;
    let failed = handle(&handler, r#"{"publish": 2, "then": "fail"}"#).await;
    assert_eq!(failed, Outcome::Retry { reason: "told to".into(), after: None });
    let trapped = handle(&handler, r#"{"publish": 2, "then": "trap"}"#).await;
    assert!(matches!(trapped, Outcome::Failed(Failure::Trap(_))), "{trapped:?}");
    let after = handle(&handler, r#"{"publish": 1}"#).await;
    assert_eq!(emitted(&after), ["my-topic 0"], "and not with the next call either");
}

#[tokio::test]
async fn publishing_is_held_to_the_limits_and_the_allow_list_of_any_handler() {
    let (_fixture, handler) = handler().await;
    let failure = async |order: &str| match soon(handle(&handler, order)).await {
        Outcome::Failed(failure) => failure,
        other => panic!("not failed: {other:?}"),
    };
    let many = Failure::Emit { unit: "records", given: 4, limit: 3 };
    assert_eq!(failure(r#"{"publish": 1000000000}"#).await, many);
    let much = Failure::Emit { unit: "bytes", given: 1200, limit: 1000 };
    assert_eq!(failure(r#"{"publish": 3, "size": 600}"#).await, much);
    let Failure::Forbidden(text) = failure(r#"{"publish": 1, "subject": "elsewhere"}"#).await
    else {
        panic!("was allowed")
    };
    assert!(text.contains("`elsewhere`") && text.contains("allow.topics"), "{text}");
}

#[tokio::test]
async fn request_and_reply_are_errors_that_say_so() {
    let (_fixture, handler) = handler().await;
    for order in [r#"{"then": "request"}"#, r#"{"publish": 1, "reply-to": "answers"}"#] {
        let Outcome::Retry { reason, .. } = handle(&handler, order).await else {
            panic!("not refused")
        };
        assert!(reason.contains("no request and reply"), "{reason}");
    }
}

#[test]
fn a_component_of_another_host_is_told_as_the_handler_that_it_is() {
    let bytes = fs::read(guests::built().join(format!("{GUEST}.wasm"))).unwrap();
    let found = inspect(&bytes).unwrap();
    assert_eq!((found.roles, found.refused), (vec![Role::Handler], None));
    assert!(found.exports.contains(&"wasmcloud:messaging/handler@0.2.0".to_owned()));
    let topics = found.imports.iter().filter(|import| import.grant == Grant::Topics);
    assert_eq!(topics.count(), 1);
}
