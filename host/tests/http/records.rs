//! What is written of a request, and what is answered once it is.

use keyway::{
    handler::Target,
    http::Limits,
    record::{Header, NewRecord},
};
use serde_json::json;

use crate::{
    doubles::{ScriptedSelector, generation, selectors},
    harness::{Port, request},
};

#[tokio::test]
async fn a_record_is_written_as_it_was_sent_and_answered_with_its_place() {
    let port = Port::start();
    let mut client = port.connect().await;
    let answer = client
        .post(
            r#"{"topic":"my-topic","key":"k","value":{ "n": 1.10 },"partition":2,
                "headers":[{"key":"h","value":null}],"timestamp":5}"#,
        )
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let expected = json!({"topic": "my-topic", "partition": 2, "offset": 0, "timestamp": 5, "key": "k",
        "selected_by": "caller"});
    assert_eq!(answer.json(), expected);
    let record = NewRecord {
        partition: Some(2),
        timestamp: Some(5),
        key: Some("k".into()),
        headers: vec![Header { key: "h".into(), value: None }],
        ..NewRecord::new("my-topic", r#"{"n":1.10}"#)
    };
    assert_eq!(port.broker.records(), [record]);
}

#[tokio::test]
async fn without_a_topic_the_default_is_meant_and_without_a_key_nobody_chose() {
    let port = Port::start();
    let answer = port.connect().await.post(r#"{"value":null}"#).await.json();
    assert_eq!(answer["topic"], "my-topic");
    assert_eq!((&answer["key"], &answer["selected_by"]), (&json!(null), &json!("none")));
    assert_eq!(port.broker.records()[0].value, None);
}

#[tokio::test]
async fn a_body_that_is_not_json_is_the_value_and_the_query_says_where_it_goes() {
    let port = Port::start();
    let mut client = port.connect().await;
    for (media_type, body) in
        [("text/plain; charset=utf-8", "{text}"), ("application/octet-stream", "")]
    {
        let line = "POST /send-message?topic=my-topic&key=%ff&partition=1";
        client.send(request(line, media_type, body)).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["key"], json!({"base64": "/w=="}));
        let record = port.broker.records().pop().unwrap();
        assert_eq!(record.value.as_deref(), Some(body.as_bytes()));
        assert_eq!((record.key.as_deref(), record.partition), (Some(&b"\xff"[..]), Some(1)));
    }
}

#[tokio::test]
async fn chunks_are_put_together() {
    let port = Port::start();
    let mut client = port.connect().await;
    let head = "POST /send-message HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
        transfer-encoding: chunked\r\n\r\n";
    client.send(format!("{head}5\r\n{{\"val\r\n")).await;
    client.send("8\r\nue\":\"v\"}\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(port.broker.records()[0].value.as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn a_large_record_comes_through() {
    let port = Port::start();
    let value = "x".repeat(1 << 20);
    let answer = port.connect().await.post(&format!(r#"{{"value":"{value}"}}"#)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(port.broker.records()[0].value.as_deref(), Some(value.as_bytes()));
}

#[tokio::test]
async fn the_key_selector_is_named_and_its_key_is_shown() {
    for (target, key) in [
        (Target::Key("chosen".into()), json!("chosen")),
        (Target::Partition(2), json!("k")),
        (Target::Spread, json!(null)),
    ] {
        let selector = ScriptedSelector(Some(Ok(target)));
        let port = Port::with_selectors(Limits::default(), selectors(selector));
        let answer = port.connect().await.post(r#"{"key":"k","value":1}"#).await.json();
        assert_eq!(answer["key"], key);
        assert_eq!(answer["selected_by"], generation().to_string());
        assert_eq!(answer["selected_by"], "scripted@abababababab");
    }
}
