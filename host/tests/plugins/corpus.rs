//! Guests that try to do harm, each in its own way. What each is ended with is named, and a good handler of another group
//! on the same two threads goes on meanwhile.

use std::time::Duration;

use keyway::{
    config::{Limits, PluginUse},
    handler::{Failure, Outcome},
};

use crate::{
    fixture::{Fixture, delivery, emitted, handle, soon, using},
    hostile::{GOOD, Handler, LOOP},
    logs::Log,
};

/// How long a hostile guest's calls may take: what is ended for another reason is so well within it, on a slow machine too.
const LIMIT: Duration = Duration::from_secs(1);

/// What becomes of a record that a hostile guest handles, while another group's records are handled.
async fn outcome(name: &str, component: &[u8], value: &str) -> Outcome {
    let limits = Limits { time: LIMIT, ..Limits::default() };
    let fixture = Fixture::new().with(&["uppercase"]);
    fixture.put(name, component);
    let plugin = PluginUse { limits, ..using(name) };
    let host = &fixture.host;
    let owner = format!("group {name}");
    let isolation = keyway::config::Isolation::None;
    let hostile = host.handler(&owner, &plugin, Some("out".into()), isolation, 4).await.unwrap();
    let good = fixture.handler(&using("uppercase")).await.unwrap();
    let runs = (0..4).map(|offset| hostile.handle(vec![delivery(offset, value)]));
    let runs = tokio::spawn(futures_util::future::join_all(runs));
    loop {
        assert_eq!(emitted(&soon(handle(&good, "a")).await), ["A"], "beside {name}");
        if runs.is_finished() {
            break;
        }
    }
    let mut outcomes = runs.await.unwrap().into_iter().flat_map(|report| report.outcomes);
    let first = outcomes.next().unwrap();
    assert!(outcomes.all(|outcome| outcome == first), "each of them as the first");
    first
}

async fn failure(name: &str, component: &[u8]) -> Failure {
    match outcome(name, component, "v").await {
        Outcome::Failed(failure) => failure,
        other => panic!("{name} was not ended: {other:?}"),
    }
}

async fn trap(name: &str, component: &[u8]) -> String {
    match failure(name, component).await {
        Failure::Trap(reason) => reason,
        other => panic!("{name} ended otherwise: {other:?}"),
    }
}

/// A handler that may log: `log` takes a level and two texts, which are in a memory of 64 MiB less a little, beside its own.
fn logging(handle: &str) -> Vec<u8> {
    let imports = r#"
  (import "wasi:logging/logging@0.1.0-draft" (instance $logging
    (type $l (enum "trace" "debug" "info" "warn" "error" "critical"))
    (export "level" (type $level (eq $l)))
    (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
  (core module $texts (memory (export "memory") 1000) (data (i32.const 0) "hello"))
  (core instance $texts (instantiate $texts))
  (core func $log (canon lower (func $logging "log") (memory (core memory $texts "memory"))))"#;
    let fields = r#"(import "log" "log" (func $log (param i32 i32 i32 i32 i32)))"#;
    Handler { imports, fields, handle, ..GOOD }
        .component_with(r#"(with "log" (instance (export "log" (func $log))))"#)
}

#[tokio::test]
async fn recursion_without_an_end_is_a_stack_that_is_exhausted() {
    let fields = "(func $deep (param i64) (result i64)
        (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))";
    let handle = "(drop (call $deep (i64.const 0))) i32.const 0";
    let reason = trap("deep", &Handler { fields, handle, ..GOOD }.component()).await;
    assert!(reason.contains("call stack exhausted"), "{reason}");
}

#[tokio::test]
async fn a_table_that_grows_for_ever_is_ended_at_its_limit() {
    let fields = "(table $t 1 funcref)";
    let handle =
        "(loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 500)) (i32.const -1))))
        unreachable";
    let failure = failure("table", &Handler { fields, handle, ..GOOD }.component()).await;
    assert_eq!(failure, Failure::Held { what: "elements of a table", limit: 20_000 });
}

#[tokio::test]
async fn a_table_that_is_too_large_from_the_start_is_refused_at_load() {
    let fixture = Fixture::new();
    fixture.put("table", &Handler { fields: "(table 20001 funcref)", ..GOOD }.component());
    let Err(error) = fixture.handler(&using("table")).await else { panic!("it was loaded") };
    assert!(error.to_string().contains("20000"), "{error}");
}

#[tokio::test]
async fn handles_without_an_end_are_ended_at_their_limit() {
    let imports = r#"
  (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $p))
    (export "pollable" (type $same (eq $p)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $same))))))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))"#;
    let fields = r#"(import "clock" "subscribe" (func $subscribe (param i64) (result i32)))"#;
    let handle = "(loop (drop (call $subscribe (i64.const 1))) (br 0)) unreachable";
    let arguments = r#"(with "clock" (instance (export "subscribe" (func $subscribe))))"#;
    let component = Handler { imports, fields, handle, ..GOOD }.component_with(arguments);
    let failure = failure("handles", &component).await;
    assert_eq!(failure, Failure::Held { what: "handles of the gateway's", limit: 4096 });
}

#[tokio::test]
async fn text_that_is_longer_than_the_log_takes_is_cut_and_harms_nothing() {
    let log = Log::capture();
    // 5 MiB at once
    let component = logging(
        "(call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 5242880)) i32.const 0",
    );
    assert_eq!(outcome("long-text", &component, "v").await, Outcome::Handled(vec![]));
    for line in log.of("group long-text") {
        assert!(line.len() < 64 << 10, "{} bytes", line.len());
    }
}

#[tokio::test]
async fn text_that_is_longer_than_a_call_may_hand_over_is_not_copied() {
    // 60 MiB at once
    let component = logging(
        "(call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 62914560)) i32.const 0",
    );
    let failure = failure("giant-text", &component).await;
    let Failure::Held { what, limit } = failure else { panic!("{failure:?}") };
    assert_eq!(what, "bytes in one call of the gateway");
    assert!(limit < 62914560, "{limit}");
}

#[tokio::test]
async fn text_from_beyond_its_memory_is_a_trap() {
    let component = logging(
        "(call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const -16) (i32.const 4096)) i32.const 0",
    );
    let reason = trap("beyond", &component).await;
    assert!(reason.contains("out of bounds"), "{reason}");
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_a_trap() {
    // a reject, whose reason is one byte at 64; what `init` gives is elsewhere
    let fields = r#"(data (i32.const 0) "\01\00\00\00\01\00\00\00\40\00\00\00\01\00\00\00") (data (i32.const 64) "\ff")"#;
    let reason = trap("utf-8", &Handler { fields, init: "i32.const 32", ..GOOD }.component()).await;
    assert!(reason.contains("utf-8"), "{reason}");
}

#[tokio::test]
async fn lists_that_are_longer_than_the_memory_are_a_trap() {
    // ok, and a list of as many records as there can be
    let fields = r#"(data (i32.const 0) "\00\00\00\00\00\00\00\00\ff\ff\ff\ff")"#;
    let reason = trap("list", &Handler { fields, ..GOOD }.component()).await;
    assert!(reason.contains("out of bounds") || reason.contains("not fit"), "{reason}");
}

#[tokio::test]
async fn a_record_that_does_not_fit_into_the_guest_is_a_trap() {
    let value = "x".repeat(32 << 20); // and two pages of memory
    let outcome = outcome("small", &GOOD.component(), &value).await;
    let Outcome::Failed(Failure::Trap(reason)) = outcome else { panic!("{outcome:?}") };
    assert!(
        reason.contains("beyond end of memory") || reason.contains("out of bounds"),
        "{reason}"
    );
}

#[tokio::test]
async fn imports_by_the_thousand_are_refused_in_few_words() {
    let fixture = Fixture::new();
    // The format itself ends at a thousand.
    for (count, says) in [(900, "and 890 more"), (5000, "exceeds limit of 1000")] {
        let imports: String =
            (0..count).map(|number| format!(r#"(import "acme:a{number}/b" (instance))"#)).collect();
        fixture.put("imports", &Handler { imports: &imports, ..GOOD }.component());
        let Err(error) = fixture.handler(&using("imports")).await else { panic!("it was loaded") };
        let error = error.to_string();
        assert!(error.contains(says), "{error}");
        assert!(error.len() < 2000, "{} bytes", error.len());
    }
}

#[tokio::test]
async fn exports_by_the_thousand_are_refused_in_few_words() {
    let fixture = Fixture::new();
    let exports: String =
        (0..5000).map(|number| format!(r#"(export "acme:a{number}/b" (instance $e))"#)).collect();
    let text = format!("(component (instance $e) {exports})");
    fixture.put("exports", &wat::parse_str(text).unwrap());
    let Err(error) = fixture.handler(&using("exports")).await else { panic!("it was loaded") };
    assert!(error.to_string().len() < 2000, "{} bytes", error.to_string().len());
}

#[tokio::test]
async fn a_guest_that_asks_the_time_for_ever_is_ended_by_it() {
    let imports = r#"
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
  (core func $now (canon lower (func $clock "now")))"#;
    let fields = r#"(import "clock" "now" (func $now (result i64)))"#;
    let handle = "(loop (drop (call $now)) (br 0)) unreachable";
    let arguments = r#"(with "clock" (instance (export "now" (func $now))))"#;
    let component = Handler { imports, fields, handle, ..GOOD }.component_with(arguments);
    assert_eq!(failure("clock", &component).await, Failure::Timeout(LIMIT));
}

#[tokio::test]
async fn a_flood_of_lines_is_held_to_the_logs_bound() {
    let log = Log::capture();
    let component = logging(
        "(loop (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 5)) (br 0)) unreachable",
    );
    assert_eq!(failure("flood", &component).await, Failure::Timeout(LIMIT));
    // at most 1,000 in a second; the calls take one, or three on a slow machine
    let lines = log.of("group flood").len();
    assert!((1..=4000).contains(&lines), "{lines}");
}

#[tokio::test]
async fn an_init_that_never_returns_holds_up_nobody_else() {
    let fixture = Fixture::new().with(&["uppercase"]);
    fixture.put("init", &Handler { init: LOOP, ..GOOD }.component());
    let good = fixture.handler(&using("uppercase")).await.unwrap();
    let limits = Limits { time: LIMIT, ..Limits::default() };
    let plugin = PluginUse { limits, ..using("init") };
    let (loaded, outcome) = tokio::join!(fixture.handler(&plugin), handle(&good, "a"));
    assert!(loaded.err().unwrap().to_string().contains("ran longer than its limit"));
    assert_eq!(emitted(&outcome), ["A"]);
}
