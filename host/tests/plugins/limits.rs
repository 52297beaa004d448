//! Guests that want too much.

use std::{io::ErrorKind, net::TcpListener, time::Duration};

use keyway::{
    config::{Allow, Isolation, Limits, PluginUse},
    handler::{Failure, Outcome},
};

use crate::{
    fixture::{Fixture, handle, using},
    hostile::{GOOD, HOARD, Handler, LOOP},
};

async fn failure(plugin: PluginUse, value: &str) -> Failure {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&plugin).await.unwrap();
    let Outcome::Failed(failure) = handle(&handler, value).await else { panic!("it did not fail") };
    assert_eq!(
        handle(&handler, "{}").await,
        Outcome::Handled(vec![]),
        "the next record is handled"
    );
    failure
}

#[tokio::test]
async fn a_guest_that_never_ends_is_ended() {
    let limits = Limits { time: Duration::from_millis(200), ..Limits::default() };
    let failure = failure(PluginUse { limits, ..using("flaky") }, r#"{"do": "loop"}"#).await;
    assert_eq!(failure, Failure::Timeout(limits.time));
}

#[tokio::test]
async fn a_guest_that_waits_too_long_is_ended() {
    let limits = Limits { time: Duration::from_millis(200), ..Limits::default() };
    let value = r#"{"do": "sleep", "ms": 60000}"#;
    let failure = failure(PluginUse { limits, ..using("flaky") }, value).await;
    assert_eq!(failure, Failure::Timeout(limits.time));
}

#[tokio::test]
async fn a_guest_that_allocates_for_ever_is_ended_at_its_limit() {
    let limits = Limits { memory: 8 << 20, ..Limits::default() };
    let failure = failure(PluginUse { limits, ..using("flaky") }, r#"{"do": "memory"}"#).await;
    assert_eq!(failure, Failure::Memory(8 << 20));
}

#[tokio::test]
async fn a_guest_reaches_nothing_over_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let fixture = Fixture::new().with(&["flaky"]);
    let handler = fixture.handler(&using("flaky")).await.unwrap();
    for to in [listener.local_addr().unwrap().to_string(), "localhost:80".into()] {
        let value = format!(r#"{{"do": "connect", "to": "{to}"}}"#);
        let outcome = handle(&handler, &value).await;
        let Outcome::Reject { reason } = outcome else { panic!("{to}: {outcome:?}") };
        assert!(reason.contains(&format!("cannot connect to {to}")), "{reason}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_guest_that_emits_too_many_records_fails_with_both_numbers() {
    let failure = failure(using("flaky"), r#"{"do": "emit", "count": 1001}"#).await;
    assert_eq!(failure, Failure::Emit { unit: "records", given: 1001, limit: 1000 });
}

#[tokio::test]
async fn a_guest_that_emits_too_many_bytes_fails_with_both_numbers() {
    let limits = Limits { emit_bytes: 1000, ..Limits::default() };
    let value = r#"{"do": "emit", "count": 3, "size": 500}"#;
    let failure = failure(PluginUse { limits, ..using("flaky") }, value).await;
    assert_eq!(failure, Failure::Emit { unit: "bytes", given: 1500, limit: 1000 });
}

#[tokio::test]
async fn one_slice_of_memory_emitted_many_times_is_not_copied_many_times() {
    let fixture = Fixture::new();
    // 10,000 records whose value is the same 64 KiB, which is 640 MB: a list of records of 72 bytes, made on the
    // way. A value that is there has its tag at 52, its address at 56 and its length at 60 of its record.
    let many = Handler {
        fields: "(global $at (mut i32) (i32.const 131072))",
        handle: "(drop (memory.grow (i32.const 16)))
            (loop
              (i32.store8 offset=52 (global.get $at) (i32.const 1))
              (i32.store offset=56 (global.get $at) (i32.const 0))
              (i32.store offset=60 (global.get $at) (i32.const 65536))
              (global.set $at (i32.add (global.get $at) (i32.const 72)))
              (br_if 0 (i32.lt_u (global.get $at) (i32.const 851072))))
            (i32.store (i32.const 4) (i32.const 131072))
            (i32.store (i32.const 8) (i32.const 10000))
            i32.const 0",
        ..GOOD
    };
    fixture.put("many", &many.component());
    let limits = Limits { emit: 100_000, emit_bytes: 1 << 20, ..Limits::default() };
    let handler = fixture.handler(&PluginUse { limits, ..using("many") }).await.unwrap();
    let outcome = handle(&handler, "").await;
    let Outcome::Failed(Failure::Emit { unit: "bytes", given, limit }) = outcome else {
        panic!("it did not fail: {outcome:?}")
    };
    assert!(given > limit && limit == 1 << 20, "{given}");
}

#[tokio::test]
async fn a_topic_off_the_allow_list_is_named() {
    let value = r#"{"do": "emit", "topic": "elsewhere"}"#;
    let Failure::Forbidden(text) = failure(using("flaky"), value).await else { panic!("allowed") };
    assert!(text.contains("`elsewhere`"), "{text}");
}

#[tokio::test]
async fn allowed_topics_and_the_output_topic_may_be_named() {
    let fixture = Fixture::new().with(&["flaky"]);
    let allow = Allow { topics: ["elsewhere".into()].into(), ..Allow::default() };
    let handler = fixture.handler(&PluginUse { allow, ..using("flaky") }).await.unwrap();
    for topic in ["elsewhere", "out"] {
        let value = format!(r#"{{"do": "emit", "topic": "{topic}"}}"#);
        let Outcome::Handled(records) = handle(&handler, &value).await else {
            panic!("not handled")
        };
        assert_eq!(&*records[0].topic, topic);
    }
}

#[tokio::test]
async fn a_record_without_a_topic_needs_an_output_topic() {
    let fixture = Fixture::new().with(&["flaky"]);
    let handler =
        fixture.host.handler("group g", &using("flaky"), None, Isolation::None, 4).await.unwrap();
    let outcome = handle(&handler, r#"{"do": "emit"}"#).await;
    let Outcome::Failed(Failure::Forbidden(text)) = outcome else { panic!("allowed") };
    assert!(text.contains("output-topic"), "{text}");
}

#[tokio::test]
async fn init_is_held_to_the_limits_of_a_call() {
    let fixture = Fixture::new();
    let limits = Limits { time: Duration::from_secs(1), memory: 1 << 20, ..Limits::default() };
    for (name, init, cause) in
        [("loop", LOOP, "ran longer than"), ("hoard", HOARD, "more memory than")]
    {
        fixture.put(name, &Handler { init, ..GOOD }.component());
        let Err(error) = fixture.handler(&PluginUse { limits, ..using(name) }).await else {
            panic!("{name} was loaded")
        };
        let error = error.to_string();
        assert!(error.contains(&format!("{name}.wasm")) && error.contains(cause), "{error}");
    }
}
