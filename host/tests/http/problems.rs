//! Every wrong request, by its code.

use std::time::Duration;

use keyway::{
    broker::ProduceError,
    handler::{Failure, SelectError},
    http::Limits,
};
use serde_json::json;

use crate::{
    doubles::{Script, ScriptedSelector, generation, selectors},
    harness::{Answer, Port, eventually, post, request},
};

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_and_the_connection_goes_on() {
    let send = |media_type, body| request("POST /send-message", media_type, body);
    let query = |query: &str| request(&format!("POST /send-message?{query}"), "text/plain", "v");
    let port = Port::start();
    let mut client = port.connect().await;
    for (request, status, code) in [
        (post("{\"value\": 1,}"), 400, "malformed-json"),
        (post(""), 400, "malformed-json"),
        (post(r#"{"value":1,"topik":"x"}"#), 400, "unknown-field"),
        (post(r#"{"value":1,"value":1}"#), 400, "duplicate-field"),
        (post(r#"{"key":"k"}"#), 400, "missing-field"),
        (post(r#"{"value":1,"key":1}"#), 400, "invalid-field"),
        (query("partitoin=1"), 400, "unknown-parameter"),
        (request("POST /send-message?key=k", "application/json", "{}"), 400, "unknown-parameter"),
        (query("partition=one"), 400, "invalid-parameter"),
        (post(r#"{"value":1,"partition":3}"#), 400, "unknown-partition"),
        (query("topic=nope"), 404, "unknown-topic"),
        (post(r#"{"value":1,"topic":"nope"}"#), 404, "unknown-topic"),
        ("GET / HTTP/1.1\r\nhost: test\r\n\r\n".into(), 404, "unknown-route"),
        (request("POST /send-message/", "application/json", "{}"), 404, "unknown-route"),
        ("GET /send-message HTTP/1.1\r\nhost: test\r\n\r\n".into(), 405, "wrong-method"),
        (request("PUT /send-message", "application/json", "{}"), 405, "wrong-method"),
        (send("application/xml", "<x/>"), 415, "unsupported-media-type"),
        (send("application/x-ndjson", "{}\n"), 415, "unsupported-media-type"),
        (send("text/plain\r\ncontent-encoding: gzip", "x"), 415, "unsupported-encoding"),
    ] {
        client.send(&request).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, code), "{request}");
        assert_eq!(answer.header("connection"), None, "{request}");
    }
    assert_eq!(client.post(r#"{"value":1}"#).await.status, 200);
}

#[tokio::test]
async fn a_problem_says_where_and_what_would_do() {
    let port = Port::start();
    let mut client = port.connect().await;
    let document = client.post("{\n \"value\": 1,\n \"headers\": {\"a\": 1}}").await.json();
    assert_eq!((&document["field"], &document["line"]), (&json!("/headers/a"), &json!(3)));
    assert_eq!(document["column"], 19);
    let document = client.post(r#"{"value":1,"partition":3}"#).await.json();
    assert_eq!(document["partitions"], 3);
    client.send("PUT /send-message HTTP/1.1\r\nhost: test\r\n\r\n").await;
    assert_eq!(client.answer().await.header("allow"), Some("POST, OPTIONS"));
    client.send(request("POST /send-message", "application/x-www-form-urlencoded", "{}")).await;
    let answer = client.answer().await;
    assert!(
        answer.json()["detail"].as_str().unwrap().contains("-H 'Content-Type: application/json'")
    );
    let taken = "application/json, text/plain, application/octet-stream";
    assert_eq!(answer.header("accept-post"), Some(taken));
    client.send("OPTIONS /send-message HTTP/1.1\r\nhost: test\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("allow")), (204, Some("POST, OPTIONS")));
}

#[tokio::test]
async fn what_the_broker_says_is_passed_on() {
    let reason = || "it says so".to_owned();
    for (error, status, code, limit) in [
        (ProduceError::TooLarge { size: 9, limit: 8 }, 413, "record-too-large", json!(8)),
        (ProduceError::TooLarge { size: 9, limit: 0 }, 413, "record-too-large", json!(null)),
        (ProduceError::Unavailable { reason: reason() }, 503, "broker-unavailable", json!(null)),
        (ProduceError::Indefinite { reason: reason() }, 503, "outcome-unknown", json!(null)),
        (ProduceError::Refused { reason: reason() }, 422, "refused-by-broker", json!(null)),
    ] {
        let port = Port::start();
        port.broker.follow(Script::Fail(error));
        let answer = port.connect().await.post(r#"{"value":1}"#).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, code));
        assert_eq!(answer.json()["limit"], limit);
        assert_eq!(answer.header("retry-after").is_some(), status == 503, "{code}");
    }
}

#[tokio::test]
async fn what_the_key_selector_says_is_passed_on() {
    let (refused, failed) = (generation(), generation());
    let reason = "no /user in the value".to_owned();
    let failure = Failure::Trap("unreachable".into());
    for (error, status, code) in [
        (SelectError::Refused { generation: refused, reason }, 422, "refused-by-selector"),
        (SelectError::Failed { generation: failed, failure }, 500, "selector-failed"),
        (
            SelectError::ImpossiblePartition { generation: generation(), given: 7, partitions: 3 },
            500,
            "selector-failed",
        ),
        (SelectError::Busy, 503, "busy"),
    ] {
        let text = error.to_string();
        let selector = ScriptedSelector(Some(Err(error)));
        let port = Port::with_selectors(Limits::default(), selectors(selector));
        let answer = port.connect().await.post(r#"{"value":1}"#).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, code));
        assert_eq!(answer.json()["detail"], text);
        assert!(port.broker.records().is_empty());
    }
}

#[tokio::test]
async fn an_answer_comes_within_its_deadline_whoever_keeps_silent() {
    let limits = Limits { answer: Duration::from_millis(20), ..Limits::default() };
    let port = Port::with(limits);
    port.broker.follow(Script::Hold);
    let answer = port.connect().await.post(r#"{"value":1}"#).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "outcome-unknown"));

    let port = Port::with_selectors(limits, selectors(ScriptedSelector(None)));
    let answer = port.connect().await.post(r#"{"value":1}"#).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "broker-unavailable"));
}

#[tokio::test]
async fn more_requests_than_allowed_are_turned_away_until_there_is_room() {
    let port = Port::with(Limits { requests: 1, ..Limits::default() });
    port.broker.follow(Script::Hold);
    let (mut first, mut second) = (port.connect().await, port.connect().await);
    first.send(post(r#"{"value":1}"#)).await;
    eventually("the first record is with the broker", || port.broker.held() == 1).await;
    let answer = second.post(r#"{"value":2}"#).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "busy"));
    assert_eq!((answer.header("retry-after"), &answer.json()["limit"]), (Some("1"), &json!(1)));
    port.broker.release();
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(second.post(r#"{"value":2}"#).await.status, 200);
}

#[tokio::test]
async fn more_bytes_than_allowed_are_turned_away() {
    let port = Port::with(Limits { bytes: 100, ..Limits::default() });
    let mut client = port.connect().await;
    let answer = client.post(&format!(r#"{{"value":"{}"}}"#, "x".repeat(200))).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "busy"));
    for _ in 0..3 {
        assert_eq!(client.post(&format!(r#"{{"value":"{}"}}"#, "x".repeat(80))).await.status, 200);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_the_answer_arrives_while_it_is_still_sent() {
    let port = Port::with(Limits { body: 1000, ..Limits::default() });
    let check = |answer: Answer| {
        assert_eq!((answer.status, answer.problem().as_str()), (413, "body-too-large"));
        assert_eq!(answer.json()["limit"], 1000);
        answer
    };
    let mut client = port.connect().await;
    client.send(post(&"x".repeat(1001))).await;
    check(client.answer().await);
    assert_eq!(client.post(r#"{"value":1}"#).await.status, 200);

    let mut client = port.connect().await;
    client.send(post(&"x".repeat(20 << 20))).await;
    assert_eq!(check(client.answer().await).header("connection"), Some("close"));
    client.ended().await;

    let mut client = port.connect().await;
    let head = "POST /send-message HTTP/1.1\r\nhost: test\r\ncontent-type: text/plain\r\n\
        transfer-encoding: chunked\r\n\r\n";
    client.send(format!("{head}1F4\r\n{0}\r\n1F5\r\n{0}x\r\n", "x".repeat(500))).await;
    client.send("0\r\n\r\n").await;
    check(client.answer().await);
}
