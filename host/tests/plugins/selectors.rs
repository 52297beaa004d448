//! Calls of key selectors.

use std::{sync::Arc, time::Duration};

use keyway::{
    config::{Limits, PluginUse},
    handler::{Failure, SelectError, Selector, Target},
};

use crate::{
    fixture::{Fixture, candidate, configured, soon, using},
    hostile::{LOOP, selector},
};

async fn refused(selector: &Arc<dyn Selector>, value: &str) -> String {
    match selector.select(&candidate(value), 3).await {
        Err(SelectError::Refused { reason, .. }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_selector_chooses_and_says_who_did() {
    let fixture = Fixture::new().with(&["json-key", "fixed-key"]);
    let json = fixture.selector(&configured("json-key", "pointer", "/user")).await.unwrap();
    for (value, key) in [
        (r#"{"user": "u1"}"#, "u1"),
        (r#"{"user": 7}"#, "7"),
        (r#"{"user": {"a": [1]}}"#, r#"{"a":[1]}"#),
    ] {
        let selection = json.select(&candidate(value), 3).await.unwrap();
        assert_eq!(selection.target, Target::Key(key.into()));
        assert_eq!(selection.generation, json.generation());
    }
    let fixed = fixture.selector(&configured("fixed-key", "key", "all")).await.unwrap();
    assert_eq!(fixed.select(&candidate("x"), 3).await.unwrap().target, Target::Key("all".into()));
}

#[tokio::test]
async fn json_key_names_the_pointer_and_the_problem() {
    let fixture = Fixture::new().with(&["json-key"]);
    let selector = fixture.selector(&configured("json-key", "pointer", "/user")).await.unwrap();
    assert_eq!(refused(&selector, "{}").await, "no key at `/user`: the value has nothing there");
    assert_eq!(
        refused(&selector, r#"{"user": null}"#).await,
        "no key at `/user`: the value has null there"
    );
    let reason = refused(&selector, "hello").await;
    assert!(reason.starts_with("no key at `/user`: the value is not JSON: "), "{reason}");
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_an_error_with_the_numbers() {
    let fixture = Fixture::new();
    // ok(partition(99))
    fixture.put("far", &selector(r"\00\00\00\00\02\00\00\00\63\00\00\00", "i32.const 0"));
    let selector = fixture.selector(&using("far")).await.unwrap();
    let error = selector.select(&candidate(""), 3).await.unwrap_err();
    assert!(matches!(error, SelectError::ImpossiblePartition { given: 99, partitions: 3, .. }));
    assert!(error.to_string().contains("99"), "{error}");
    let selection = selector.select(&candidate(""), 100).await.unwrap();
    assert_eq!(selection.target, Target::Partition(99));
}

#[tokio::test]
async fn a_selector_that_traps_fails_its_call_only() {
    let fixture = Fixture::new();
    let traps_without_headers = "(if (i32.eqz (local.get 11)) (then unreachable)) i32.const 0";
    fixture.put("touchy", &selector("", traps_without_headers));
    let selector = fixture.selector(&using("touchy")).await.unwrap();
    let error = selector.select(&candidate(""), 3).await.unwrap_err();
    assert!(matches!(error, SelectError::Failed { failure: Failure::Trap(_), .. }), "{error}");
    let mut with = candidate("");
    with.headers.push(keyway::record::Header { key: "h".into(), value: None });
    assert_eq!(selector.select(&with, 3).await.unwrap().target, Target::Spread);
}

#[tokio::test]
async fn a_selector_that_never_ends_holds_neither_its_callers_thread_nor_other_selectors() {
    // The test's runtime has one thread: were it held, nothing below could go on.
    let fixture = Fixture::new().with(&["fixed-key"]);
    fixture.put("loop", &selector("", LOOP));
    let limits = Limits { time: Duration::from_secs(3600), ..Limits::default() };
    let stuck = fixture.selector(&PluginUse { limits, ..using("loop") }).await.unwrap();
    let good = fixture.selector(&configured("fixed-key", "key", "k")).await.unwrap();
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let stuck = stuck.clone();
            tokio::spawn(async move { stuck.select(&candidate(""), 3).await })
        })
        .collect();
    for _ in 0..20 {
        tokio::task::yield_now().await;
        good.select(&candidate("x"), 3).await.unwrap();
    }
    assert!(calls.iter().all(|call| !call.is_finished()));
    calls.iter().for_each(|call| call.abort());
}

#[tokio::test]
async fn a_selector_that_never_ends_is_ended() {
    let fixture = Fixture::new();
    fixture.put("loop", &selector("", LOOP));
    let limits = Limits { time: Duration::from_millis(200), ..Limits::default() };
    let stuck = fixture.selector(&PluginUse { limits, ..using("loop") }).await.unwrap();
    let error = soon(stuck.select(&candidate(""), 3)).await.unwrap_err();
    let SelectError::Failed { failure, .. } = error else { panic!("{error}") };
    assert_eq!(failure, Failure::Timeout(limits.time));
}

#[tokio::test]
async fn callers_beyond_the_bound_are_refused_at_once() {
    let fixture = Fixture::new();
    fixture.put("loop", &selector("", LOOP));
    let limits = Limits { time: Duration::from_secs(60), ..Limits::default() };
    let stuck = fixture.selector(&PluginUse { limits, ..using("loop") }).await.unwrap();
    // Those that are over the bound end at once, all others never.
    let calls: Vec<_> = (0..1500)
        .map(|_| {
            let stuck = stuck.clone();
            tokio::spawn(async move { stuck.select(&candidate(""), 3).await })
        })
        .collect();
    crate::fixture::until("the rest is refused", || {
        (calls.iter().filter(|call| call.is_finished()).count() == 1500 - 1024).then_some(())
    })
    .await;
    for call in calls {
        if call.is_finished() {
            assert!(matches!(call.await.unwrap(), Err(SelectError::Busy)));
        } else {
            call.abort();
        }
    }
}
